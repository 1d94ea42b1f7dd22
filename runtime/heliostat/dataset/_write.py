"""Rows to Parquet files, a row group at a time."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any
from urllib.parse import quote

from heliostat.dataset._order import PARTITION
from heliostat.exceptions import DataError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

    import pyarrow as pa

    from heliostat._stages import Location

_ROW_GROUP_ROWS = 131_072
_ROW_GROUP_BYTES = 64 << 20
_FILE_BYTES = 256 << 20
_MOST_PARTITIONS = 10_000


class PartWriter:
    """Writes files of one directory of a version; holds one row group at a time."""

    def __init__(self, directory: Location, schema: pa.Schema) -> None:
        self._directory, self._schema = directory, schema
        self._held: list[Any] = []
        self._held_rows = self._held_bytes = 0
        self._writer: Any = None
        self._sink: Any = None
        self.paths: list[Location] = []

    def write(self, batch: Any) -> None:
        """Add rows; they may be held back."""
        self._held.append(batch)
        self._held_rows += batch.num_rows
        self._held_bytes += batch.nbytes
        if self._held_rows >= _ROW_GROUP_ROWS or self._held_bytes >= _ROW_GROUP_BYTES:
            self._flush()

    def finish(self) -> None:
        """Write what was held back and end the file. A version without rows has one file without rows."""
        if self._held or not self.paths:
            self._flush()
        self._end_file()

    def abandon(self) -> None:
        """Close what is open, after an error."""
        for part in (self._writer, self._sink):
            if part is not None:
                part.close()

    def _flush(self) -> None:
        import pyarrow as pa
        import pyarrow.parquet as pq

        table = pa.Table.from_batches(self._held, self._schema)
        self._held, self._held_rows, self._held_bytes = [], 0, 0
        if self._writer is None:
            place = self._directory.join(f"data_{len(self.paths):06}.parquet")
            self._sink = place.filesystem.open_output_stream(place.path)
            self._writer = pq.ParquetWriter(self._sink, self._schema, compression="zstd")
            self.paths.append(place)
        self._writer.write_table(table, row_group_size=_ROW_GROUP_ROWS)
        if self._sink.tell() >= _FILE_BYTES:
            self._end_file()

    def _end_file(self) -> None:
        if self._writer is not None:
            self._writer.close()
            self._sink.close()
            self._writer = self._sink = None


def write_files(
    batches: Iterable[Any],
    directory: Location,
    schema: pa.Schema,
    on_rows: Callable[[int], None],
) -> list[Location]:
    """Write batches to new files below ``directory``, one directory for each partition.

    Parameters
    ----------
    batches:
        Columns of ``schema``; after them ``PARTITION``, by which they are sorted, if there are parts.
    on_rows:
        Called with the number of rows written so far.

    Raises
    ------
    DataError
        There are too many partitions.
    """
    directory.filesystem.create_dir(directory.path)
    paths: list[Location] = []
    rows = 0
    writer: PartWriter | None = None
    current: str | None = None
    try:
        for part, batch in _by_partition(batches):
            if writer is None or part != current:
                if writer is not None:
                    writer.finish()
                    paths += writer.paths
                writer, current = _part_writer(directory, schema, part, len(paths)), part
            writer.write(batch)
            rows += batch.num_rows
            on_rows(rows)
        writer = writer or PartWriter(directory, schema)
        writer.finish()
    except BaseException:
        if writer is not None:
            writer.abandon()
        raise
    return paths + writer.paths


def _part_writer(directory: Location, schema: pa.Schema, part: str | None, count: int) -> PartWriter:
    if count >= _MOST_PARTITIONS:
        message = f"partition_by makes more than {_MOST_PARTITIONS:,} partitions."
        raise DataError(message, "Choose an expression with fewer values.")
    if part is not None:
        directory = directory.join(part)
        directory.filesystem.create_dir(directory.path)
    return PartWriter(directory, schema)


def _by_partition(batches: Iterable[Any]) -> Iterator[tuple[str | None, Any]]:
    """Cut batches where the partition changes; gives the name of its directory, or None without any."""
    import pyarrow.compute as pc

    for batch in batches:
        if batch.schema.names[-1] != PARTITION:
            yield None, batch
            continue
        parts = batch.column(batch.num_columns - 1)
        rest = batch.select(batch.schema.names[:-1])
        runs = pc.run_end_encode(parts)
        start = 0
        for end, value in zip(runs.run_ends.to_pylist(), runs.values.to_pylist(), strict=True):
            yield partition_directory(value), rest.slice(start, end - start)
            start = end


def partition_directory(value: str | None) -> str:
    """Name of the directory of a partition; no value leads out of the version's directory."""
    if value is None:
        return "null"
    return (
        quote(value, safe=" ,=:+@").replace(".", "%2E")
        if value.strip(".") == ""
        else quote(value, safe=" ,=:+@.")
    )
