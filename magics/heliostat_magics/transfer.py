"""``%push`` and ``%pull``: variables between the notebook and the ranks."""

from __future__ import annotations

from typing import TYPE_CHECKING

from IPython.core.error import UsageError

from heliostat_magics._base import Magic
from heliostat_magics._parser import MagicParser, Scope, at_least
from heliostat_magics._types import names
from heliostat_magics.distribute import MOST_BYTES, ensure_group

if TYPE_CHECKING:
    import argparse

__all__ = ["PullMagic", "PushMagic"]


class PushMagic(Magic):
    """``%push``."""

    def parser(self, line: str) -> MagicParser:
        """Make the parser."""
        del line
        parser = MagicParser(
            "%push",
            "NAME [NAME ...] [OPTIONS]",
            "Send variables of the notebook to the ranks, under the same names.\n\n"
            "They travel through Ray's object store: an array lies there once for all ranks of a\n"
            "node, and is read-only; --copy gives each rank one of its own.\n\n  %push data config -t 0",
        )
        parser.add("variables", nargs="+", type=names, metavar="NAME", help="variables", complete=_names)
        parser.add("-t", "--targets", metavar="RANKS", default="all", help="ranks, such as 0,2-3 (all)")
        parser.add("--copy", action="store_true", help="give each rank arrays that it may change")
        parser.add("--max-bytes", type=at_least(1), default=MOST_BYTES, metavar="N", help="limit (1 GiB)")
        return parser

    def run(self, arguments: argparse.Namespace, cell: str | None) -> None:
        """Check all, then send all."""
        del cell
        from heliostat._ranks import parse_targets
        from heliostat._ranks._sizes import measure

        missing = [name for name in arguments.variables if name not in self.namespace]
        if missing:
            message = f"there is no variable {missing[0]!r} in the notebook; nothing was sent"
            raise UsageError(message)
        values = {name: self.namespace[name] for name in arguments.variables}
        _guard("%push", sum(measure(value, name) for name, value in values.items()), arguments.max_bytes)
        group = ensure_group()
        group.objects.push(values, parse_targets(arguments.targets, group.size), copy=arguments.copy)


class PullMagic(Magic):
    """``%pull``."""

    def parser(self, line: str) -> MagicParser:
        """Make the parser."""
        del line
        parser = MagicParser(
            "%pull",
            "NAME [NAME ...] [OPTIONS]",
            "Bring variables of the ranks to the notebook: a list by rank, or one value where one\n"
            "rank is named. They keep their names, unless -o gives another one.\n\n"
            "  %pull loss -o losses\n  %pull model -t 0",
        )
        parser.add("variables", nargs="+", type=names, metavar="NAME", help="variables")
        parser.add("-t", "--targets", metavar="RANKS", default="all", help="ranks, such as 0,2-3 (all)")
        parser.add("-o", "--out", type=names, metavar="NAME", help="name in the notebook, for one variable")
        parser.add("--max-bytes", type=at_least(1), default=MOST_BYTES, metavar="N", help="limit (1 GiB)")
        return parser

    def run(self, arguments: argparse.Namespace, cell: str | None) -> None:
        """Check all, then fetch all."""
        del cell
        from heliostat import _ranks

        if arguments.out and len(arguments.variables) > 1:
            message = "-o names one variable; pull one at a time with it"
            raise UsageError(message)
        group = _ranks.current()
        if group is None:
            message = "there are no ranks to pull from; %%distribute starts them"
            raise UsageError(message)
        targets = _ranks.parse_targets(arguments.targets, group.size)
        _guard("%pull", group.objects.sizes(arguments.variables, targets), arguments.max_bytes)
        for name in arguments.variables:
            values = group.objects.pull(name, targets)
            self.shell.user_ns[arguments.out or name] = values[0] if len(targets) == 1 else values


def _guard(what: str, size: int, limit: int) -> None:
    from heliostat.exceptions import DataError

    if size > limit:
        message = f"{what} would move {size:,} bytes, more than --max-bytes {limit:,}; nothing was moved."
        raise DataError(message, "Move less, or raise --max-bytes.", required=size, available=limit)


def _names(scope: Scope) -> list[str]:
    return [name for name in scope.namespace if not name.startswith("_")]
