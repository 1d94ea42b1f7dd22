"""``%connect``: a name for data wherever it is, as a DataConnector."""

from __future__ import annotations

import re
from pathlib import Path
from typing import TYPE_CHECKING, Any

from IPython.core.error import UsageError

from heliostat_magics._base import Magic
from heliostat_magics._frames import frames, is_frame
from heliostat_magics._offers import connection_names, open_tables
from heliostat_magics._parser import MagicParser
from heliostat_magics._secrets import refuse_password

if TYPE_CHECKING:
    import argparse

    from heliostat.data import DataConnector
    from heliostat_magics._parser import Scope

__all__ = ["ConnectMagic"]

_DESCRIPTION = """\
Make a DataConnector and keep it as NAME. Nothing is read until rows are asked for.

SOURCE is, in this order:
  a variable        a DataFrame, an Arrow table, a relation, a connector
  name@version      a version of a dataset (%dataset lists them)
  a path or URL     file, directory or pattern: data/*.parquet, s3://bucket/key, @stage/file.csv
  a table           of the session's warehouse, or with --connection of a database by name"""
_VERSION = re.compile(r"(?P<name>[\w.$-]+)@(?P<version>[^/]+)")


class ConnectMagic(Magic):
    """``%connect``."""

    def parser(self, line: str) -> MagicParser:
        """Make the parser."""
        del line
        parser = MagicParser("%connect", "NAME SOURCE [OPTIONS]", _DESCRIPTION)
        parser.add("name", help="variable to keep the connector in")
        parser.add("source", nargs="?", help="where the rows are", complete=_sources)
        parser.add("--query", metavar="SQL", help="the rows of a query, in place of SOURCE")
        parser.add(
            "--connection",
            metavar="DATABASE",
            complete=connection_names,
            help="database of the table or query; %connections lists them",
        )
        parser.add(
            "--format", choices=["csv", "json", "parquet"], help="format, where the name does not tell"
        )
        parser.add("--show", action="store_true", help="show the first rows too")
        return parser

    def run(self, arguments: argparse.Namespace, cell: str | None) -> Any:
        """Make the connector, and say what it has."""
        del cell
        if not arguments.name.isidentifier():
            message = f"{arguments.name!r} cannot be the name of a variable"
            raise UsageError(message)
        if (arguments.source is None) == (arguments.query is None):
            message = "%connect needs a source or --query, and not both; %connect --help lists sources"
            raise UsageError(message)
        if arguments.connection is not None:
            refuse_password(arguments.connection)
        connector = self._connector(arguments)
        names = connector.columns
        self.shell.user_ns[arguments.name] = connector
        if arguments.show:
            from heliostat_magics._result import preview

            return preview(connector)
        listed = ", ".join(names[:8]) + (", ..." if len(names) > 8 else "")
        print(f"{arguments.name}: {len(names)} column{'' if len(names) == 1 else 's'} ({listed})")
        return None

    def _connector(self, arguments: argparse.Namespace) -> DataConnector:
        from heliostat.data import DataConnector

        source, database = arguments.source, arguments.connection
        if arguments.query is not None:
            return DataConnector.from_sql(arguments.query, database)
        if database is not None:
            return DataConnector.from_sql(_whole(source), database)
        value = self.namespace.get(source)
        if value is not None and is_frame(value):
            return value if isinstance(value, DataConnector) else DataConnector.from_dataframe(value)
        version = _VERSION.fullmatch(source)
        if version is not None:
            from heliostat.dataset import load_dataset

            return load_dataset(None, version["name"], version["version"]).read
        if _is_place(source):
            options = {} if arguments.format is None else {"format": arguments.format}
            return DataConnector.from_sources(None, [source], **options)
        return DataConnector.from_sql(_whole(source))


def _sources(scope: Scope) -> list[str]:
    """Variables, tables, and files that are there."""
    from heliostat_magics._offers import paths

    return [*frames(scope), *open_tables(), *paths(scope)]


def _is_place(source: str) -> bool:
    """Whether a source is a path or URL; a name alone is one only if no table has it."""
    if source.startswith(("@", "~", ".")) or "/" in source:
        return True
    if not re.search(r"\.\w+$", source) and not Path(source).exists():
        return False
    from heliostat.context import get_active_session

    return source not in get_active_session().tables()


def _whole(table: str) -> str:
    quoted = ".".join('"' + part.replace('"', '""') + '"' for part in table.split("."))
    return f"SELECT * FROM {quoted}"  # noqa: S608 - the name is quoted
