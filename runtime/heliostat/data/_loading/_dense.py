"""Batches that are one dense matrix, with labels beside it.

Some rows are made row-major at a time and put where they go in the shuffled block, while they are
in the processor's cache: nothing larger than the block itself is written between Parquet and the model.
"""

from __future__ import annotations

import contextlib
import threading
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from heliostat.data._loading._forms import Array, Stored
from heliostat.data._shards import parts_of
from heliostat.exceptions import DataError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence

    from heliostat.data._loading._forms import Tools, Unit
    from heliostat.data._shards import RowSlice

_CHUNK_BYTES = 2 << 20
"""Rows that are made row-major at a time: they stay in the processor's cache."""
_LEAST_CHUNK_ROWS = 256

_TURN_ROWS = 32_768
"""Rows that are decoded at a time where parts of a row group come one after the other."""


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


_of_thread = threading.local()


def _as_rows(matrix: Array) -> Array:
    """A row as one item: it is moved in one piece."""
    return matrix.view(np.dtype((np.void, matrix.shape[1] * matrix.itemsize))).reshape(len(matrix))
