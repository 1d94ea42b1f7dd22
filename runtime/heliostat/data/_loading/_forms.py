"""What a batch looks like: one dense matrix with labels, or arrays by column name.

A form turns units into blocks (many rows at once) and blocks into batches. ``Dense`` makes some
rows row-major at a time and puts them where they go in the shuffled block, while they are in the
processor's cache: nothing larger than the block itself is written between Parquet and the model.
"""

from __future__ import annotations

import contextlib
import os
import threading
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol, TypeAlias

import numpy as np

from heliostat.data._loading import _columns
from heliostat.data._shards import parts_of
from heliostat.exceptions import DataError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence

    import pyarrow as pa

    from heliostat.data._loading._cache import UnitCache
    from heliostat.data._loading._decode import Decoder
    from heliostat.data._loading._memory import Blocks
    from heliostat.data._shards import RowSlice

Array: TypeAlias = "np.ndarray[Any, Any]"
_CHUNK_BYTES = 2 << 20
"""Rows that are made row-major at a time: they stay in the processor's cache."""
_LEAST_CHUNK_ROWS = 256

_TURN_ROWS = 32_768
"""Rows that are decoded at a time where parts of a row group come one after the other."""


@dataclass(frozen=True)
class Unit:
    """Neighbouring slices that are read together, and the name they have in the local cache."""

    slices: tuple[RowSlice, ...]
    rows: int
    origin: int = 0
    """Shared by the parts of one large row group, which follow each other."""


@dataclass
class Tools:
    """What reading needs in one process; made anew in each."""

    decoder: Decoder
    blocks: Blocks
    cache: UnitCache | None
    use_threads: bool = False
    in_turn: bool = False
    """Whether parts of a row group come one after the other, so that pyarrow reaches them as well."""


@dataclass(frozen=True)
class Stored:
    """Some rows in a file of ours."""

    file: int
    offset: int
    size: int

    def read_into(self, buffer: Any, skip: int) -> None:
        """Fill ``buffer`` from ``skip`` bytes on. Raises OSError."""
        view = memoryview(buffer).cast("B")
        while view.nbytes:
            count = os.preadv(self.file, [view], self.offset + skip)
            if not count:
                message = "a stored unit ends early"
                raise OSError(message)
            view, skip = view[count:], skip + count

    def content(self) -> bytes:
        """Everything. Raises OSError."""
        found = bytearray(self.size)
        self.read_into(found, 0)
        return bytes(found)


class Form(Protocol):
    """Turns units into blocks, and blocks into batches. Blocks are opaque to everybody else.

    ``places`` say where each row of a block goes; ``None``: all stay in order.
    """

    def new(self, tools: Tools, units: Sequence[Unit]) -> Any:
        """Make a block for the rows of ``units``, without them yet."""
        ...

    def fill(
        self, tools: Tools, block: Any, units: Sequence[Unit], number: int, places: Array | None
    ) -> None:
        """Read one of the units into its rows of the block. May be called from several threads at once."""
        ...

    def finished(self, block: Any, places: Array | None) -> Any:
        """Return the block once all of its units are in it."""
        ...

    def raw(self, tools: Tools, unit: Unit, places: Array) -> Any:
        """Read a unit as it is stored: ``part`` and ``dump`` know it, and ``load`` reads that."""
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

    def load(self, tools: Tools, pieces: Iterable[tuple[Stored, int]], rows: int, places: Array) -> Any:
        """Make one block of dumped ones, each given with its number of rows. Raises OSError."""
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

    def new(self, tools: Tools, units: Sequence[Unit]) -> Any:
        return self._new(tools, sum(unit.rows for unit in units))

    def fill(
        self, tools: Tools, block: Any, units: Sequence[Unit], number: int, places: Array | None
    ) -> None:
        target = _Target(block, sum(unit.rows for unit in units[:number]), places)
        unit = units[number]
        if tools.cache is None:
            self._decode_unit(tools, unit, target, None)
            return
        key = tools.cache.key(unit.slices, self.identity)
        size = unit.rows * self._stored_row_bytes()
        with tools.cache.reading(key, size) as file:
            if file is not None:
                with contextlib.suppress(OSError):  # a file that cannot be read is made anew
                    self._restore(Stored(file, 0, size), unit.rows, target)
                    return
        with tools.cache.writing(key, size) as keep:
            self._decode_unit(tools, unit, target, keep)

    def finished(self, block: Any, places: Array | None) -> Any:
        return block

    def raw(self, tools: Tools, unit: Unit, places: Array) -> Any:
        block = self.new(tools, [unit])
        self.fill(tools, block, [unit], 0, places)
        return block

    def part(self, block: Any, start: int, stop: int) -> Any:
        return block[0][start:stop], None if block[1] is None else block[1][start:stop]

    def joined(self, blocks: list[Any]) -> Any:
        labels = None if self.label is None else np.concatenate([block[1] for block in blocks])
        return np.concatenate([block[0] for block in blocks]), labels

    def dump(self, block: Any) -> list[Any]:
        return [memoryview(part).cast("B") for part in block if part is not None and part.size]

    def load(self, tools: Tools, pieces: Iterable[tuple[Stored, int]], rows: int, places: Array) -> Any:
        block = self._new(tools, rows)
        first = 0
        for stored, count in pieces:
            self._restore(stored, count, _Target(block, first, places))
            first += count
        return block

    def _new(self, tools: Tools, rows: int) -> Any:
        matrix = tools.blocks.array((rows, len(self.features)), self.dtype)
        return matrix, None if self.label is None else np.empty(rows, self.label_dtype)

    def _chunk_rows(self) -> int:
        return max(_CHUNK_BYTES // self.row_bytes(), _LEAST_CHUNK_ROWS)

    def _stored_row_bytes(self) -> int:
        return self.row_bytes() + (0 if self.label is None else np.dtype(self.label_dtype).itemsize)

    def _restore(self, stored: Stored, rows: int, target: _Target) -> None:
        """Read what was dumped: the matrix, then the labels."""
        step = self._chunk_rows()
        for start in range(0, rows, step):
            chunk = target.chunk(start, min(step, rows - start))
            stored.read_into(chunk, start * self.row_bytes())
            target.put(start, chunk)
        if self.label is not None:
            labels = np.empty(rows, self.label_dtype)
            stored.read_into(labels, rows * self.row_bytes())
            target.put_labels(0, labels)

    def _decode_unit(
        self, tools: Tools, unit: Unit, target: _Target, keep: Callable[[Any], None] | None
    ) -> None:
        pieces = unit.slices
        if tools.in_turn:
            pieces = tuple(part for piece in pieces for part in parts_of(piece, _TURN_ROWS))
        first = 0
        kept: list[Array] = []
        for piece in pieces:
            plain = self.plain and not tools.in_turn
            found = tools.decoder.numbers(piece, self.columns, plain=plain, use_threads=tools.use_threads)
            if self.label is not None:
                labels = self._labels(found.pop(), piece)
                target.put_labels(first, labels)
                if keep is not None:
                    kept.append(labels)
            step = self._chunk_rows()
            for start in range(0, piece.rows, step):
                rows = slice(start, min(start + step, piece.rows))
                chunk = target.chunk(first + start, rows.stop - start)
                np.stack([column[rows] for column in found], 1, out=chunk, casting="unsafe")
                target.put(first + start, chunk)
                if keep is not None:
                    keep(chunk)
            first += piece.rows
        if keep is not None:
            for labels in kept:
                keep(labels)

    def _labels(self, column: Array, piece: RowSlice) -> Array:
        kind = np.dtype(self.label_dtype)
        if column.dtype.kind == "f" and kind.kind != "f" and np.isnan(column).any():
            message = f"The label column {self.label!r} has nulls, in {piece.path}."
            raise DataError(message, "Leave these rows out.", column=self.label, path=piece.path)
        labels: Array = column.astype(kind, copy=False)
        return labels


class _Target:
    """Rows of a dense block, from ``first`` on, and where they go in it.

    In order, rows are made where they belong. Else a chunk of them is made in memory of the
    thread, and from there each goes to its place in one piece.
    """

    def __init__(self, block: Any, first: int, places: Array | None) -> None:
        self._matrix, self._labels = block
        self._first = first
        self._places = places

    def chunk(self, start: int, rows: int) -> Array:
        """Return a matrix for some rows; it is overwritten by the next one."""
        if self._places is None:
            rows_of_block: Array = self._matrix[self._first + start : self._first + start + rows]
            return rows_of_block
        shape, dtype = self._matrix.shape[1:], self._matrix.dtype
        held: Array | None = getattr(_of_thread, "chunk", None)
        if held is None or held.shape[1:] != shape or held.dtype != dtype or len(held) < rows:
            held = _of_thread.chunk = np.empty((rows, *shape), dtype)
        return held[:rows]

    def put(self, start: int, chunk: Array) -> None:
        """Put a chunk that was filled where it goes."""
        if self._places is not None:
            # "clip", since "raise" would look through the places first.
            np.put(_as_rows(self._matrix), self._of(start, len(chunk)), _as_rows(chunk), mode="clip")

    def put_labels(self, start: int, labels: Array) -> None:
        """Put labels where they go."""
        if self._places is None:
            self._labels[self._first + start : self._first + start + len(labels)] = labels
        else:
            self._labels[self._of(start, len(labels))] = labels

    def _of(self, start: int, rows: int) -> Array:
        assert self._places is not None
        return self._places[self._first + start : self._first + start + rows]


@dataclass(frozen=True)
class Columns:
    """A dictionary of arrays by column name; text and other objects are Python lists in batches.

    Blocks are dictionaries of arrays, and of Arrow arrays where NumPy has no type; raw ones, and
    each unit's part of an unfinished one, are tables.
    """

    columns: tuple[str, ...]
    bytes_of_row: int

    @property
    def identity(self) -> str:
        return f"columns {self.columns!r}"

    def row_bytes(self) -> int:
        return self.bytes_of_row

    def new(self, tools: Tools, units: Sequence[Unit]) -> Any:
        return [None] * len(units), units[0].slices[0].path

    def fill(
        self, tools: Tools, block: Any, units: Sequence[Unit], number: int, places: Array | None
    ) -> None:
        block[0][number] = self._table(tools, units[number])

    def finished(self, block: Any, places: Array | None) -> Any:
        return self._placed(self._converted(*block), places)

    def raw(self, tools: Tools, unit: Unit, places: Array) -> Any:
        return self._table(tools, unit).take(_order(places))

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

    def load(self, tools: Tools, pieces: Iterable[tuple[Stored, int]], rows: int, places: Array) -> Any:
        tables = [_parsed(stored.content()) for stored, _ in pieces]
        return self._placed(self._converted(tables, "a stored unit"), places)

    def _placed(self, block: Any, places: Array | None) -> Any:
        if places is None:
            return block
        order = _order(places)
        return {name: _columns.take(column, order) for name, column in block.items()}

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
            tools.cache.write(key, self.dump(table))
        return table

    def _converted(self, tables: Sequence[pa.Table], where: str) -> Any:
        import pyarrow as pa

        table = tables[0] if len(tables) == 1 else pa.concat_tables(tables).unify_dictionaries()
        return {name: _columns.batch_column(table.column(name), name, where) for name in self.columns}


_of_thread = threading.local()


def _as_rows(matrix: Array) -> Array:
    """A row as one item: it is moved in one piece."""
    return matrix.view(np.dtype((np.void, matrix.shape[1] * matrix.itemsize))).reshape(len(matrix))


def _order(places: Array) -> Array:
    """Which row comes where, from where each row goes."""
    order = np.empty_like(places)
    order[places] = np.arange(len(places))
    return order


def _parsed(buffer: Any) -> pa.Table:
    import pyarrow as pa

    return pa.ipc.open_stream(buffer).read_all()
