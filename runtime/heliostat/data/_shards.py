"""Parts of a data set for workers: exact in rows, small to send, decoded where they arrive.

Rows in Parquet files are divided where they lie. Whatever else is streamed once, never held, to
Parquet files in a directory of their own (mode 0700) that is removed when the work is done.
"""

from __future__ import annotations

import itertools
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from heliostat.data._sources._base import checked_columns, reading
from heliostat.exceptions import ConfigurationError, DataError

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    import pyarrow as pa
    import pyarrow.parquet as pq

    from heliostat.data._sources._base import Source
    from heliostat.data.data_connector import DataConnector


_STREAM_BUFFER = 1 << 20
"""Bytes of a column that are read at a time while a row group is streamed."""


@dataclass(frozen=True)
class RowSlice:
    """Rows ``start`` (counted in) to ``stop`` (not) of one row group of one Parquet file."""

    path: str
    row_group: int
    start: int
    stop: int
    filesystem: Any = None
    """A pyarrow filesystem; ``None``: the local one."""
    size: int | None = None
    """Bytes of the file when the slice was made; a file that changed is refused."""

    @property
    def rows(self) -> int:
        """How many rows the slice has."""
        return self.stop - self.start


@dataclass(frozen=True)
class Shard:
    """Some of the rows of a data set, in order. Picklable; readable wherever its paths are."""

    slices: tuple[RowSlice, ...]
    columns: tuple[str, ...] | None = None
    """Columns to read; ``None``: all that the files have."""

    @property
    def rows(self) -> int:
        """How many rows the shard has."""
        return sum(piece.rows for piece in self.slices)

    def tables(self, columns: Sequence[str] | None = None) -> Iterator[pa.Table]:
        """Decode the rows: one table for each slice, on this thread, with the GIL released.

        Parameters
        ----------
        columns:
            Read these, in this order, instead of all that the shard has.

        Raises
        ------
        DataError
            A file is gone, has changed, or cannot be decoded; it is named.
        """
        wanted = columns if columns is not None else self.columns
        for file, piece in self._opened():
            with reading(f"The file {piece.path}", file=piece.path):
                yield decoded(file, piece, wanted)

    def batches(self, columns: Sequence[str]) -> Iterator[pa.RecordBatch]:
        """Decode the rows of ``columns`` a few at a time. Raises DataError, as ``tables``."""
        for file, piece in self._opened(buffer_size=_STREAM_BUFFER):
            with reading(f"The file {piece.path}", file=piece.path):
                yield from streamed(file, piece, columns)

    def _opened(self, **options: Any) -> Iterator[tuple[pq.ParquetFile, RowSlice]]:
        """Each slice with its file, which is opened once for slices that follow each other."""
        for (filesystem, path, size), group in itertools.groupby(
            self.slices, key=lambda piece: (piece.filesystem, piece.path, piece.size)
        ):
            with opened(path, filesystem, size, **options) as file:
                for piece in group:
                    yield file, piece


@contextmanager
def opened(
    path: str, filesystem: Any = None, size: int | None = None, **options: Any
) -> Iterator[pq.ParquetFile]:
    """Open a Parquet file of a shard. Raises DataError when it is gone or not as it was."""
    import contextlib

    import pyarrow as pa
    import pyarrow.parquet as pq

    with contextlib.ExitStack() as stack:
        with reading(f"The file {path}", "It was there when the work began.", file=path):
            raw = pa.memory_map(path) if filesystem is None else filesystem.open_input_file(path)
            stack.enter_context(raw)
            if size is not None and raw.size() != size:
                message = f"The file {path} has changed: it had {size} bytes and has {raw.size()}."
                raise DataError(message, "Start again.", file=path)
            file = stack.enter_context(pq.ParquetFile(raw, **options))
        yield file


def decoded(file: pq.ParquetFile, piece: RowSlice, columns: Sequence[str] | None) -> pa.Table:
    """Decode one slice. Of a row group that is wanted in part, what follows the part is left alone."""
    import pyarrow as pa

    names = checked_columns(file.schema_arrow, columns)
    rows = file.metadata.row_group(piece.row_group).num_rows
    if not columns or piece.stop * 2 >= rows:  # also of a group without rows
        table = file.read_row_group(piece.row_group, columns=names, use_threads=False)
        return _plain(table.slice(piece.start, piece.rows), names)
    batches, first = [], 0
    for batch in file.iter_batches(
        max(piece.stop, 1), row_groups=[piece.row_group], columns=names, use_threads=False
    ):
        batches.append(batch.slice(max(piece.start - first, 0), piece.stop - max(piece.start, first)))
        first += batch.num_rows
        if first >= piece.stop:
            break
    return _plain(pa.Table.from_batches(batches), names)


def streamed(file: pq.ParquetFile, piece: RowSlice, columns: Sequence[str]) -> Iterator[pa.RecordBatch]:
    """Decode one slice, a few rows at a time."""
    from heliostat.data._sources._width import measured, rows_at_once

    names = checked_columns(file.schema_arrow, columns)
    size = rows_at_once(measured(file.metadata, file.schema_arrow, names), piece.stop)
    first = 0
    for batch in file.iter_batches(size, row_groups=[piece.row_group], columns=names, use_threads=False):
        low, high = max(piece.start - first, 0), min(piece.stop - first, batch.num_rows)
        first += batch.num_rows
        if low < high:
            yield batch.slice(low, high - low)
        if first >= piece.stop:
            break


@contextmanager
def sharded(
    connector: DataConnector,
    count: int,
    *,
    columns: Sequence[str] | None = None,
    equal: bool = False,
    directory: str | None = None,
) -> Iterator[list[Shard]]:
    """Divide a connector's rows for ``count`` workers, for the length of a ``with`` block.

    Parameters
    ----------
    connector:
        Its rows stay in order: the first shard has the first rows.
    columns:
        Columns that the shards have; default is all.
    equal:
        All shards have the same number of rows, and the remainder, fewer than ``count``, is left
        out. Otherwise no row is, and the numbers differ by one at most.
    directory:
        Where rows are written that do not lie in Parquet files; ``HELIOSTAT_SPILL_DIR`` goes
        before it, and the system's directory for temporary files is the default.

    Raises
    ------
    ConfigurationError
        ``count`` is not one, or the directory cannot be written.
    DataError
        A column is missing, or the rows cannot be read.
    """
    if count < 1:
        message = f"Rows cannot be divided into {count} parts."
        raise ConfigurationError(message, "Pass 1 or more.")
    source = connector.source
    names = checked_columns(source.schema(), columns)
    slices, owner = laid_out(source, names, directory)
    try:
        yield divided(slices, count, names, equal=equal)
    finally:
        if owner is not None:
            owner.remove()


def laid_out(
    source: Source, columns: Sequence[str] | None = None, directory: str | None = None
) -> tuple[tuple[RowSlice, ...], Any]:
    """Return all rows of a source as parts of Parquet files, for as long as the second object lives.

    That object is ``None`` where the rows lie in such files already. Else they are streamed to a
    private directory that it owns; see ``sharded`` for where, and for what is raised.
    """
    from heliostat.data._spill import PrivateDirectory, write_parquet

    slices = source.slices()
    if slices is not None:
        return slices, None
    owner = PrivateDirectory(directory)
    return write_parquet(source.reader(columns), owner.path / "rows.parquet"), owner


def divided(
    slices: Sequence[RowSlice], count: int, columns: Sequence[str] | None = None, *, equal: bool = False
) -> list[Shard]:
    """Divide slices into ``count`` shards of consecutive rows; a pure function."""
    total = sum(piece.rows for piece in slices)
    if equal:
        edges = [total // count * index for index in range(count + 1)]
    else:
        edges = [total * index // count for index in range(count + 1)]
    names = None if columns is None else tuple(columns)
    return [Shard(cut(slices, start, stop), names) for start, stop in itertools.pairwise(edges)]


def cut(slices: Sequence[RowSlice], start: int, stop: int) -> tuple[RowSlice, ...]:
    """Return the rows ``start`` to ``stop`` of all that the slices have."""
    parts, first = [], 0
    for piece in slices:
        low, high = max(start - first, 0), min(stop - first, piece.rows)
        if low < high:
            parts.append(replace(piece, start=piece.start + low, stop=piece.start + high))
        first += piece.rows
    return tuple(parts)


def parts_of(piece: RowSlice, most: int) -> list[RowSlice]:
    """Cut a slice into as few parts of nearly one size as have at most ``most`` rows each."""
    count = max(-(-piece.rows // max(most, 1)), 1)
    edges = [piece.start + piece.rows * index // count for index in range(count + 1)]
    return [replace(piece, start=start, stop=stop) for start, stop in itertools.pairwise(edges)]


def _plain(table: pa.Table, names: Sequence[str]) -> pa.Table:
    """Order the columns; a struct's field may have been read for its dotted name."""
    return table.select(list(names)).replace_schema_metadata(None)
