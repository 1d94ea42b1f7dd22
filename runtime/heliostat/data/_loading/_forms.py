"""What a batch looks like: one dense matrix with labels, or arrays by column name.

A form turns units into blocks (many rows at once) and blocks into batches. ``Dense`` decodes
straight into row-major memory, which is the only copy between Parquet and the model.
"""

from __future__ import annotations

import contextlib
import threading
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol, TypeAlias

import numpy as np

from heliostat.data._loading import _columns
from heliostat.exceptions import DataError

if TYPE_CHECKING:
    from collections.abc import Sequence

    import pyarrow as pa

    from heliostat.data._loading._cache import UnitCache
    from heliostat.data._loading._decode import Decoder
    from heliostat.data._loading._memory import Blocks
    from heliostat.data._shards import RowSlice

Array: TypeAlias = "np.ndarray[Any, Any]"
_STACKED_ROWS = 16_384
"""Rows that are made row-major at a time: with some tens of columns they stay in the cache."""


@dataclass(frozen=True)
class Unit:
    """Neighbouring slices that are read together, and the name they have in the local cache."""

    slices: tuple[RowSlice, ...]
    rows: int


@dataclass
class Tools:
    """What reading needs in one process; made anew in each."""

    decoder: Decoder
    blocks: Blocks
    cache: UnitCache | None
    use_threads: bool = False


class Form(Protocol):
    """Turns units into blocks, and blocks into batches. Blocks are opaque to everybody else."""

    def window(self, tools: Tools, units: Sequence[Unit], order: Array | None) -> Any:
        """Read units, and put their rows in ``order``."""
        ...

    def raw(self, tools: Tools, unit: Unit) -> Any:
        """Read a unit as it is stored: ``take``, ``part`` and ``dump`` know it, and ``load`` reads that."""
        ...

    def take(self, block: Any, order: Array) -> Any:
        """Rows in another order."""
        ...

    def part(self, block: Any, start: int, stop: int) -> Any:
        """Some rows, without a copy."""
        ...

    def joined(self, blocks: list[Any]) -> Any:
        """One block of several."""
        ...

    def dump(self, block: Any) -> list[Any]:
        """Buffers that hold the block."""
        ...

    def load(self, pieces: Sequence[tuple[Any, int]]) -> Any:
        """Make one block of dumped ones, each given as buffer and number of rows."""
        ...

    def row_bytes(self) -> int:
        """Size of a row, to bound memory by."""
        ...


@dataclass(frozen=True)
class Dense:
    """One ``(rows, features)`` matrix, and labels in their column's own type.

    Blocks are ``(matrix, labels)``; labels are ``None`` without a label column.
    """

    features: tuple[str, ...]
    label: str | None
    dtype: str
    label_dtype: str | None
    plain: bool
    """Whether all columns are numbers that need nothing but a cast."""

    @property
    def columns(self) -> tuple[str, ...]:
        return self.features if self.label is None else (*self.features, self.label)

    @property
    def identity(self) -> str:
        return f"dense {self.dtype} {self.label_dtype} {self.features!r} {self.label!r}"

    def row_bytes(self) -> int:
        return len(self.features) * np.dtype(self.dtype).itemsize

    def window(self, tools: Tools, units: Sequence[Unit], order: Array | None) -> Any:
        rows = sum(unit.rows for unit in units)
        block = self._staging(tools, rows) if order is not None else self._new(tools, rows)
        first = 0
        for unit in units:
            self._read(tools, unit, self.part(block, first, first + unit.rows))
            first += unit.rows
        if order is None:
            return block
        taken = self._new(tools, rows)
        # "clip", since "raise" would fill a buffer first; the order is a permutation.
        _as_rows(block[0]).take(order, out=_as_rows(taken[0]), mode="clip")
        if self.label is not None:
            block[1].take(order, out=taken[1], mode="clip")
        return taken

    def raw(self, tools: Tools, unit: Unit) -> Any:
        return self.window(tools, [unit], None)

    def take(self, block: Any, order: Array) -> Any:
        return block[0].take(order, axis=0), None if block[1] is None else block[1].take(order)

    def part(self, block: Any, start: int, stop: int) -> Any:
        return block[0][start:stop], None if block[1] is None else block[1][start:stop]

    def joined(self, blocks: list[Any]) -> Any:
        labels = None if self.label is None else np.concatenate([block[1] for block in blocks])
        return np.concatenate([block[0] for block in blocks]), labels

    def dump(self, block: Any) -> list[Any]:
        return [memoryview(part).cast("B") for part in block if part is not None and part.size]

    def load(self, pieces: Sequence[tuple[Any, int]]) -> Any:
        return self.joined([self._parsed(buffer, rows) for buffer, rows in pieces])

    def _parsed(self, buffer: Any, rows: int) -> Any:
        count = rows * len(self.features)
        matrix = np.frombuffer(buffer, self.dtype, count).reshape(rows, len(self.features))
        if self.label is None:
            return matrix, None
        return matrix, np.frombuffer(buffer, self.label_dtype, rows, matrix.nbytes)

    def _new(self, tools: Tools, rows: int) -> Any:
        matrix = tools.blocks.array((rows, len(self.features)), self.dtype)
        return matrix, None if self.label is None else np.empty(rows, self.label_dtype)

    def _staging(self, tools: Tools, rows: int) -> Any:
        """Memory of this thread, overwritten by its next window."""
        held = getattr(_of_thread, "staging", None)
        if held is None or held[0] != self.identity or len(held[1][0]) < rows:
            held = _of_thread.staging = (self.identity, self._new(tools, rows))
        return self.part(held[1], 0, rows)

    def _read(self, tools: Tools, unit: Unit, into: Any) -> None:
        key = None if tools.cache is None else tools.cache.key(unit.slices, self.identity)
        if tools.cache is not None and tools.cache.read_into(key, self.dump(into)):
            return
        first = 0
        for piece in unit.slices:
            rows = piece.stop - piece.start
            self._decode(tools, piece, self.part(into, first, first + rows))
            first += rows
        if tools.cache is not None:
            tools.cache.write(key, self.dump(into))

    def _decode(self, tools: Tools, piece: RowSlice, into: Any) -> None:
        found = tools.decoder.numbers(piece, self.columns, plain=self.plain, use_threads=tools.use_threads)
        matrix, labels = into
        if labels is not None:
            column = found.pop()
            if column.dtype.kind == "f" and labels.dtype.kind != "f" and np.isnan(column).any():
                message = f"The label column {self.label!r} has nulls, in {piece.path}."
                raise DataError(message, "Leave these rows out.", column=self.label, path=piece.path)
            labels[:] = column
        for start in range(0, len(matrix), _STACKED_ROWS):
            rows = slice(start, start + _STACKED_ROWS)
            np.stack([column[rows] for column in found], 1, out=matrix[rows], casting="unsafe")


@dataclass(frozen=True)
class Columns:
    """A dictionary of arrays by column name; text and other objects are Python lists in batches.

    Blocks are dictionaries of arrays, and of Arrow arrays where NumPy has no type; raw ones are tables.
    """

    columns: tuple[str, ...]
    bytes_of_row: int

    @property
    def identity(self) -> str:
        return f"columns {self.columns!r}"

    def row_bytes(self) -> int:
        return self.bytes_of_row

    def window(self, tools: Tools, units: Sequence[Unit], order: Array | None) -> Any:
        where = units[0].slices[0].path
        block = self._converted([self._table(tools, unit) for unit in units], where)
        return block if order is None else self.take(block, order)

    def raw(self, tools: Tools, unit: Unit) -> Any:
        return self._table(tools, unit)

    def take(self, block: Any, order: Array) -> Any:
        if not isinstance(block, dict):
            return block.take(order)
        return {name: _columns.take(column, order) for name, column in block.items()}

    def part(self, block: Any, start: int, stop: int) -> Any:
        if not isinstance(block, dict):
            return block.slice(start, stop - start)
        return {name: _columns.part(column, start, stop) for name, column in block.items()}

    def joined(self, blocks: list[Any]) -> Any:
        return {name: _columns.joined([block[name] for block in blocks]) for name in self.columns}

    def dump(self, block: Any) -> list[Any]:
        import pyarrow as pa

        sink = pa.BufferOutputStream()
        with pa.ipc.new_stream(sink, block.schema) as writer:
            writer.write_table(block)
        return [sink.getvalue()]

    def load(self, pieces: Sequence[tuple[Any, int]]) -> Any:
        return self._converted([_parsed(buffer) for buffer, _ in pieces], "a stored unit")

    def _table(self, tools: Tools, unit: Unit) -> Any:
        import pyarrow as pa

        key = None if tools.cache is None else tools.cache.key(unit.slices, self.identity)
        if tools.cache is not None and (found := tools.cache.read(key)) is not None:
            with contextlib.suppress(pa.ArrowException):  # a damaged file is read anew
                return _parsed(found)
        table = pa.concat_tables(
            [tools.decoder.table(piece, self.columns, use_threads=tools.use_threads) for piece in unit.slices]
        )
        if tools.cache is not None:
            tools.cache.write(key, self.dump(table), framed=True)
        return table

    def _converted(self, tables: Sequence[pa.Table], where: str) -> Any:
        import pyarrow as pa

        table = tables[0] if len(tables) == 1 else pa.concat_tables(tables).unify_dictionaries()
        return {name: _columns.batch_column(table.column(name), name, where) for name in self.columns}


_of_thread = threading.local()


def _as_rows(matrix: Array) -> Array:
    """A row as one item: it is moved in one piece."""
    return matrix.view(np.dtype((np.void, matrix.shape[1] * matrix.itemsize))).reshape(len(matrix))


def _parsed(buffer: Any) -> pa.Table:
    import pyarrow as pa

    return pa.ipc.open_stream(buffer).read_all()
