"""``%ranks``: show and steer the processes behind ``%%distribute``."""

from __future__ import annotations

import argparse
from typing import TYPE_CHECKING

from IPython.core.error import UsageError

from heliostat_magics._base import Magic
from heliostat_magics._parser import MagicParser, at_least
from heliostat_magics._types import amount
from heliostat_magics.distribute import ensure_group

if TYPE_CHECKING:
    from heliostat._ranks import RankGroup, Wish

__all__ = ["RanksMagic"]

COMMANDS = {
    "list": "state, node, devices, memory and what they run (default)",
    "start": "start ranks; -n, --cpus, --gpus and --memory say how many and what each reserves",
    "stop": "end them; their variables are lost",
    "restart": "end and start them, all or those that are named",
    "resize": "change how many there are; those that stay keep their variables",
    "console": "say how to attach a console to a rank",
}


class RanksMagic(Magic):
    """``%ranks``."""

    def parser(self, line: str) -> MagicParser:
        """Make the parser."""
        del line
        commands = "\n".join(f"  {name:<8}  {what}" for name, what in COMMANDS.items())
        parser = MagicParser(
            "%ranks",
            "[COMMAND] [RANKS] [OPTIONS]",
            f"Show and steer the ranks, the processes behind %%distribute.\n\ncommands:\n{commands}\n\n"
            "  %ranks start -n 4 --gpus 1\n  %ranks restart 2\n  %ranks resize 8\n  %ranks console 3",
        )
        parser.add("command", nargs="?", default="list", choices=tuple(COMMANDS), help=argparse.SUPPRESS)
        parser.add("ranks", nargs="?", help=argparse.SUPPRESS)
        sizes = ("start", "restart")
        parser.add("-n", "--count", type=at_least(1), metavar="N", commands=sizes, help="how many ranks")
        parser.add(
            "--cpus", type=amount, metavar="C", commands=sizes, help="CPUs that each reserves (shared)"
        )
        parser.add(
            "--gpus", type=amount, metavar="G", commands=sizes, help="GPUs of each (1, if there are any)"
        )
        parser.add("--memory", metavar="SIZE", commands=sizes, help="memory that each reserves, e.g. 4GiB")
        return parser

    def run(self, arguments: argparse.Namespace, cell: str | None) -> None:
        """Do what the command says."""
        del cell
        command, word = arguments.command, arguments.ranks
        if word is not None and command not in ("restart", "resize", "console"):
            message = f"%ranks {command} takes no further word, got {word!r}"
            raise UsageError(message)
        getattr(self, f"_{command}")(arguments)

    def _list(self, arguments: argparse.Namespace) -> None:
        del arguments
        from heliostat import _ranks

        group = _ranks.current()
        print(
            "There are no ranks; %%distribute or %ranks start starts them." if group is None else table(group)
        )

    def _start(self, arguments: argparse.Namespace) -> None:
        from heliostat import _ranks

        if _ranks.current() is not None:
            message = "there are ranks already; %ranks resize or %ranks restart changes them"
            raise UsageError(message)
        print(table(_ranks.start(_wish(arguments))))

    def _stop(self, arguments: argparse.Namespace) -> None:
        del arguments
        from heliostat import _ranks

        there = _ranks.current() is not None
        _ranks.stop()
        print("The ranks are stopped; their variables are gone." if there else "There are no ranks to stop.")

    def _restart(self, arguments: argparse.Namespace) -> None:
        from heliostat import _ranks

        group = _ranks.current()
        sized = any(getattr(arguments, name) is not None for name in ("count", "cpus", "gpus", "memory"))
        if arguments.ranks is not None:
            if sized:
                message = "%ranks restart with ranks keeps their sizes; leave the ranks out to change them"
                raise UsageError(message)
            group = ensure_group()
            for number in _ranks.parse_targets(arguments.ranks, group.size):
                group.kill_rank(number)
            group.wait_ready()
        else:
            wish = _wish(arguments) if sized or group is None else group.wish
            _ranks.stop()
            group = _ranks.start(wish)
        print(table(group))

    def _resize(self, arguments: argparse.Namespace) -> None:
        word = arguments.ranks or ""
        if not word.isdigit() or int(word) < 1:
            message = "%ranks resize needs how many ranks there shall be, such as %ranks resize 4"
            raise UsageError(message)
        group = ensure_group()
        group.resize(int(word))
        print(table(group))

    def _console(self, arguments: argparse.Namespace) -> None:
        from heliostat import _ranks

        group = _ranks.current()
        if group is None or not (arguments.ranks or "").isdigit():
            message = "%ranks console needs a rank that is there, such as %ranks console 0"
            raise UsageError(message)
        (number,) = _ranks.parse_targets(arguments.ranks, group.size)
        print(f"In a terminal of this machine:\n  jupyter console --existing {group.connection_file(number)}")


def table(group: RankGroup) -> str:
    """The ranks as lines of text."""
    rows = [("rank", "state", "pid", "node", "devices", "memory", "runs")]
    for rank in group.ranks:
        rank.look()
        prepared = rank.prepared
        memory = "" if rank.memory_bytes is None else f"{rank.memory_bytes / 2**20:.0f} MiB"
        facts = (
            ("", "", "")
            if prepared is None
            else (str(prepared.pid), prepared.host, prepared.devices or "cpu")
        )
        rows.append((str(rank.number), rank.state.value, *facts, memory, group.doing(rank.number)))
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
    return "\n".join("  ".join(map(str.ljust, row, widths)).rstrip() for row in rows)


def _wish(arguments: argparse.Namespace) -> Wish:
    from heliostat._ranks import Wish
    from heliostat._sizes import make_target
    from heliostat.exceptions import ConfigurationError

    try:
        memory = make_target(memory=arguments.memory).memory_bytes if arguments.memory else None
    except ConfigurationError as error:
        raise UsageError(str(error)) from error
    return Wish(arguments.count, arguments.cpus, arguments.gpus, memory)
