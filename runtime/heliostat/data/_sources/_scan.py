"""Files that Arrow's dataset readers scan: CSV, JSON, Arrow, and Parquet with directories as columns."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any
from urllib.parse import unquote

from heliostat.data._sources._base import Source, reading, selected, streamed
from heliostat.data._sources._parquet import plain, refuse_drift
from heliostat.data._sources._width import guessed, measured, rows_at_once
from heliostat.exceptions import DataError

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    import pyarrow as pa

    from heliostat._location import Entry
    from heliostat.data.data_source import DataSource

_READAHEAD = 2
"""Batches that are made ahead of the reader."""
_NO_VALUE = "__HIVE_DEFAULT_PARTITION__"


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
    keys:
        Columns whose values are in the names of directories ``name=value``.
    """

    def __init__(
        self,
        files: Sequence[Entry],
        kind: str,
        *,
        schema: pa.Schema | None = None,
        keys: pa.Schema | None = None,
        sources: Sequence[DataSource] = (),
    ) -> None:
        self.files = tuple(files)
        self._kind, self._declared, self._keys = kind, schema, keys
        self._sources = list(sources)

    def schema(self) -> pa.Schema:
        return self._declared or self._inferred()

    def count(self) -> int:
        format_, partitioning = self._format(), self._partitioning()
        keys = [] if partitioning is None else partitioning.schema.names
        schema = self.schema()
        rows = 0
        for entry in self.files:
            with _named(entry):
                fragment = self._fragment(entry, format_, partitioning)
                self._refuse_drift(schema, fragment, keys, entry)
                rows += fragment.count_rows()
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
        narrowed = selected(schema, columns)
        for entry in self.files:
            with _named(entry):
                fragment = self._fragment(entry, format_, partitioning)
                self._refuse_drift(schema, fragment, keys, entry)
                width = guessed(narrowed)
                if self._kind == "parquet":
                    own = [name for name in columns if name in fragment.physical_schema.names]
                    width = measured(fragment.metadata, fragment.physical_schema, own)
                yield from fragment.to_batches(
                    schema=schema,
                    columns=list(columns),
                    batch_size=rows_at_once(width, limit),
                    batch_readahead=_READAHEAD,
                    fragment_readahead=1,
                )

    def _refuse_drift(self, schema: pa.Schema, fragment: Any, keys: Sequence[str], entry: Entry) -> None:
        import pyarrow as pa

        if self._declared is not None:
            return
        found = plain(fragment.physical_schema)
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
        if self._keys is None:
            return None
        import pyarrow as pa
        import pyarrow.dataset as pads

        declared = self._declared
        keys = self._keys if declared is None else [f for f in declared if f.name in self._keys.names]
        return pads.partitioning(pa.schema(keys), flavor="hive")


def partition_keys(directories: Sequence[str]) -> pa.Schema:
    """Columns of directories ``name=value``: integers if all values are, else text.

    Raises DataError when the directories have not all the same names.
    """
    import pyarrow as pa

    values: dict[str, list[str]] = {}
    for directory in directories:
        for part in directory.split("/"):
            name, equals, value = part.partition("=")
            if equals:
                values.setdefault(unquote(name), []).append(unquote(value))
    for name, found in values.items():
        if len(found) != len(directories):
            message = f"Only {len(found)} of {len(directories)} files are in a directory {name}=."
            raise DataError(message, "Put all files into such directories, or none.", column=name)
    return pa.schema(
        [
            (name, pa.int64() if all(v == _NO_VALUE or _is_integer(v) for v in found) else pa.string())
            for name, found in values.items()
        ]
    )


def _is_integer(text: str) -> bool:
    return text.removeprefix("-").isascii() and text.removeprefix("-").isdigit() and str(int(text)) == text


def _named(entry: Entry) -> Any:
    action = "If a column has values of several types, pass schema=."
    return reading(f"The file {entry.location}", action, file=entry.location.url)
