"""DuckDB relations: query, count, projection and limit run inside DuckDB."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from heliostat.data._sources._base import Source, selected
from heliostat.data._sources._width import guessed, rows_at_once
from heliostat.data.data_source import DataFrameInfo
from heliostat.exceptions import DataError

if TYPE_CHECKING:
    from collections.abc import Sequence

    import duckdb
    import pyarrow as pa

    from heliostat._settings import Place
    from heliostat.data.data_source import DataSource

_PATH = "(SELECT path FROM duckdb_databases() WHERE database_name = current_database())"


class RelationSource(Source):
    """A relation. One of the warehouse travels as its SQL, and is run where it arrives.

    Parameters
    ----------
    relation:
        What to read.
    query:
        The SQL that made it, if that is known better than the relation knows.
    """

    def __init__(self, relation: duckdb.DuckDBPyRelation, query: str | None = None) -> None:
        self.relation = relation
        self._query = query

    def __reduce__(self) -> tuple[Any, ...]:
        from heliostat._settings import Place, guard_of

        database = self._database()
        return _reopened, (database, self.query, Place.of(guard_of(Path(database))))

    @property
    def query(self) -> str:
        """The SQL that makes the rows."""
        return self._query or self.relation.sql_query()

    def schema(self) -> pa.Schema:
        return self.relation.limit(0).to_arrow_table().schema

    def count(self) -> int:
        rows: int = self.relation.count("*").fetchall()[0][0]
        return rows

    def reader(self, columns: Sequence[str] | None = None, limit: int | None = None) -> pa.RecordBatchReader:
        import duckdb

        relation = self.relation
        schema = selected(self.schema(), columns)
        if columns is not None:
            relation = relation.select(*(duckdb.ColumnExpression(name) for name in schema.names))
        if limit is not None:
            relation = relation.limit(limit)
        try:
            return relation.to_arrow_reader(rows_at_once(guessed(schema)))
        except duckdb.Error as error:
            message = f"The relation cannot be read: {error}"
            raise DataError(message) from error

    def data_sources(self) -> list[DataSource]:
        return [DataFrameInfo(self.query)]

    def _database(self) -> str:
        """File of the database that the relation reads."""
        import duckdb

        asked = self.relation.limit(0).count("*").select(duckdb.SQLExpression(_PATH))
        path = asked.fetchall()[0][0]
        if path is None:
            message = "The relation is of a database in this process's memory; workers cannot read it."
            action = "Save it with session.save_as_table(...), or pass its rows: relation.to_arrow_table()."
            raise DataError(message, action)
        return str(path)


def _reopened(database: str, query: str, place: Place) -> RelationSource:
    """Run the query on this process's session of the warehouse."""
    from heliostat.context import session_at

    session = session_at(database, place)
    relation = session.sql(query)
    if relation is None:
        message = f"The statement returns no rows: {query}"
        raise DataError(message, "Pass a query.")
    return RelationSource(relation, query)
