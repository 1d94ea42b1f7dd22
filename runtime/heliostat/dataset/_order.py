"""Rows in another order, without holding them: sorted by DuckDB, which spills to disk."""

from __future__ import annotations

import contextlib
import shutil
import uuid
from typing import TYPE_CHECKING, Any

from heliostat._paths import data_directory
from heliostat.exceptions import DataError

if TYPE_CHECKING:
    from collections.abc import Iterator

    import pyarrow as pa

PARTITION = "__heliostat_partition"
_POSITION = "__heliostat_position"
_MEMORY = "256MiB"
_BATCH_ROWS = 65_536


@contextlib.contextmanager
def reordered(reader: pa.RecordBatchReader, *, shuffle: bool, partition_by: str | None) -> Iterator[Any]:
    """Give the rows shuffled and grouped.

    Parameters
    ----------
    reader:
        The rows; read once.
    shuffle:
        Every order of all rows is equally likely (within a partition, if there are any). Otherwise
        rows keep their order.
    partition_by:
        SQL expression over the columns. Its value, as text, comes as the column ``PARTITION``,
        which is last; rows of equal value come together.

    Raises
    ------
    DataError
        The expression is not valid, or there is no space to sort in.
    """
    if not shuffle and partition_by is None:
        yield reader
        return
    import duckdb

    folder = spill_directory() / uuid.uuid4().hex
    try:
        folder.mkdir(parents=True, mode=0o700)
        config: dict[str, Any] = {
            "memory_limit": _MEMORY,
            "temp_directory": str(folder),
            "python_enable_replacements": False,
        }
        with duckdb.connect(config=config | {"python_enable_replacements": False}) as connection:
            connection.execute("SET enable_progress_bar = false")
            connection.register("rows", _numbered(reader) if not shuffle else reader)
            yield connection.sql(_query(connection, shuffle, partition_by)).to_arrow_reader(_BATCH_ROWS)
    except duckdb.Error as error:
        told = f"The partition expression {partition_by!r}" if partition_by else "The shuffle"
        message = f"{told} failed: {error}"
        raise DataError(message, partition_by=partition_by) from error
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def _query(connection: Any, shuffle: bool, partition_by: str | None) -> str:
    order = "random()" if shuffle else _POSITION
    names = [name for name in connection.table("rows").columns if name != _POSITION]
    columns = ", ".join('"' + name.replace('"', '""') + '"' for name in names)
    if partition_by is None:
        return f"SELECT {columns} FROM rows ORDER BY {order}"  # noqa: S608 - columns are quoted
    # Parsed alone first, so that it is one expression and not more.
    statements = connection.extract_statements(f"SELECT ({partition_by}\n)")
    if len(statements) != 1 or not partition_by.strip():
        message = f"The partition expression {partition_by!r} is not one expression."
        raise DataError(message, partition_by=partition_by)
    return (
        f"SELECT {columns}, CAST(({partition_by}\n) AS VARCHAR) AS {PARTITION}"  # noqa: S608 - the user's own SQL
        f" FROM rows ORDER BY {PARTITION} NULLS LAST, {order}"
    )


def _numbered(reader: pa.RecordBatchReader) -> pa.RecordBatchReader:
    """Add the position of each row: a sort keeps no order among equals."""
    import pyarrow as pa

    def batches() -> Iterator[Any]:
        first = 0
        for batch in reader:
            yield batch.append_column(_POSITION, pa.array(range(first, first + batch.num_rows), pa.int64()))
            first += batch.num_rows

    schema = reader.schema.append(pa.field(_POSITION, pa.int64()))
    return pa.RecordBatchReader.from_batches(schema, batches())


def spill_directory() -> Any:
    """Where rows lie while they are sorted; each sort has a directory of its own in it."""
    return data_directory() / "spill"
