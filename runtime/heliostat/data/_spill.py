"""Rows written once to Parquet, so that workers decode their own part of them.

The file lies in a directory of its own (mode 0700) and is removed when the work is done.
Its row groups are small enough that a range of rows costs little more than those rows.
"""

from __future__ import annotations

import os
import shutil
import tempfile
import weakref
from pathlib import Path
from typing import TYPE_CHECKING, Any

from heliostat.data._shards import RowSlice
from heliostat.exceptions import ConfigurationError, DataError, HeliostatError

if TYPE_CHECKING:
    import pyarrow as pa


ROW_GROUP_ROWS = 65_536
"""Rows of a row group, at most: the unit that is decoded."""
_ROW_GROUP_BYTES = 64 << 20

_DIRECTORY_VARIABLE = "HELIOSTAT_SPILL_DIR"
_ACTION = f"Free some space, or set {_DIRECTORY_VARIABLE} to a directory with more."


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
                rows = sum(part.num_rows for part in held)
                if rows >= ROW_GROUP_ROWS or sum(part.nbytes for part in held) >= _ROW_GROUP_BYTES:
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
