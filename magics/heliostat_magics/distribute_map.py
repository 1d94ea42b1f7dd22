"""``%%distribute map``: the cell is a function body for each part of a table, or for each item."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from IPython.core.error import UsageError

from heliostat_magics._base import Magic
from heliostat_magics._parser import MagicParser, Scope, at_least
from heliostat_magics._types import names, seconds
from heliostat_magics.distribute import ensure_group

if TYPE_CHECKING:
    import argparse

__all__ = ["MapMode"]


class MapMode(Magic):
    """Parts go to ranks, results come back as a DataConnector."""

    def parser(self, line: str) -> MagicParser:
        """Make the parser."""
        del line
        parser = MagicParser(
            "%%distribute map",
            "--over NAME [--by COLUMNS] [-o NAME] [OPTIONS]",
            "Run the cell as a function body for each part of a table or each item of a collection.\n\n"
            "With a table, part is a DataFrame: of one value of --by, which is key, or else some\n"
            "rows. With anything else, item is an item and key its number. What the body returns,\n"
            "or its last expression, comes back as a DataConnector: tables are stacked,\n"
            "dictionaries are rows, other values a column 'value'.\n\n"
            "  %%distribute map --over df --by city -o fits\n"
            "  {'rows': len(part), 'mean': part.price.mean()}",
        )
        parser.add(
            "--over", type=names, required=True, metavar="NAME", help="table or collection", complete=_names
        )
        parser.add("--by", metavar="COLUMNS", help="columns whose values make the parts", complete=_columns)
        parser.add("-o", "--out", type=names, metavar="NAME", help="bind the result; else it is shown")
        parser.add(
            "-n", "--ranks", type=at_least(1), metavar="N", help="start N ranks, if none are there yet"
        )
        parser.add("--timeout", type=seconds, default=0.0, metavar="S", help="stop it after S seconds")
        parser.add(
            "--grace", type=seconds, default=2.0, metavar="S", help="end ranks that do not stop in S (2)"
        )
        parser.add(
            "--watch", type=seconds, default=60.0, metavar="S", help="say who is stuck after S (60; 0: off)"
        )
        return parser

    def run(self, arguments: argparse.Namespace, cell: str | None) -> Any:
        """Divide, run, collect."""
        from heliostat._ranks import Limits, Options
        from heliostat._ranks._map import map_over
        from heliostat_magics._result import QueryResult

        assert cell is not None
        if arguments.over not in self.namespace:
            message = f"--over {arguments.over}: there is no such variable in the notebook"
            raise UsageError(message)
        by = [name.strip() for name in (arguments.by or "").split(",") if name.strip()]
        limits = Limits(arguments.grace, arguments.timeout or None, arguments.watch or None)
        group = ensure_group(arguments.ranks)
        table = map_over(group, cell, self.namespace[arguments.over], by, Options(limits))
        connector = QueryResult.from_dataframe(table)
        if arguments.out:
            self.shell.user_ns[arguments.out] = connector
            return None
        return connector


def _names(scope: Scope) -> list[str]:
    return [name for name in scope.namespace if not name.startswith("_")]


def _columns(scope: Scope) -> list[str]:
    value = scope.namespace.get(scope.value("--over") or "")
    return [str(name) for name in getattr(value, "columns", ())]
