"""The embedded warehouse: one DuckDB file with SQL and tables, opened without any set-up."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, Self

from heliostat._lease import NAME, Mode
from heliostat._rows_in import SOURCE, as_reader, quote, register
from heliostat._settings import Place, guard_of
from heliostat._stage_files import StageFiles
from heliostat._warehouse import connect, open_sessions, warehouse_path
from heliostat.exceptions import ConfigurationError, DataError, WarehouseBusyError

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    import duckdb

__all__ = ["SaveMode", "Session"]

SaveMode = Literal["errorifexists", "overwrite", "append"]

_SAVE_STATEMENTS: dict[SaveMode, str] = {
    "errorifexists": "CREATE TABLE {table} AS SELECT * FROM {source}",
    "overwrite": "CREATE OR REPLACE TABLE {table} AS SELECT * FROM {source}",
    "append": "INSERT INTO {table} BY NAME SELECT * FROM {source}",
}


class Session:
    """A connection to the embedded warehouse. Its DataFrames are DuckDB relations, which are lazy.

    Several processes may have a session of one warehouse. The file is opened for the length of a
    statement, a transaction or a result that is streamed: by many that read, or by one that writes.
    The others wait, for at most ``HELIOSTAT_WAREHOUSE_WAIT`` seconds (default 30).
    A pickled session is the session of the same warehouse wherever it is unpickled.

    Parameters
    ----------
    path:
        File of the warehouse, made when it is not there; default is ``warehouse_path()``.

    Raises
    ------
    ConfigurationError
        The file cannot be made or opened.
    WarehouseBusyError
        Other processes did not let go of the file in time.
    """

    def __init__(self, path: str | Path | None = None) -> None:
        self.path = Path(path).expanduser().absolute() if path is not None else warehouse_path()
        self._process = os.getpid()
        self._connection: duckdb.DuckDBPyConnection | None
        self._connection, self._asker = connect(self.path)
        open_sessions.add(self)

    def __reduce__(self) -> tuple[Any, ...]:
        from heliostat.context import session_at

        return session_at, (str(self.path), Place.of(guard_of(self.path)))

    def __repr__(self) -> str:
        return f"Session({str(self.path)!r}{', closed' if self.closed else ''})"

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    @property
    def closed(self) -> bool:
        """Whether ``close`` was called, or this is the copy that a forked process inherited."""
        return self._connection is None or self._process != os.getpid()

    @property
    def file(self) -> StageFiles:
        """Files of stages: to copy, open and list."""
        return StageFiles()

    def close(self) -> None:
        """Let go of the warehouse for good. Relations made here end with it.

        Raises
        ------
        WarehouseBusyError
            A result of this session is still being read; the session stays open.
        """
        import duckdb

        connection = self._connection
        if connection is None or self._process != os.getpid():
            self._connection = None
            return
        try:
            connection.close()
        except duckdb.Error as error:
            message = f"The session of {self.path} cannot be closed: {error}"
            action = "Read its results to their end or drop them first."
            raise WarehouseBusyError(message, action, path=str(self.path), pids=[]) from error
        self._connection = None
        self._asker.close()

    def table(self, name: str) -> duckdb.DuckDBPyRelation:
        """Return a table as a relation; nothing is read yet. Raises DataError when it is not there."""
        connection = self._open_connection()
        if not self._exists(name):
            listed = ", ".join(self.tables()) or "none"
            message = f"There is no table {name!r} in {self.path}."
            raise DataError(message, f"Tables: {listed}.", table=name)
        return connection.sql(f"SELECT * FROM {quote(name)}")  # noqa: S608 - the name is quoted

    def sql(
        self, query: str, params: Sequence[Any] | Mapping[str, Any] | None = None
    ) -> duckdb.DuckDBPyRelation | None:
        """Run one SQL statement; a query comes back as a lazy relation.

        Parameters
        ----------
        query:
            DuckDB SQL.
        params:
            Values for ``?`` (sequence) or ``$name`` (mapping) in the query.

        Raises
        ------
        DataError
            The statement cannot be run; the message is DuckDB's.
        """
        import duckdb

        connection = self._open_connection()
        try:
            return connection.sql(query, params=params)
        except duckdb.Error as error:
            message = f"The SQL statement failed: {error}"
            raise DataError(message, query=query) from error

    def create_dataframe(self, data: Any, name: str | None = None) -> duckdb.DuckDBPyRelation:
        """Make a relation of data in memory.

        Parameters
        ----------
        data:
            pandas or Polars frame, pyarrow Table, anything with ``__arrow_c_stream__``, a mapping of
            columns, or a list of mappings (rows).
        name:
            Also makes the data readable in SQL under this name, until the session closes.
        """
        connection = self._open_connection()
        table = as_reader(data).read_all()
        if name is None:
            return connection.from_arrow(table)
        connection.register(name, table)
        return connection.sql(f"SELECT * FROM {quote(name)}")  # noqa: S608 - the name is quoted

    def relation_of(self, data: Any) -> duckdb.DuckDBPyRelation:
        """Make a relation over a pyarrow Dataset; columns and filters are pushed into it."""
        return self._open_connection().from_arrow(data)

    def save_as_table(self, df: Any, name: str, mode: SaveMode = "errorifexists") -> None:
        """Write a DataFrame to a table of the warehouse; all of it or nothing.

        Parameters
        ----------
        df:
            A relation, or whatever ``create_dataframe`` takes.
        name:
            Name of the table, with its schema in front if it has one (``"raw.flights"``).
        mode:
            What to do when the table exists: ``"errorifexists"``, ``"overwrite"``, or ``"append"``,
            which matches columns by name.

        Raises
        ------
        DataError
            The table exists, or the data does not fit into it.
        """
        import duckdb

        if mode not in _SAVE_STATEMENTS:
            message = f"mode={mode!r} is not a way to save a table."
            raise ConfigurationError(message, f"Use one of {', '.join(_SAVE_STATEMENTS)}.")
        connection = self._open_connection()
        with self._asker.lease.use(Mode.WRITE):
            if mode == "errorifexists" and self._exists(name):
                message = f"The table {name!r} is there already."
                raise DataError(message, 'Use mode="overwrite" or mode="append".', table=name)
            if mode == "append" and not self._exists(name):
                mode = "errorifexists"
            register(connection, df)
            try:
                connection.execute(_SAVE_STATEMENTS[mode].format(table=quote(name), source=SOURCE))
            except duckdb.Error as error:
                message = f"The table {name!r} could not be saved: {error}"
                raise DataError(message, table=name) from error
            finally:
                connection.unregister(SOURCE)

    def tables(self) -> list[str]:
        """Names of the tables, sorted; tables outside of the schema ``main`` as ``schema.table``."""
        rows = self._rows(
            "SELECT CASE schema_name WHEN 'main' THEN table_name"
            " ELSE schema_name || '.' || table_name END AS name"
            " FROM duckdb_tables() WHERE database_name = ? ORDER BY name",
            [NAME],
        )
        return [row[0] for row in rows]

    def drop_table(self, name: str) -> None:
        """Remove a table and its rows. Raises DataError when it is not there."""
        connection = self._open_connection()
        with self._asker.lease.use(Mode.WRITE):
            if not self._exists(name):
                message = f"There is no table {name!r} in {self.path}."
                raise DataError(message, table=name)
            connection.execute(f"DROP TABLE {quote(name)}")

    def _exists(self, name: str) -> bool:
        schema, _, table = name.rpartition(".")
        found = self._rows(
            "SELECT 1 FROM information_schema.tables"
            " WHERE table_catalog = ? AND lower(table_schema) = lower(?) AND lower(table_name) = lower(?)",
            [NAME, schema or "main", table],
        )
        return bool(found)

    def _rows(self, query: str, params: list[Any]) -> list[tuple[Any, ...]]:
        """Read all rows of a query of our own at once, while the file is there."""
        connection = self._open_connection()
        with self._asker.lease.use(Mode.READ):
            rows: list[tuple[Any, ...]] = connection.execute(query, params).fetchall()
            return rows

    def _apart(self) -> duckdb.DuckDBPyConnection:
        """A second connection to the warehouse, for names that no other query shall see.

        Temporary tables of the session are not seen there.
        """
        connection = self._open_connection()
        apart = connection.cursor()
        apart.__class__ = type(connection)  # takes the lease around each question, as the first does
        apart.execute(f"USE {NAME}")
        return apart

    def _open_connection(self) -> duckdb.DuckDBPyConnection:
        if self._connection is None or self.closed:
            message = f"The session of {self.path} is closed."
            action = "Call heliostat.context.get_active_session() for an open one."
            raise ConfigurationError(message, action)
        return self._connection
