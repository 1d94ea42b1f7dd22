"""What a session takes as rows, and names of tables in its statements."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from heliostat.exceptions import DataError

SOURCE = "heliostat_source"
"""Name under which rows that are saved are readable in SQL."""


def quote(name: str) -> str:
    """Quote a table name, so that no name can be read as SQL."""
    parts = name.split(".")
    if not all(parts):
        message = f"{name!r} is not a table name."
        raise DataError(message, 'Write "table" or "schema.table".')
    return ".".join('"' + part.replace('"', '""') + '"' for part in parts)


def register(connection: Any, df: Any) -> None:
    """Make the rows of ``df`` readable under the name that ``save_as_table`` uses."""
    import duckdb

    try:
        connection.register(SOURCE, df if isinstance(df, duckdb.DuckDBPyRelation) else as_reader(df))
    except duckdb.InvalidInputException:
        # A relation of somebody else's connection: let that connection read it.
        connection.register(SOURCE, df.to_arrow_reader())


def as_reader(data: Any) -> Any:
    """Stream whatever ``create_dataframe`` takes. Raises DataError when it cannot be read as rows."""
    from heliostat.data._sources import source_of

    if isinstance(data, Mapping | list):
        import pyarrow as pa

        table = pa.table(dict(data)) if isinstance(data, Mapping) else pa.Table.from_pylist(data)
        return table.to_reader()
    return source_of(data).reader()
