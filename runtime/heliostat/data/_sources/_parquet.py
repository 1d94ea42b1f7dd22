"""Parquet files that all have the same columns: read where they lie, row group by row group."""

from __future__ import annotations

import contextlib
from typing import TYPE_CHECKING, Any

from heliostat.data._sources._base import Source, listed, reading, selected, streamed
from heliostat.data._sources._width import measured, rows_at_once
from heliostat.exceptions import DataError

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    import pyarrow as pa
    import pyarrow.parquet as pq

    from heliostat._location import Entry
    from heliostat.data._shards import RowSlice
    from heliostat.data.data_source import DataSource

_STREAM_BUFFER = 1 << 20
"""Bytes of a column that are read at a time while a file is streamed."""


class ParquetSource(Source):
    """Parquet files, in the order given.

    Rows of a file are handed out only after its columns were found to be those of the first file.

    Parameters
    ----------
    files:
        What ``Location.list`` found; at least one.
    sources:
        What the user named.
    """

    def __init__(self, files: Sequence[Entry], sources: Sequence[DataSource] = ()) -> None:
        self.files = tuple(files)
        self._sources = list(sources)

    def schema(self) -> pa.Schema:
        with opened(self.files[0]) as file:
            return plain(file.schema_arrow)

    def count(self) -> int:
        return sum(metadata.num_rows for _, metadata in self._footers())

    def reader(self, columns: Sequence[str] | None = None, limit: int | None = None) -> pa.RecordBatchReader:
        schema = self.schema()
        narrowed = selected(schema, columns)
        return streamed(narrowed, self._batches(schema, narrowed.names, limit), limit)

    def data_sources(self) -> list[DataSource]:
        return list(self._sources)

    def slices(self) -> tuple[RowSlice, ...]:
        from heliostat.data._shards import RowSlice

        return tuple(
            RowSlice(
                path=entry.location.path,
                row_group=group,
                start=0,
                stop=metadata.row_group(group).num_rows,
                filesystem=None if entry.location.local_path is not None else entry.location.filesystem,
                size=entry.size,
            )
            for entry, metadata in self._footers()
            for group in range(metadata.num_row_groups)
        )

    def identity(self) -> tuple[str, ...]:
        return tuple(f"{entry.location.url}:{entry.size}:{entry.modified}" for entry in self.files)

    def _footers(self) -> Iterator[tuple[Entry, pq.FileMetaData]]:
        schema = None
        for entry in self.files:
            with opened(entry) as file:
                schema = schema or plain(file.schema_arrow)
                refuse_drift(schema, plain(file.schema_arrow), entry.location.url, self.files[0].location.url)
                metadata = file.metadata
            yield entry, metadata

    def _batches(self, schema: pa.Schema, columns: Sequence[str], limit: int | None) -> Iterator[Any]:
        first = self.files[0].location.url
        for entry in self.files:
            url = entry.location.url
            with opened(entry, buffer_size=_STREAM_BUFFER) as file, reading(f"The file {url}", file=url):
                refuse_drift(schema, plain(file.schema_arrow), url, first)
                size = rows_at_once(measured(file.metadata, schema, columns), limit)
                for groups in _runs(file.metadata, size):
                    yield from file.iter_batches(size, row_groups=groups, columns=list(columns))


def _runs(metadata: pq.FileMetaData, least: int) -> Iterator[list[int]]:
    """Row groups to read at a time, ``least`` rows: Arrow keeps what it read of all until it is through."""
    groups: list[int] = []
    rows = 0
    for group in range(metadata.num_row_groups):
        groups.append(group)
        rows += metadata.row_group(group).num_rows
        if rows >= least:
            yield groups
            groups, rows = [], 0
    if groups:
        yield groups


@contextlib.contextmanager
def opened(entry: Entry, **options: Any) -> Iterator[pq.ParquetFile]:
    """Open a Parquet file. Raises DataError, with its name, when it is not there or not whole."""
    import pyarrow.parquet as pq

    url = entry.location.url
    with contextlib.ExitStack() as stack:
        with reading(f"The file {url}", "Was it written to its end?", file=url):
            source = stack.enter_context(entry.location.filesystem.open_input_file(entry.location.path))
            file = stack.enter_context(pq.ParquetFile(source, **options))
        yield file


def plain(schema: pa.Schema) -> pa.Schema:
    """Leave out notes on the schema as a whole, such as pandas' on the index, which differ between files."""
    return schema.remove_metadata()


def refuse_drift(
    schema: pa.Schema,
    found: pa.Schema,
    url: str,
    first: str,
    action: str = "Rewrite the file, or pass schema= with the columns and types to read.",
) -> None:
    """Raise DataError when a file has not the columns that the first one has; order is of no matter."""
    for these, those, file, other in ((schema, found, url, first), (found, schema, first, url)):
        lacking = [name for name in these.names if name not in those.names]
        if lacking:
            message = (
                f"The file {file} has no column {listed([repr(n) for n in lacking])}, which {other} has."
            )
            raise DataError(message, action, file=url, column=lacking[0])
    for field in schema:
        differs = found.field(field.name).type
        if differs != field.type:
            message = (
                f"The column {field.name!r} is of type {differs} in {url}"
                f" and of type {field.type} in {first}."
            )
            raise DataError(message, action, file=url, column=field.name)
