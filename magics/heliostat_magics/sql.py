"""``%sql`` and ``%%sql``: SQL on the session, on variables, on databases by name.

The line is divided by ``_sql_text``, the statement is run by ``_query`` or ``_remote``, and what
comes back is a connector that shows its first rows.
"""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

from IPython.core.error import UsageError

from heliostat_magics._base import Magic
from heliostat_magics._frames import columns_of, frames, is_frame
from heliostat_magics._last_query import LastQuery
from heliostat_magics._offers import connection_names, is_duckdb, known_connection, open_tables
from heliostat_magics._parser import MagicParser, at_least, memory_size
from heliostat_magics._secrets import refuse_password, shown_address
from heliostat_magics._sql_text import bind, divide, fill_in

if TYPE_CHECKING:
    import argparse
    from contextlib import AbstractContextManager

    from heliostat_magics._parser import Scope
    from heliostat_magics._query import Answer, Database

__all__ = ["SqlMagic"]

_VALUED = ("-n", "--limit", "-o", "--out", "-p", "--params", "-t", "--type", "--max-bytes")
_DESCRIPTION = """\
Run SQL, and return a DataConnector that reads the rows when they are asked for.

Without CONNECTION it is DuckDB on the session's warehouse. Tables that are not there are looked
for among the variables: DataFrames of pandas and Polars, Arrow tables, connectors. CONNECTION is
the name of a database (%connections lists them), or a variable that holds a DuckDB connection.

  %%sql                          show the first rows
  %%sql flights <<               keep the connector as flights, show nothing
  %sql -n 5 SELECT * FROM df     on one line
  :day      a variable or one of --params, bound as a value
  {{table}} a variable, put into the text"""
_KEYWORDS = tuple(
    "SELECT FROM WHERE GROUP BY ORDER HAVING LIMIT JOIN LEFT USING WITH AS DISTINCT UNION INSERT INTO"  # noqa: SIM905
    " VALUES CREATE TABLE VIEW DROP UPDATE DELETE DESCRIBE SUMMARIZE PIVOT COPY".split()
)


class SqlMagic(Magic):
    """``%sql`` and ``%%sql``."""

    def parser(self, line: str) -> MagicParser:
        """Make the parser."""
        del line
        parser = MagicParser("%%sql", "[CONNECTION] [NAME <<] [OPTIONS]", _DESCRIPTION)
        parser.add("connection", nargs="?", help="database to ask", complete=connection_names)
        parser.add("-o", "--out", metavar="NAME", help="keep the result as NAME and show nothing")
        parser.add("--show", action="store_true", help="with --out or <<: show the first rows too")
        parser.add(
            "-t",
            "--type",
            choices=["connector", "df", "arrow", "pl"],
            default="connector",
            help="what the result is (default connector; df is pandas, pl is Polars)",
        )
        parser.add("-n", "--limit", type=at_least(0), metavar="N", help="take the first N rows only")
        parser.add(
            "-p",
            "--params",
            metavar="JSON",
            help="values for :name, as JSON or as $variable that holds a dict; they go before variables",
            complete=lambda scope: [f"${name}" for name, v in scope.namespace.items() if _is_params(name, v)],
        )
        parser.add("--explain", action="store_true", help="show the plan of the query and do not run it")
        parser.add(
            "--dry-run", action="store_true", help="say how much the query would return and do not run it"
        )
        parser.add(
            "--max-bytes",
            type=memory_size,
            metavar="SIZE",
            help="with --type: refuse rows that take more memory, e.g. 2GiB",
        )
        return parser

    def __call__(self, line: str, cell: str | None) -> Any:
        """Serve one use; what looks like a flag within SQL is none."""
        words, _ = divide(line, _VALUED, self._known)
        return super().__call__("--help", cell) if {"-h", "--help"} & set(words) else self._serve(line, cell)

    def parse(self, line: str, cell: str | None) -> argparse.Namespace:
        """Read the line; the query is in ``sql``. Raises UsageError."""
        words, rest = divide(line, _VALUED, self._known)
        parser = self.parser(line)
        parser.refuse_unknown(words)
        if cell is not None and rest and " " not in rest:
            # One word that is no connection: say which there are, not that SQL is odd.
            from heliostat._connections import find

            find(rest)
        arguments = parser.parse_args(words)
        if arguments.connection is not None:
            refuse_password(arguments.connection)
        if arguments.max_bytes is not None and arguments.type == "connector":
            message = "--max-bytes limits what --type loads; a connector loads nothing until it is read"
            raise UsageError(message)
        arguments.sql = rest if cell is None else f"{rest}\n{cell}".lstrip("\n")
        return arguments

    def _serve(self, line: str, cell: str | None) -> Any:
        arguments = self.parse(line, cell)
        if not arguments.sql.strip():
            message = "%sql needs a query, such as %sql SELECT 42; %%sql --help tells more"
            raise UsageError(message)
        if arguments.out is not None and not arguments.out.isidentifier():
            message = f"{arguments.out!r} cannot be the name of a variable"
            raise UsageError(message)
        last = LastQuery(arguments.sql.strip(), shown_address(arguments.connection))
        self.shell.user_ns["_last_query"] = last
        with last.noted():
            return self.run(arguments, cell)

    def run(self, arguments: argparse.Namespace, cell: str | None) -> Any:
        """Run the query; show its rows, or keep them, or both."""
        del cell
        values = {**self.namespace, **self._params(arguments.params)}
        text = fill_in(arguments.sql, values)
        result = self._ask(arguments, text, values)
        if result is None:
            return None
        if arguments.out is None:
            return result
        self.shell.user_ns[arguments.out] = result
        return result if arguments.show else None

    def offers(self, scope: Scope) -> list[str]:
        """Flags and connections; on a ``%sql`` line also tables."""
        if scope.words and not scope.words[-1].startswith("-") and not scope.fragment.startswith("-"):
            return (
                self.body_offers(scope, "") if scope.words[0].upper() in _KEYWORDS else super().offers(scope)
            )
        return super().offers(scope)

    def body_offers(self, scope: Scope, body: str) -> list[str]:
        """Tables of the session, variables that are tables, and the columns of those in the query."""
        table, dot, _ = scope.fragment.rpartition(".")
        if dot:
            return [f"{table}.{name}" for name in columns_of(scope.namespace.get(table))]
        named = [value for name, value in scope.namespace.items() if name in body and is_frame(value)]
        found = [*frames(scope), *open_tables(), *(name for value in named for name in columns_of(value))]
        fragment = scope.fragment
        keywords = [word if fragment.isupper() else word.lower() for word in _KEYWORDS] if fragment else []
        return [*found, *keywords]

    def _ask(self, arguments: argparse.Namespace, text: str, values: dict[str, Any]) -> Any:
        where = arguments.connection
        if where is not None and not is_duckdb(self.namespace.get(where)):
            from heliostat_magics import _remote

            return _remote.ask(where, text, values, arguments)
        from heliostat_magics import _query

        database = _query.on_session() if where is None else _query.on_duckdb(self.namespace[where])
        bound, used = bind(text, values, lambda _, name: f"${name}")
        if arguments.explain or arguments.dry_run:
            (_explain if arguments.explain else _estimate)(database, bound, used, self.namespace)
            return None
        answer = database.run(bound, used, self.namespace)
        if answer.rows is None:
            print(answer.said)
            return None
        return _result(answer, bound, arguments)

    def _known(self, word: str) -> bool:
        return known_connection(word) or is_duckdb(self.namespace.get(word))

    def _params(self, text: str | None) -> dict[str, Any]:
        if text is None:
            return {}
        found: Any = None
        if text.startswith("$"):
            found = self.namespace.get(text[1:])
        else:
            try:
                found = json.loads(text)
            except ValueError as error:
                message = f'--params is not JSON ({error}); write {{"day": 3}}, or $variable'
                raise UsageError(message) from error
        if not isinstance(found, dict):
            message = f'--params needs names and values, and {text} is none; write {{"day": 3}}, or $variable'
            raise UsageError(message)
        return found


def _result(answer: Answer, query: str, arguments: argparse.Namespace) -> Any:
    """Make the connector, and read the first rows if they are to be seen."""
    from heliostat.data._sources import source_of
    from heliostat.data.arrow_ingestor import ArrowIngestor
    from heliostat_magics._private_rows import PrivateRows
    from heliostat_magics._result import SHOWN_ROWS, QueryResult, convert, shown

    rows = answer.rows
    is_table = not hasattr(rows, "sql_query")
    if arguments.limit is not None:
        rows = rows.slice(0, arguments.limit) if is_table else rows.limit(arguments.limit)
    source = source_of(rows) if is_table or not answer.private else PrivateRows(rows)
    connector = QueryResult(ArrowIngestor.from_source(source))
    seen = arguments.out is None or arguments.show
    if arguments.type != "connector":
        with _reading(answer, query):
            return convert(connector, arguments.type, arguments.max_bytes)
    if seen and not is_table:
        with _reading(answer, query):
            rows = rows.limit(SHOWN_ROWS + 1).to_arrow_table()
    return connector.with_preview(shown(rows)) if seen else connector


def _reading(answer: Answer, query: str) -> AbstractContextManager[None]:
    from heliostat_magics._query import reading

    return reading(answer.connection, query)


def _explain(database: Database, query: str, values: dict[str, Any], namespace: Any) -> None:
    answer = database.run(f"EXPLAIN {query}", values, namespace)
    for _, plan in answer.rows.fetchall():
        print(plan.rstrip())


def _estimate(database: Database, query: str, values: dict[str, Any], namespace: Any) -> None:
    from heliostat_magics._result import estimate

    ((_, said),) = database.run(f"EXPLAIN (FORMAT JSON) {query}", values, namespace).rows.fetchall()
    columns = database.run(query, values, namespace).rows.limit(0).to_arrow_table().schema
    rows = int(json.loads(said)[0]["extra_info"].get("Estimated Cardinality", 0))
    print(estimate(columns, rows))


def _is_params(name: str, value: Any) -> bool:
    return isinstance(value, dict) and not name.startswith("_")
