"""What ``%%sql`` returns: a connector that shows its first rows."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from heliostat.data import DataConnector
from heliostat.exceptions import DataError
from heliostat_magics._format import size
from heliostat_magics._grid import grid_of

if TYPE_CHECKING:
    import pyarrow as pa

    from heliostat_magics._grid import Grid

__all__ = ["SHOWN_ROWS", "QueryResult", "convert", "estimate", "preview", "shown"]

SHOWN_ROWS = 10
_BYTES_OF_A_TEXT = 16
"""Where nobody knows how long texts are."""


class QueryResult(DataConnector):
    """The rows of a query, read when they are asked for. Showing it reads the first of them."""

    _fresh: Grid | None = None

    def with_preview(self, grid: Grid) -> QueryResult:
        """Show ``grid`` the next time, instead of reading again."""
        self._fresh = grid
        return self

    def _repr_mimebundle_(self, **_: Any) -> dict[str, str]:
        grid, self._fresh = self._fresh or preview(self), None
        return {"text/plain": repr(grid), "text/html": grid._repr_html_()}


def preview(connector: DataConnector, rows: int = SHOWN_ROWS) -> Grid:
    """Read the first rows."""
    import pyarrow as pa

    taken: list[Any] = []
    missing = rows + 1
    with connector.to_reader() as reader:
        schema = reader.schema
        while missing > 0:
            try:
                batch = reader.read_next_batch()
            except StopIteration:
                break
            taken.append(batch.slice(0, missing))
            missing -= taken[-1].num_rows
    return shown(pa.Table.from_batches(taken, schema), rows)


def shown(table: Any, rows: int = SHOWN_ROWS) -> Grid:
    """Show the first rows of a table that has one more if there are more."""
    if table.num_rows > rows:
        return grid_of(table.slice(0, rows), f"The first {rows} rows; there are more.")
    return grid_of(table, f"{table.num_rows} row{'' if table.num_rows == 1 else 's'}.")


def convert(connector: DataConnector, kind: str, max_bytes: int | None = None) -> Any:
    """Turn rows into what ``--type`` asks for.

    Raises
    ------
    DataError
        They take more than ``max_bytes``; no more of them was read.
    """
    if max_bytes is not None:
        connector = DataConnector.from_dataframe(_read_within(connector, max_bytes))
    if kind == "df":
        return connector.to_pandas()
    if kind == "arrow":
        return connector.to_arrow()
    if kind == "pl":
        from heliostat._extras import require

        return require("polars", "bench", "--type pl").from_arrow(connector.to_arrow())
    return connector


def estimate(schema: pa.Schema, rows: int | None, width: int | None = None) -> str:
    """Say how much a query would return, given the planner's rows and bytes of a row."""
    columns = ", ".join(f"{field.name} {field.type}" for field in schema)
    if rows is None:
        return f"Columns: {columns}. This database does not estimate rows. Nothing was run."
    if width is None:
        width = sum(_width(field.type) for field in schema)
    return f"About {rows:,} rows of {width} bytes, {size(rows * width)}. Columns: {columns}. Nothing was run."


def _width(kind: pa.DataType) -> int:
    try:
        return int(max(kind.bit_width // 8, 1))
    except ValueError:
        return _BYTES_OF_A_TEXT


def _read_within(connector: DataConnector, max_bytes: int) -> pa.Table:
    import pyarrow as pa

    taken: list[pa.RecordBatch] = []
    held = 0
    with connector.to_reader() as reader:
        for batch in reader:
            held += batch.nbytes
            if held > max_bytes:
                message = f"The rows take more than --max-bytes {size(max_bytes)}; the rest was not read."
                action = "Take fewer with --limit or WHERE, leave --type out to read them later, or raise it."
                raise DataError(message, action, available=max_bytes)
            taken.append(batch)
        return pa.Table.from_batches(taken, reader.schema)
