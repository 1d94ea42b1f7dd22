"""Running SQL for ``%%sql``: on the session, on a DuckDB connection, on a database by name.

A query is made, not run: its rows are read when somebody asks for them. Variables of the notebook
are readable by name, and only those that the query asks for are looked at: DuckDB says which table
it does not know, and that one is given to it. They are given on a connection of the query's own, so
a later cell that uses another table of the same name changes nothing.
"""

from __future__ import annotations

import contextlib
import re
import signal
import textwrap
import threading
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from heliostat import _progress as progress
from heliostat.exceptions import DataError
from heliostat_magics._frames import is_frame

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

    import duckdb
    import pyarrow as pa

__all__ = ["Answer", "Database", "interruptible", "on_duckdb", "on_session", "reading", "watched"]

_UNKNOWN_TABLE = re.compile(r"Table with name (?P<name>\S+?) does not exist")
_READING = frozenset(("EXPLAIN", "SELECT"))
_INTERRUPTED = "Query interrupted"


@dataclass(frozen=True)
class Answer:
    """What became of a statement: rows to be read, or a sentence."""

    rows: Any = None
    """A DuckDB relation or a pyarrow Table."""
    connection: Any = None
    """What reads the relation."""
    private: bool = True
    """Whether the SQL of the rows means nothing in another process."""
    said: str = ""


@dataclass(frozen=True)
class Database:
    """A DuckDB connection, and how to get another that sees the same tables."""

    connection: duckdb.DuckDBPyConnection
    apart: Callable[[], duckdb.DuckDBPyConnection]
    shared: bool = False
    """Whether other processes can open it too."""

    def run(self, text: str, values: Mapping[str, Any], namespace: Mapping[str, Any]) -> Answer:
        """Run statements one after the other; the last one's answer is returned.

        Raises
        ------
        DataError
            A statement cannot be run; those before it were.
        """
        with _errors(text):
            statements = self.connection.extract_statements(text)
        if not statements:
            message = "There is no SQL statement in the cell."
            raise DataError(message, "Write one below %%sql.")
        answer = Answer()
        for statement in statements:
            query = statement.query.strip().rstrip(";")
            used = {name: value for name, value in values.items() if name in statement.named_parameters}
            reads = statement.type.name in _READING
            answer = (self._read if reads else self._do)(query, used, namespace)
        return answer

    def _read(self, query: str, values: Mapping[str, Any], namespace: Mapping[str, Any]) -> Answer:
        given: dict[str, Any] = {}
        connection = self.connection
        with _errors(query):
            while True:
                try:
                    rows = connection.sql(query, params=dict(values) or None)
                    private = bool(values or given) or not self.shared
                    return Answer(rows, connection, private)
                except Exception as error:
                    name = _wanted(error, namespace, given)
                    temporary = None if name or connection is self.connection else self._temporary(error)
                    if name is None and temporary is None:
                        raise
                if temporary is not None:
                    connection.register(*temporary)
                    continue
                assert name is not None
                if not given:
                    connection = self.apart()
                _give(connection, name, namespace[name])
                given[name] = namespace[name]

    def _temporary(self, error: Exception) -> tuple[str, Streamed] | None:
        """A temporary table, which only its own connection sees, for the connection apart."""
        match = _UNKNOWN_TABLE.search(str(error))
        quoted = '"{}"'.format(match["name"].replace('"', '""')) if match else ""
        with contextlib.suppress(Exception):
            rows = self.connection.sql(f"FROM temp.{quoted}") if match else None
            return (match["name"], Streamed(rows.to_arrow_reader)) if match and rows is not None else None
        return None

    def _do(self, query: str, values: Mapping[str, Any], namespace: Mapping[str, Any]) -> Answer:
        given: dict[str, Any] = {}
        try:
            with _errors(query), watched(self.connection, query):
                while True:
                    try:
                        return _done(self.connection.sql(query, params=dict(values) or None))
                    except Exception as error:
                        name = _wanted(error, namespace, given)
                        if name is None:
                            raise
                    _give(self.connection, name, namespace[name])
                    given[name] = namespace[name]
        finally:
            for name in given:
                self.connection.unregister(name)


def on_session() -> Database:
    """The session's warehouse."""
    from heliostat.context import get_active_session

    session = get_active_session()
    return Database(session._open_connection(), session._apart, shared=True)


def on_duckdb(connection: duckdb.DuckDBPyConnection) -> Database:
    """A DuckDB connection that the user made."""
    return Database(connection, connection.cursor)


@contextlib.contextmanager
def watched(connection: Any, query: str) -> Iterator[None]:
    """Have a query that runs on ``connection`` listed as work; interrupt and cancel end it in DuckDB."""
    import duckdb

    with progress.task("sql", textwrap.shorten(query, 80, placeholder="…")) as task:
        ended = threading.Event()
        task.on_cancel(lambda: _keep_interrupting(connection, ended))
        try:
            with interruptible(), _interrupts_kept(connection, ended):
                yield
        except duckdb.InterruptException:
            task.check()
            raise KeyboardInterrupt from None
        finally:
            ended.set()


@contextlib.contextmanager
def _interrupts_kept(connection: Any, ended: threading.Event) -> Iterator[None]:
    """Have Ctrl-C end the query even where the KeyboardInterrupt is lost: DuckDB may swallow an early one."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = signal.getsignal(signal.SIGINT)

    def handle(number: int, frame: Any) -> None:
        _keep_interrupting(connection, ended)
        if callable(before):
            before(number, frame)

    signal.signal(signal.SIGINT, handle)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, before)


def _keep_interrupting(connection: Any, ended: threading.Event) -> None:
    """Again and again: a query that was about to begin does not notice the first time."""

    def run() -> None:
        while not ended.is_set():
            connection.interrupt()
            ended.wait(0.05)

    threading.Thread(target=run, name="heliostat-sql-cancel", daemon=True).start()


@contextlib.contextmanager
def reading(connection: Any, query: str) -> Iterator[None]:
    """Read rows of a query: listed as work, stopped by interrupt and cancel, errors in our words."""
    watch = contextlib.nullcontext() if connection is None else watched(connection, query)
    with _errors(query), watch:
        yield


@contextlib.contextmanager
def interruptible() -> Iterator[None]:
    """Turn what DuckDB makes of Ctrl-C back into KeyboardInterrupt, so that queued cells do not run."""
    try:
        yield
    except RuntimeError as error:
        if _INTERRUPTED not in str(error):
            raise
        raise KeyboardInterrupt from None


class Streamed:
    """Rows of a connector or relation, read anew each time that DuckDB asks."""

    def __init__(self, read: Callable[[], pa.RecordBatchReader]) -> None:
        self._read = read
        self._schema: pa.Schema | None = None

    def __arrow_c_schema__(self) -> object:
        if self._schema is None:
            self._schema = self._read().schema
        return self._schema.__arrow_c_schema__()

    def __arrow_c_stream__(self, requested_schema: object = None) -> object:
        return self._read().__arrow_c_stream__(requested_schema)


def _wanted(error: Exception, namespace: Mapping[str, Any], given: Mapping[str, Any]) -> str | None:
    """The variable that a query took for a table, if it is one that can be read."""
    match = _UNKNOWN_TABLE.search(str(error))
    if match is None or match["name"] in given or match["name"] not in namespace:
        return None
    return match["name"] if is_frame(namespace[match["name"]]) else None


def _give(connection: Any, name: str, value: Any) -> None:
    """Make a variable readable as a table."""
    from heliostat.data import DataConnector

    kind = type(value).__module__.partition(".")[0]
    if kind in ("pandas", "polars", "pyarrow"):
        connection.register(name, value)
    else:
        connector = value if isinstance(value, DataConnector) else DataConnector.from_dataframe(value)
        connection.register(name, Streamed(connector.to_reader))


def _done(result: Any) -> Answer:
    if result is None:
        return Answer(said="Done.")
    table = result.to_arrow_table()
    if table.column_names == ["Count"]:
        count = sum(table.column(0).to_pylist())
        return Answer(said=f"Done: {count} row{'' if count == 1 else 's'}.")
    if table.column_names == ["Success"] or not table.num_columns:
        return Answer(said="Done.")
    return Answer(table)


@contextlib.contextmanager
def _errors(query: str) -> Iterator[None]:
    import duckdb

    try:
        yield
    except duckdb.Error as error:
        message = f"The SQL statement failed: {str(error).strip()}"
        raise DataError(message, query=query) from error
