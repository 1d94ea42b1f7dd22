"""``%%sql`` on a database by name: rows are streamed through ADBC when they are asked for."""

from __future__ import annotations

import contextlib
import json
import textwrap
import threading
from typing import TYPE_CHECKING, Any

from heliostat import _progress as progress
from heliostat._adbc import Address, plain
from heliostat._connections import Connection, find
from heliostat.data._sources import Source, source_of
from heliostat.data._sources._sql import SqlSource
from heliostat.data._sources._sql_read import watched_rows
from heliostat.data.arrow_ingestor import ArrowIngestor
from heliostat.exceptions import DataError, TaskCancelledError
from heliostat_magics._result import SHOWN_ROWS, QueryResult, convert, estimate, shown
from heliostat_magics._sql_text import bind, kind_of

if TYPE_CHECKING:
    import argparse
    from collections.abc import Iterator, Mapping, Sequence

    import pyarrow as pa

__all__ = ["RemoteRows", "ask"]

_READING = frozenset(("SELECT", "TABLE", "VALUES", "WITH"))
_ASKING = frozenset(("EXPLAIN", "PRAGMA", "SHOW"))
_EXPLAIN = {"postgresql": "EXPLAIN", "sqlite": "EXPLAIN QUERY PLAN"}
_SECONDS_TO_CANCEL = 2.0


class RemoteRows(Source):
    """The rows of a query; ``columns`` and ``limit`` reach the database."""

    def __init__(self, source: SqlSource, limit: int | None = None) -> None:
        self._source, self._limit = source, limit

    def schema(self) -> pa.Schema:
        return self._source.schema()

    def count(self) -> int:
        counted = self._source.count()
        return counted if self._limit is None else min(counted, self._limit)

    def reader(self, columns: Sequence[str] | None = None, limit: int | None = None) -> pa.RecordBatchReader:
        limits = [each for each in (limit, self._limit) if each is not None]
        return self._source.reader(columns, min(limits) if limits else None)


def ask(where: str, text: str, values: Mapping[str, Any], arguments: argparse.Namespace) -> Any:
    """Run a statement on the database ``where``; a query comes back as a connector.

    Raises
    ------
    ConfigurationError
        The connection is not known, or cannot be opened.
    DataError
        The statement cannot be run.
    """
    connection = find(where)
    bound, params = _bound(text, values, connection.kind)
    if arguments.explain or arguments.dry_run:
        print((_plan if arguments.explain else _estimated)(bound, connection, params))
        return None
    kind = kind_of(text)
    if kind not in _READING | _ASKING:
        print(_execute(connection.filled_in(), bound, params))
        return None
    rows: Source
    if kind in _ASKING:
        rows = source_of(_table(bound, connection, params))
    else:
        rows = RemoteRows(SqlSource.of(bound, connection, params), arguments.limit)
    connector = QueryResult(ArrowIngestor.from_source(rows))
    if arguments.type != "connector":
        with _listed(bound):
            return convert(connector, arguments.type, arguments.max_bytes)
    if arguments.out is not None and not arguments.show:
        return connector
    with _listed(bound):
        return connector.with_preview(shown(rows.reader(limit=SHOWN_ROWS + 1).read_all()))


def _bound(text: str, values: Mapping[str, Any], kind: str) -> tuple[str, list[Any]]:
    if kind == "postgresql":
        query, used = bind(text, values, lambda place, _: f"${place}")
        return query, list(used.values())
    # SQLite's marks have no names here: one value for each mark.
    order: list[str] = []
    query, used = bind(text, values, lambda _, name: order.append(name) or "?")  # type: ignore[func-returns-value]
    return query, [used[name] for name in order]


def _table(statement: str, connection: Connection, params: list[Any]) -> pa.Table:
    """Run what returns rows but cannot stand within another query, such as EXPLAIN and SHOW."""
    filled = connection.filled_in()
    with filled.open() as opened, opened.cursor() as cursor:
        if connection.kind == "postgresql":
            cursor.adbc_statement.set_options(**{"adbc.postgresql.use_copy": "false"})
        try:
            cursor.execute(statement, params or None)
            found: pa.Table = cursor.fetch_arrow_table()
        except Exception as error:
            address = Address.parse(filled.uri)
            message = f"The statement failed on {address.shown}: {plain(error, address)}"
            raise DataError(message) from None
    return found


def _plan(query: str, connection: Connection, params: list[Any]) -> str:
    plan = _table(f"{_EXPLAIN[connection.kind]} {query}", connection, params)
    return "\n".join(plan.column(plan.num_columns - 1).to_pylist())


def _estimated(query: str, connection: Connection, params: list[Any]) -> str:
    columns = SqlSource.of(query, connection, params).schema()
    rows = width = None
    if connection.kind == "postgresql":
        said = _table(f"EXPLAIN (FORMAT JSON) {query}", connection, params).column(0)[0].as_py()
        plan = json.loads(said)[0]["Plan"]
        rows, width = plan["Plan Rows"], plan["Plan Width"]
    return estimate(columns, rows, width)


@contextlib.contextmanager
def _listed(query: str) -> Iterator[None]:
    """Have a query listed as work while rows are read; interrupt and cancel end it in the database."""
    with watched_rows() as begun, progress.task("sql", textwrap.shorten(query, 80, placeholder="…")) as task:

        def cancel() -> None:
            for rows in begun:
                rows.fail(TaskCancelledError(f"{task.snapshot.name} was cancelled."))

        task.on_cancel(cancel)
        yield
        task.check()


def _execute(connection: Connection, statement: str, params: list[Any]) -> str:
    """Run a statement that returns no rows, on a thread, so that an interrupt reaches the database."""
    address = Address.parse(connection.uri)
    outcome: list[Any] = []
    ended = threading.Event()
    with connection.open(autocommit=True) as opened, opened.cursor() as cursor:

        def run() -> None:
            try:
                cursor.execute(statement, params or None)
                outcome.append(cursor.rowcount)
            except Exception as error:
                outcome.append(DataError(f"The statement failed on {address.shown}: {plain(error, address)}"))
            finally:
                ended.set()

        with progress.task("sql", textwrap.shorten(statement, 80, placeholder="…")) as task:
            task.on_cancel(lambda: _cancel(cursor))
            threading.Thread(target=run, name="heliostat-sql-statement", daemon=True).start()
            try:
                ended.wait()
            except BaseException:
                _cancel(cursor)
                ended.wait(_SECONDS_TO_CANCEL)
                raise
            task.check()
            if isinstance(outcome[0], Exception):
                raise outcome[0]
    count = outcome[0]
    return "Done." if count is None or count < 0 else f"Done: {count} row{'' if count == 1 else 's'}."


def _cancel(cursor: Any) -> None:
    with contextlib.suppress(Exception):
        cursor.adbc_cancel()
