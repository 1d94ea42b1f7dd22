"""Iceberg tables of PyIceberg, at one snapshot."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from heliostat.data._sources._base import Source, reading, selected, streamed
from heliostat.exceptions import DataError

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    import pyarrow as pa

    from heliostat.data._shards import RowSlice
    from heliostat.data._sources._parquet import ParquetSource


class IcebergSource(Source):
    """A table as it is now, or at ``snapshot``; later changes of the table are not seen.

    Data files that have the table's columns, and of which nothing was deleted, are read as the
    Parquet files they are. For others PyIceberg's own scan applies deletes and changes of the
    schema, one data file at a time.

    Parameters
    ----------
    table:
        A ``pyiceberg.table.Table``; what travels is where its metadata is, and how to open that.
    """

    def __init__(self, table: Any, snapshot: int | None = None) -> None:
        self.table = table
        self.snapshot = snapshot if snapshot is not None else table.metadata.current_snapshot_id
        self._files: ParquetSource | None = None
        self._asked = False

    def __reduce__(self) -> tuple[Any, ...]:
        return _reopened, (self.table.metadata_location, dict(self.table.io.properties), self.snapshot)

    def schema(self) -> pa.Schema:
        import pyarrow as pa
        from pyiceberg.io.pyarrow import schema_to_pyarrow

        found = schema_to_pyarrow(self._scan().projection(), include_field_ids=False)
        return pa.schema([pa.field(field.name, _small(field.type), field.nullable) for field in found])

    def count(self) -> int:
        if self.snapshot is None:
            return 0
        with reading(self._name()):
            return int(self._scan().count())

    def reader(self, columns: Sequence[str] | None = None, limit: int | None = None) -> pa.RecordBatchReader:
        schema = selected(self.schema(), columns)
        files = self.parquet()
        if files is not None:
            return streamed(schema, iter(files.reader(schema.names, limit)), limit)
        return streamed(schema, self._batches(schema.names), limit)

    def slices(self) -> tuple[RowSlice, ...] | None:
        files = self.parquet()
        return None if files is None else files.slices()

    def identity(self) -> tuple[str, ...]:
        return (str(self.table.metadata.table_uuid), str(self.snapshot))

    def parquet(self) -> ParquetSource | None:
        """Its data files, if they have just its rows and columns."""
        if not self._asked:
            self._files, self._asked = self._plain_files(), True
        return self._files

    def _plain_files(self) -> ParquetSource | None:
        from heliostat._location import Entry, Location
        from heliostat.data._sources._parquet import ParquetSource, opened, plain, refuse_drift

        tasks = self._tasks()
        if not tasks or any(t.delete_files or t.file.file_format.value != "PARQUET" for t in tasks):
            return None
        files = []
        for task in tasks:
            scheme, host, path = self.table.io.parse_location(task.file.file_path)
            filesystem = _plain_filesystem(self.table.io.fs_by_scheme(scheme, host))
            location = Location(filesystem, path, task.file.file_path)
            files.append(Entry(location, task.file.file_size_in_bytes, None))
        schema = plain(self.schema())
        try:
            for entry in files:
                with opened(entry) as file:
                    refuse_drift(schema, plain(file.schema_arrow), entry.location.url, "the table")
        except DataError as error:
            if "column" not in error.fields:
                raise
            return None  # The table's schema is younger than the file.
        return ParquetSource(files)

    def _batches(self, columns: Sequence[str]) -> Iterator[Any]:
        from pyiceberg.expressions import AlwaysTrue
        from pyiceberg.io.pyarrow import ArrowScan

        projected = self._scan().projection().select(*columns)
        scan = ArrowScan(self.table.metadata, self.table.io, projected, AlwaysTrue())
        for task in self._tasks():
            with reading(f"The file {task.file.file_path}", file=task.file.file_path):
                yield from scan.to_record_batches([task])

    def _tasks(self) -> list[Any]:
        if self.snapshot is None:
            return []
        with reading(self._name()):
            return list(self._scan().plan_files())

    def _scan(self) -> Any:
        return self.table.scan(snapshot_id=self.snapshot)

    def _name(self) -> str:
        return f"The Iceberg table {'.'.join(self.table.name())}"


def _reopened(metadata_location: str, properties: dict[str, str], snapshot: int | None) -> IcebergSource:
    from pyiceberg.table import StaticTable

    with reading(f"The Iceberg table of {metadata_location}"):
        table = StaticTable.from_metadata(metadata_location, properties)
    return IcebergSource(table, snapshot)


def _plain_filesystem(filesystem: Any) -> Any:
    """PyIceberg's local filesystem is a subclass that does not survive pickling as itself."""
    import pyarrow.fs as pa_fs

    return pa_fs.LocalFileSystem() if filesystem.type_name == "local" else filesystem


def _small(kind: pa.DataType) -> pa.DataType:
    """Types with 32-bit offsets for PyIceberg's large ones: what the files have."""
    import pyarrow as pa

    if pa.types.is_large_string(kind):
        return pa.string()
    if pa.types.is_large_binary(kind):
        return pa.binary()
    if pa.types.is_large_list(kind) or pa.types.is_list(kind):
        return pa.list_(kind.value_field.with_type(_small(kind.value_type)))
    if pa.types.is_struct(kind):
        return pa.struct([field.with_type(_small(field.type)) for field in kind])
    if pa.types.is_map(kind):
        return pa.map_(_small(kind.key_type), kind.item_field.with_type(_small(kind.item_type)))
    return kind
