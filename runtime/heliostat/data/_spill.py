"""Rows written once to Parquet, so that workers decode their own part of them.

The file lies in a directory of its own (mode 0700) and is removed when the work is done.
Its row groups are small enough that a range of rows costs little more than those rows.
"""

from __future__ import annotations

import itertools
import os
import shutil
import tempfile
import weakref
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from heliostat.data._shards import RowSlice
from heliostat.exceptions import ConfigurationError, DataError, HeliostatError

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    import pyarrow as pa

    from heliostat.data.data_connector import DataConnector

ROW_GROUP_ROWS = 65_536
"""Rows of a row group: the unit that is decoded."""

_DIRECTORY_VARIABLE = "HELIOSTAT_SPILL_DIR"
_ACTION = f"Free some space, or set {_DIRECTORY_VARIABLE} to a directory with more."


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
        As for ``private_directory``.

    Raises
    ------
    ConfigurationError
        The directory cannot be written.
    DataError
        The rows cannot be read.
    """
    with private_directory(directory) as private:
        rows = {}
        for name, connector, columns in named:
            path = private / f"{name}.parquet"
            written = write_parquet(connector.to_reader(columns), path)
            rows[name] = SpilledRows(str(path), sum(piece.rows for piece in written))
        yield rows


@contextmanager
def private_directory(directory: str | None = None) -> Iterator[Path]:
    """Make a directory that only this user can read, and remove it afterwards.

    ``HELIOSTAT_SPILL_DIR`` says where, else ``directory``, else the system's directory for
    temporary files. Raises ConfigurationError when it cannot be made.
    """
    private = PrivateDirectory(directory)
    try:
        yield private.path
    finally:
        private.remove()


class PrivateDirectory:
    """A directory that is there as long as this object is, in the process that made it.

    A pickle of it is ``None``: who is sent the files' names must not outlive the sender.
    """

    def __init__(self, directory: str | None = None) -> None:
        base = os.environ.get(_DIRECTORY_VARIABLE) or directory or tempfile.gettempdir()
        try:
            self.path = Path(tempfile.mkdtemp(prefix="heliostat-spill-", dir=base))
        except OSError as error:
            message = (
                f"The directory {base}, for rows on their way to workers, cannot be written:"
                f" {error.strerror}."
            )
            raise ConfigurationError(message, _ACTION) from error
        self.remove = weakref.finalize(self, _remove, self.path, os.getpid())

    def __reduce__(self) -> tuple[Any, ...]:
        return type(None), ()


def _remove(path: Path, process: int) -> None:
    # A forked process inherits the finalizer, and not the directory.
    if os.getpid() == process:
        shutil.rmtree(path, ignore_errors=True)


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


def write_parquet(reader: pa.RecordBatchReader, path: Path) -> tuple[RowSlice, ...]:
    """Stream rows into a file, and return where they are.

    Raises
    ------
    ConfigurationError
        The file cannot be written.
    DataError
        The rows cannot be read.
    """
    import pyarrow as pa
    import pyarrow.parquet as pq

    groups: list[int] = []
    held: list[Any] = []
    try:
        with reader, pq.ParquetWriter(path, reader.schema, compression="lz4") as writer:

            def write() -> None:
                table = pa.Table.from_batches(held)
                writer.write_table(table, row_group_size=ROW_GROUP_ROWS)
                whole, rest = divmod(table.num_rows, ROW_GROUP_ROWS)
                groups.extend([ROW_GROUP_ROWS] * whole + [rest] * (rest > 0))
                held.clear()

            for batch in reader:
                held.append(batch)
                if sum(part.num_rows for part in held) >= ROW_GROUP_ROWS:
                    write()
            if held:
                write()
    except HeliostatError:
        raise
    except OSError as error:
        message = f"The rows for the workers could not be written to {path.parent}: {error}."
        raise ConfigurationError(message, _ACTION) from error
    except pa.ArrowException as error:
        message = f"The rows for the workers could not be read: {error}."
        raise DataError(message) from error
    size = path.stat().st_size
    return tuple(RowSlice(str(path), index, 0, rows, None, size) for index, rows in enumerate(groups))
