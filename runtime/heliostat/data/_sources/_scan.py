"""Files that Arrow's dataset readers scan: CSV, JSON, Arrow, and Parquet with directories as columns."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from heliostat.data._sources._base import BATCH_ROWS, Source, reading, selected, streamed
from heliostat.data._sources._parquet import plain, refuse_drift
from heliostat.exceptions import DataError

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    import pyarrow as pa

    from heliostat._location import Entry
    from heliostat.data.data_source import DataSource

_READAHEAD = 2
"""Batches that are made ahead of the reader."""


class ScannedSource(Source):
    """Files of one format, in the order given.

    Unless ``schema`` says otherwise, columns and types are those of the first file; a file that
    has others is refused. Types of CSV and JSON are guessed from the first part of that file.

    Parameters
    ----------
    files:
        What ``Location.list`` found; at least one.
    kind:
        ``"parquet"``, ``"csv"``, ``"tsv"``, ``"json"`` or ``"arrow"``.
    schema:
        Columns and types to read; what a file lacks is null.
    hive:
        Directories ``name=value`` are columns.
    """

    def __init__(
        self,
        files: Sequence[Entry],
        kind: str,
        *,
        schema: pa.Schema | None = None,
        hive: bool = False,
        sources: Sequence[DataSource] = (),
    ) -> None:
        self.files = tuple(files)
        self._kind, self._declared, self._hive = kind, schema, hive
        self._sources = list(sources)

    def schema(self) -> pa.Schema:
        return self._declared or self._inferred()

    def count(self) -> int:
        format_, partitioning = self._format(), self._partitioning()
        rows = 0
        for entry in self.files:
            with _named(entry):
                rows += self._fragment(entry, format_, partitioning).count_rows()
        return rows

    def reader(self, columns: Sequence[str] | None = None, limit: int | None = None) -> pa.RecordBatchReader:
        schema = self.schema()
        narrowed = selected(schema, columns)
        return streamed(narrowed, self._batches(schema, narrowed.names, limit), limit)

    def data_sources(self) -> list[DataSource]:
        return list(self._sources)

    def identity(self) -> tuple[str, ...]:
        return tuple(f"{entry.location.url}:{entry.size}:{entry.modified}" for entry in self.files)

    def _inferred(self) -> pa.Schema:
        import pyarrow as pa

        first = self.files[0]
        with _named(first):
            found = plain(self._fragment(first, self._format(), None).physical_schema)
        partitioning = self._partitioning()
        keys = [] if partitioning is None else list(partitioning.schema)
        both = [key.name for key in keys if key.name in found.names]
        if both:
            message = f"The column {both[0]!r} is in the files and in the names of their directories."
            raise DataError(message, "Pass schema= to say which columns to read.", column=both[0])
        return pa.schema([*found, *keys])

    def _batches(self, schema: pa.Schema, columns: Sequence[str], limit: int | None) -> Iterator[Any]:
        format_, partitioning = self._format(), self._partitioning()
        keys = [] if partitioning is None else partitioning.schema.names
        size = BATCH_ROWS if limit is None else max(min(limit, BATCH_ROWS), 1)
        for entry in self.files:
            with _named(entry):
                fragment = self._fragment(entry, format_, partitioning)
                if self._declared is None:
                    self._refuse_drift(schema, plain(fragment.physical_schema), keys, entry)
                yield from fragment.to_batches(
                    schema=schema,
                    columns=list(columns),
                    batch_size=size,
                    batch_readahead=_READAHEAD,
                    fragment_readahead=1,
                )

    def _refuse_drift(self, schema: pa.Schema, found: pa.Schema, keys: Sequence[str], entry: Entry) -> None:
        import pyarrow as pa

        own = pa.schema([field for field in schema if field.name not in keys])
        if self._kind in ("csv", "tsv", "json"):
            # Their types are guesses from the first part of the file; Arrow reads them as those of the first.
            own = pa.schema([pa.field(field.name, pa.null()) for field in own])
            found = pa.schema([pa.field(field.name, pa.null()) for field in found])
        refuse_drift(own, found, entry.location.url, self.files[0].location.url)

    def _fragment(self, entry: Entry, format_: Any, partitioning: Any) -> Any:
        location = entry.location
        where = {} if partitioning is None else {"partition_expression": partitioning.parse(location.path)}
        return format_.make_fragment(location.path, filesystem=location.filesystem, **where)

    def _format(self) -> Any:
        import pyarrow.csv as pa_csv
        import pyarrow.dataset as pads

        if self._kind == "parquet":
            return pads.ParquetFileFormat()
        if self._kind == "json":
            return pads.JsonFileFormat()
        if self._kind == "arrow":
            return pads.IpcFileFormat()
        options = pa_csv.ParseOptions(delimiter="\t" if self._kind == "tsv" else ",")
        return pads.CsvFileFormat(parse_options=options)

    def _partitioning(self) -> Any:
        if not self._hive:
            return None
        import pyarrow as pa
        import pyarrow.dataset as pads

        factory = pads.HivePartitioning.discover()
        found = factory.inspect([entry.location.path for entry in self.files])
        if self._declared is not None:
            found = pa.schema([f for f in self._declared if f.name in found.names])
        return pads.partitioning(found, flavor="hive")


def _named(entry: Entry) -> Any:
    action = "If a column has values of several types, pass schema=."
    return reading(f"The file {entry.location}", action, file=entry.location.url)
