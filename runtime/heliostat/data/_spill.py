"""Rows written once to Parquet, so that workers decode their own part of them.

The file lies in a directory of its own (mode 0700) and is removed when the work is done.
Its row groups are small enough that a range of rows costs little more than those rows.
"""

from __future__ import annotations

import itertools
import os
import shutil
import tempfile
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from heliostat.exceptions import ConfigurationError, DataError

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    import pyarrow as pa

    from heliostat.data.data_connector import DataConnector

ROW_GROUP_ROWS = 65_536
"""Rows of a row group: the unit that is decoded."""

_DIRECTORY_VARIABLE = "HELIOSTAT_SPILL_DIR"


@dataclass(frozen=True)
class SpilledRows:
    """Rows on disk."""

    path: str
    rows: int


@dataclass(frozen=True)
class RowRange:
    """Rows ``start`` (counted in) to ``stop`` (not) of a spilled file."""

    path: str
    start: int
    stop: int

    @property
    def rows(self) -> int:
        """How many rows the range has."""
        return self.stop - self.start


def shards(spilled: SpilledRows, count: int) -> list[RowRange]:
    """Divide rows into ``count`` consecutive ranges whose lengths differ by one at most."""
    edges = [spilled.rows * index // count for index in range(count + 1)]
    return [RowRange(spilled.path, start, stop) for start, stop in itertools.pairwise(edges)]


@contextmanager
def spilled(
    named: Sequence[tuple[str, DataConnector, Sequence[str]]], directory: str | None = None
) -> Iterator[dict[str, SpilledRows]]:
    """Write connectors to Parquet for the length of a ``with`` block.

    Parameters
    ----------
    named:
        For each: a name, the connector, and the columns to write. Rows are streamed, never held.
    directory:
        Where to make the private directory; ``HELIOSTAT_SPILL_DIR`` goes before it, and the
        system's directory for temporary files is the default.

    Raises
    ------
    ConfigurationError
        The directory cannot be written.
    DataError
        The rows cannot be read.
    """
    base = os.environ.get(_DIRECTORY_VARIABLE) or directory or tempfile.gettempdir()
    action = f"Free some space, or set {_DIRECTORY_VARIABLE} to a directory with more."
    try:
        private = Path(tempfile.mkdtemp(prefix="heliostat-spill-", dir=base))
    except OSError as error:
        message = (
            f"The directory {base}, for rows on their way to workers, cannot be written: {error.strerror}."
        )
        raise ConfigurationError(message, action) from error
    try:
        yield {
            name: _write(connector, columns, private / f"{name}.parquet", action)
            for name, connector, columns in named
        }
    finally:
        shutil.rmtree(private, ignore_errors=True)


def read_range(part: RowRange) -> Iterator[pa.Table]:
    """Decode a range of rows, one row group after the other."""
    import pyarrow.parquet as pq

    with pq.ParquetFile(part.path, memory_map=True) as file:
        first = 0
        for index in range(file.metadata.num_row_groups):
            rows = file.metadata.row_group(index).num_rows
            start, stop = max(part.start - first, 0), min(part.stop - first, rows)
            if start < stop:
                yield file.read_row_group(index, use_threads=False).slice(start, stop - start)
            first += rows


def _write(connector: DataConnector, columns: Sequence[str], path: Path, action: str) -> SpilledRows:
    import pyarrow as pa
    import pyarrow.parquet as pq

    rows = 0
    held: list[Any] = []
    held_rows = 0
    reader = connector.to_reader(columns)
    try:
        with reader, pq.ParquetWriter(path, reader.schema, compression="lz4") as writer:
            for batch in reader:
                held.append(batch)
                held_rows += batch.num_rows
                rows += batch.num_rows
                if held_rows >= ROW_GROUP_ROWS:
                    writer.write_table(pa.Table.from_batches(held), row_group_size=ROW_GROUP_ROWS)
                    held, held_rows = [], 0
            if held_rows:
                writer.write_table(pa.Table.from_batches(held), row_group_size=ROW_GROUP_ROWS)
    except OSError as error:
        message = f"The rows for the workers could not be written to {path.parent}: {error}."
        raise ConfigurationError(message, action) from error
    except pa.ArrowException as error:
        message = f"The rows for the workers could not be read: {error}."
        raise DataError(message) from error
    return SpilledRows(str(path), rows)
