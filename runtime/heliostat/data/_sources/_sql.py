"""The rows of a query on PostgreSQL or SQLite: a recipe that each process runs on its own connection.

Rows are streamed as Arrow batches, as fast as they are taken. A read changes nothing: it runs in
a transaction that may only read.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from heliostat._connections import Connection, find
from heliostat.data._sources._base import Source, checked_columns
from heliostat.data._sources._sql_read import Rows
from heliostat.data._sources._width import BATCH_ROWS, rows_at_once
from heliostat.data.data_source import DataFrameInfo
from heliostat.exceptions import ConfigurationError, DataError

if TYPE_CHECKING:
    from collections.abc import Generator, Sequence

    import pyarrow as pa

    from heliostat.data.data_source import DataSource

_MISMATCH = re.compile(
    r"Type mismatch in column (?P<index>\d+): expected (?P<expected>\w+) but got (?P<got>\S+)"
)


_FIRST_ROWS = 1024
"""Of a query on a server's cursor: they tell how wide rows are."""


@dataclass(frozen=True)
class SqlSource(Source):
    """One query on one database. Small and picklable; a pickle holds the database's URI."""

    query: str
    connection: Connection
    params: tuple[Any, ...] = ()

    @classmethod
    def of(cls, query: str, where: str | Connection, params: Sequence[Any] = ()) -> SqlSource:
        """Describe a query; nothing is opened.

        Parameters
        ----------
        query:
            One query, in the database's SQL.
        where:
            Name or URI of a connection.
        params:
            Values for ``$1``, ``$2`` (PostgreSQL) or ``?`` (SQLite) in the query.

        Raises
        ------
        ConfigurationError
            The connection is not known, or ``params`` is not a sequence.
        """
        if isinstance(params, str | bytes) or not hasattr(params, "__len__") or hasattr(params, "keys"):
            message = f"params={params!r} is not a list of values."
            raise ConfigurationError(message, "Pass a list or tuple, one value for each $1 or ?.")
        connection = (find(where) if isinstance(where, str) else where).filled_in()
        text = query.strip().rstrip(";").rstrip()
        if not text:
            message = "The query is empty."
            raise ConfigurationError(message, "Pass one SELECT.")
        return cls(text, connection, tuple(params))

    def schema(self) -> pa.Schema:
        """Names and types; SQLite's are those of the first rows."""
        return self._rows(None, None if self.connection.kind == "sqlite" else 0).schema

    def count(self) -> int:
        """Have the database count."""
        counted = self._run(f"SELECT count(*) AS n FROM ({self.query}\n) AS heliostat_rows")  # noqa: S608
        return sum(batch.column(0).to_pylist()[0] for batch in counted)

    def reader(self, columns: Sequence[str] | None = None, limit: int | None = None) -> pa.RecordBatchReader:
        """Run the query; ``columns`` and ``limit`` reach the database."""
        import pyarrow as pa

        names = None if columns is None else checked_columns(self.schema(), columns)
        rows = self._rows(names, limit)
        return pa.RecordBatchReader.from_batches(rows.schema, rows)

    def data_sources(self) -> list[DataSource]:
        return [DataFrameInfo(self.query)]

    def _rows(self, columns: Sequence[str] | None, limit: int | None) -> Rows:
        statement = self.query
        if columns is not None or limit is not None:
            wanted = "*" if columns is None else ", ".join(map(_quoted, columns))
            statement = f"SELECT {wanted} FROM ({self.query}\n) AS heliostat_rows"  # noqa: S608
            if limit is not None:
                statement += f" LIMIT {int(limit)}"
        return self._run(statement)

    def _run(self, statement: str) -> Rows:
        reads = {"postgresql": _postgresql, "sqlite": _sqlite}
        read = reads[self.connection.kind]
        params = self.params
        return Rows(self.connection, lambda cursor: read(cursor, statement, params))


def _postgresql(cursor: Any, statement: str, params: tuple[Any, ...]) -> Generator[Any, None, None]:
    cursor.execute("SET TRANSACTION READ ONLY")
    if not params:
        cursor.execute(statement)
        reader = cursor.fetch_record_batch()
        yield reader.schema
        yield from reader
        return
    # With parameters the driver would take the whole result at once; a cursor of the server does not.
    cursor.execute(f"DECLARE heliostat_cursor NO SCROLL CURSOR FOR {statement}", params)
    cursor.adbc_statement.set_options(**{"adbc.postgresql.use_copy": "false"})
    first, size = True, _FIRST_ROWS
    while True:
        cursor.execute(f"FETCH FORWARD {size} FROM heliostat_cursor")
        table = cursor.fetch_arrow_table()
        if first:
            yield table.schema
            first = False
        yield from table.to_batches()
        if table.num_rows < size:
            return
        size = rows_at_once(table.nbytes // size)


def _sqlite(cursor: Any, statement: str, params: tuple[Any, ...]) -> Generator[Any, None, None]:
    cursor.execute("PRAGMA query_only = ON")
    cursor.adbc_statement.set_options(**{"adbc.sqlite.query.batch_rows": str(BATCH_ROWS)})
    cursor.execute(statement, params or None)
    reader = cursor.fetch_record_batch()
    yield reader.schema
    try:
        yield from reader
    except OSError as error:
        mismatch = _MISMATCH.search(str(error))
        if mismatch is None:
            raise
        name = reader.schema.names[int(mismatch["index"])]
        types = f"{mismatch['expected']}, then {mismatch['got']}"
        message = f"The column {name!r} has values of several types: {types}."
        action = f'Cast it in the query: CAST("{name}" AS REAL) or CAST("{name}" AS TEXT).'
        raise DataError(message, action, column=name) from None


def _quoted(name: str) -> str:
    return '"' + name.replace('"', '""') + '"'
