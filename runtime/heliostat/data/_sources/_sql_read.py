"""One run of a query: a thread that reads ahead, and a way to stop it in the database too.

The driver waits for the database outside of Python, where Ctrl-C does not reach. So the waiting
is done by a thread; the reader waits for that thread, and when the reader is interrupted, closed
or forgotten, the query is cancelled on the server.
"""

from __future__ import annotations

import contextlib
import queue
import threading
import weakref
from contextvars import ContextVar
from typing import TYPE_CHECKING, Any, Self

from heliostat._adbc import Address, plain
from heliostat.data._sources._sql_types import plain_batch, plain_schema
from heliostat.exceptions import DataError, HeliostatError

if TYPE_CHECKING:
    from collections.abc import Callable, Generator, Iterator

    import pyarrow as pa

    from heliostat._connections import Connection

    Read = Callable[[Any], Generator[Any, None, None]]
    """Given a cursor, gives the Arrow schema and then the batches."""

_watched: ContextVar[list[Rows] | None] = ContextVar("heliostat-sql-rows", default=None)
_AHEAD = 2
_PATIENCE = 0.2
_END = object()


@contextlib.contextmanager
def watched_rows() -> Iterator[list[Rows]]:
    """Give the queries that are begun in the block, so that somebody else can end them."""
    begun: list[Rows] = []
    token = _watched.set(begun)
    try:
        yield begun
    finally:
        _watched.reset(token)


class Rows:
    """The batches of a query, as an iterator. The query runs from here on.

    Parameters
    ----------
    connection:
        Opened by the thread for this query alone.
    read:
        What to do with a cursor.

    Raises
    ------
    ConfigurationError
        The database cannot be opened.
    DataError
        The query cannot be run.
    """

    def __init__(self, connection: Connection, read: Read) -> None:
        self._run = _Run(connection, read)
        self._stop = weakref.finalize(self, self._run.stop)
        begun = _watched.get()
        if begun is not None:
            begun.append(self)
        threading.Thread(target=self._run.main, name="heliostat-sql", daemon=True).start()
        self.schema: pa.Schema = self._take()

    def __iter__(self) -> Self:
        return self

    def __next__(self) -> pa.RecordBatch:
        found = self._take()
        if found is _END:
            raise StopIteration
        return found

    def fail(self, error: HeliostatError) -> None:
        """Cancel the query, and have whoever reads raise ``error``; from any thread."""
        self._run.failure = error
        self._stop()

    def _take(self) -> Any:
        try:
            found = self._run.take()
        except BaseException:
            self._stop()
            raise
        if isinstance(found, BaseException):
            # For whoever asks again: the rows never just end.
            self._run.read.put(found)
            raise found
        if found is _END:
            self._run.read.put(found)
        return found


class _Run:
    """What reader and thread share. It does not know the reader, which may be forgotten."""

    def __init__(self, connection: Connection, read: Read) -> None:
        self._connection = connection
        self._read = read
        self._cursor: Any = None
        self._lock = threading.Lock()
        self._stopped = threading.Event()
        self._ended = threading.Event()
        self.failure: HeliostatError | None = None
        self.read: queue.Queue[Any] = queue.Queue(_AHEAD + 1)

    def main(self) -> None:
        try:
            last: Any = self._run_query()
        except HeliostatError as error:
            last = error
        except Exception as error:
            address = Address.parse(self._connection.uri)
            last = DataError(f"The query failed on {address.shown}: {plain(error, address)}")
        finally:
            self._ended.set()
        self._give(last)

    def take(self) -> Any:
        # In short waits: a long one is deaf to Ctrl-C when somebody changed what the signal does, as
        # Polars does when it is imported.
        while self.failure is None:
            with contextlib.suppress(queue.Empty):
                return self.read.get(timeout=_PATIENCE)
        raise self.failure

    def stop(self) -> None:
        """Cancel the query, if it is still running; returns at once."""
        self._stopped.set()
        if not self._ended.is_set():
            threading.Thread(target=self._cancel, name="heliostat-sql-cancel", daemon=True).start()

    def _run_query(self) -> Any:
        connection = self._connection.open()
        try:
            cursor = connection.cursor()
            with self._lock:
                self._cursor = cursor
            found = self._read(cursor)
            if self._pass_on(found):
                return _END
            # The driver reads what is left of the result when it is closed: there must be nothing left.
            with contextlib.suppress(Exception):
                cursor.adbc_cancel()
            found.close()
        finally:
            with self._lock:
                cursor, self._cursor = self._cursor, None
            for opened in (cursor, connection):
                with contextlib.suppress(Exception):
                    opened.close()
        return _END

    def _pass_on(self, found: Generator[Any, None, None]) -> bool:
        """Give schema and batches to the reader; whether it got all of them."""
        schema = plain_schema(next(found))
        self._give(schema)
        for batch in found:
            if self._stopped.is_set():
                return False
            if batch.num_rows:
                self._give(plain_batch(batch, schema))
        return not self._stopped.is_set()

    def _give(self, found: Any) -> None:
        while not self._stopped.is_set():
            with contextlib.suppress(queue.Full):
                self.read.put(found, timeout=_PATIENCE)
                return

    def _cancel(self) -> None:
        # Again and again: a query that was about to begin does not notice the first time.
        while not self._ended.is_set():
            with self._lock, contextlib.suppress(Exception):
                # SQLite's driver cannot; it is stopped at its next batch.
                if self._cursor is not None:
                    self._cursor.adbc_cancel()
            self._ended.wait(_PATIENCE)
