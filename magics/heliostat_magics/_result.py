"""What ``%%sql`` returns: a connector that shows its first rows."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from heliostat.data import DataConnector
from heliostat_magics._grid import grid_of

if TYPE_CHECKING:
    from heliostat_magics._grid import Grid

__all__ = ["SHOWN_ROWS", "QueryResult", "convert", "preview"]

SHOWN_ROWS = 10


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


def convert(connector: DataConnector, kind: str) -> Any:
    """Turn rows into what ``--type`` asks for."""
    if kind == "df":
        return connector.to_pandas()
    if kind == "arrow":
        return connector.to_arrow()
    if kind == "pl":
        from heliostat._extras import require

        return require("polars", "bench", "--type pl").from_arrow(connector.to_arrow())
    return connector
