"""A DuckDB connection that has the warehouse attached while it is asked something, and only then.

DuckDB's relations are made in Python and ask their connection each time they are read. So it is
enough that the connection is of a class that takes the lease around each question: relations,
whatever is derived from them and whoever reads them are DuckDB's own. Two things are DuckDB's
private affairs, ``_submit`` and ``_result_as_arrow``; they are wrapped only to know how long a
stream is being read, and a test holds that they are there.
"""

from __future__ import annotations

import functools
import weakref
from typing import TYPE_CHECKING, Any

from heliostat._lease import NAME, Lease, Mode
from heliostat.exceptions import WarehouseBusyError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    import duckdb

_WITHOUT_FILE = frozenset(
    ("close", "cursor", "description", "duplicate", "interrupt", "query_progress", "rowcount")
)
_WITH_SQL = frozenset(("_submit", "execute", "executemany", "from_query", "query", "sql"))
_WRITING = frozenset(("append", "appender", "begin", "checkpoint", "query_appender"))
_READING_STATEMENTS = frozenset(("EXPLAIN", "PRAGMA", "SELECT", "SET", "VARIABLE_SET"))
_BEGINNING, _ENDING = ("begin", "start"), ("abort", "commit", "end", "rollback")
_READ_ONLY = "read-only mode"


def open_leased(path: Path, wait_seconds: Callable[[], float]) -> tuple[duckdb.DuckDBPyConnection, Asker]:
    """Open the warehouse; the connection's default database is its file.

    What comes back beside the connection has its lease, and must be closed after it.

    Raises
    ------
    WarehouseBusyError
        Others did not let go of the file in time.
    ConfigurationError
        The file cannot be opened.
    """
    import duckdb

    # Queries see tables, never the Python variables that happen to have the same name.
    connection = duckdb.connect(config={"python_enable_replacements": False})
    # The bar would write into the output of whatever cell happens to run the query.
    connection.execute("SET enable_progress_bar = false")
    lease = Lease(path, connection.cursor(), wait_seconds)
    asker = Asker(lease, connection.cursor())
    try:
        with lease.use(Mode.READ):
            connection.execute(f"USE {NAME}")
    except BaseException:
        connection.close()
        asker.close()
        raise
    connection.__class__ = _leased_class(asker)
    return connection, asker


def _leased_class(asker: Asker) -> Any:
    import duckdb

    class LeasedConnection(duckdb.DuckDBPyConnection):
        """DuckDB's connection, with the lease taken around each call."""

        __slots__ = ()

        def __getattribute__(self, name: str) -> Any:
            found = super().__getattribute__(name)
            if name.startswith("__") or name in _WITHOUT_FILE or not callable(found):
                return found
            return functools.partial(asker.ask, name, found)

    return LeasedConnection


class Asker:
    """Takes the lease around each call of a connection, as the call's statements need it."""

    def __init__(self, lease: Lease, parser: Any) -> None:
        self.lease = lease
        self._parser = parser
        self._end_transaction: Callable[[], None] | None = None

    def close(self) -> None:
        """Let go of the file for good. The connection must be closed by now."""
        # The class of the connection lives on, and nothing of DuckDB may live with it.
        self._parser.close()
        self._parser = None
        self.lease.close()

    def ask(self, name: str, method: Callable[..., Any], /, *args: Any, **kwargs: Any) -> Any:
        """Call a method of the connection."""
        import duckdb

        kinds = self._kinds(args[0]) if name in _WITH_SQL and args else []
        streams = name == "_submit" and "stream" in (*args[2:3], kwargs.get("format"))
        writes = name in _WRITING or any(kind not in _READING_STATEMENTS for kind in kinds)
        try:
            with self.lease.use(Mode.WRITE if writes else Mode.READ):
                self._follow_transaction(name, kinds, args)
                return _while_read(self.lease, method(*args, **kwargs), streams=streams)
        except duckdb.ResourceInUseException as error:
            path = str(self.lease.path)
            message = f"The session of {path} is busy: an earlier result of it is still being read."
            action = "Read that to its end, or drop it: del reader."
            raise WarehouseBusyError(message, action, path=path, pids=[]) from error
        except duckdb.InvalidInputException as error:
            # A query may write too, as nextval() does; it has changed nothing yet.
            if writes or len(kinds) != 1 or _READ_ONLY not in str(error):
                raise
        with self.lease.use(Mode.WRITE):
            return _while_read(self.lease, method(*args, **kwargs), streams=streams)

    def _kinds(self, query: Any) -> list[str]:
        """Kinds of the statements of a text, in upper case."""
        import duckdb

        if isinstance(query, duckdb.Statement):
            return [query.type.name]
        try:
            return [statement.type.name for statement in self._parser.extract_statements(query)]
        except (duckdb.Error, TypeError):
            return ["SELECT"]  # It will fail, and says why; nothing is written.

    def _follow_transaction(self, name: str, kinds: list[str], args: tuple[Any, ...]) -> None:
        """Keep the file attached from BEGIN to COMMIT."""
        word = name
        if "TRANSACTION" in kinds:
            words = str(args[0]).lower().replace(";", " ").split()
            word = next((w for w in reversed(words) if w in _BEGINNING + _ENDING), "")
        if word in _BEGINNING and self._end_transaction is None:
            self._end_transaction = self.lease.hold()
        elif word in _ENDING and self._end_transaction is not None:
            self._end_transaction()
            self._end_transaction = None


def _while_read(lease: Lease, answer: Any, *, streams: bool) -> Any:
    """Keep the file attached as long as somebody reads the answer, if it is a stream."""
    import pyarrow as pa

    if isinstance(answer, pa.RecordBatchReader):
        return _followed(lease, answer)
    return _Stream(lease, answer) if streams else answer


class _Stream:
    """What ``_submit`` returned for a stream."""

    def __init__(self, lease: Lease, result: Any) -> None:
        self._lease, self._result = lease, result

    def __getattr__(self, name: str) -> Any:
        return getattr(self._result, name)

    def arrow_reader(self) -> Any:
        return _followed(self._lease, self._result.arrow_reader())

    def arrow_capsule(self) -> Any:
        return self.arrow_reader().__arrow_c_stream__()


class _Reading:
    """Alive while a stream is."""


def _followed(lease: Lease, reader: Any) -> Any:
    import pyarrow as pa

    reading = _Reading()
    weakref.finalize(reading, lease.hold())
    # close() of this keeps the generator. A C stream around it would not, but turns an interrupt
    # within read_all() into an ArrowInvalid.
    return pa.RecordBatchReader.from_batches(reader.schema, _batches(reader, reading))


def _batches(reader: Any, reading: _Reading) -> Iterator[Any]:
    # ``reading`` goes when this ends, or when it is dropped without ever having begun.
    try:
        yield from reader
    finally:
        reader.close()
        del reading
