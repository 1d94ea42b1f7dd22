"""``%jobs``, ``%logs``, ``%cancel``: the long work of this notebook and of others on its runtime."""

from __future__ import annotations

from typing import TYPE_CHECKING

from heliostat.exceptions import ConfigurationError
from heliostat_magics._base import Magic
from heliostat_magics._format import amount, duration, metrics, size
from heliostat_magics._grid import Grid
from heliostat_magics._parser import MagicParser, at_least
from heliostat_magics._work import find, pieces, taken

if TYPE_CHECKING:
    import argparse

    from heliostat_magics._parser import Scope
    from heliostat_magics._work import Piece

__all__ = ["CancelMagic", "JobsMagic", "LogsMagic"]


class JobsMagic(Magic):
    """``%jobs``."""

    def parser(self, line: str) -> MagicParser:
        """Make the parser."""
        del line
        parser = MagicParser(
            "%jobs",
            "[ID] [OPTIONS]",
            "Show the long work on the runtime: trainings, queries, cells on ranks; or one piece of it\n"
            "with its workers. ID may be the beginning of one. Scripts that were started from here, and\n"
            "other notebooks on the same Ray cluster, are listed with their process. The panel and the\n"
            "supervisor's API show the same, and it can be cancelled from each.",
        )
        parser.add("id", nargs="?", help="the piece to look at", complete=_ids)
        parser.add("--running", action="store_true", help="only what runs now")
        return parser

    def run(self, arguments: argparse.Namespace, cell: str | None) -> Grid:
        """Return the list, newest last."""
        del cell
        if arguments.id is not None:
            return _workers(find(arguments.id))
        found = [piece for piece in pieces() if piece.running or not arguments.running]
        others = any(piece.where for piece in found)
        rows = []
        for piece in found:
            facts = piece.facts
            where = [piece.where or "this one"] if others else []
            facts_in_row = [facts.task_id, facts.state.value, facts.kind, facts.name, *where, amount(facts)]
            rows.append([*facts_in_row, duration(taken(facts)), ", ".join(metrics(facts)), facts.message])
        head = ["id", "state", "kind", "name", *(["process"] if others else [])]
        head += ["done", "time", "metrics", "message"]
        if not rows:
            return Grid(head, [], "Nothing runs." if arguments.running else "Nothing has run yet.")
        used = [index for index in range(len(head)) if any(row[index] for row in rows)]
        return Grid([head[index] for index in used], [[row[index] for index in used] for row in rows])


class LogsMagic(Magic):
    """``%logs``."""

    def parser(self, line: str) -> MagicParser:
        """Make the parser."""
        del line
        parser = MagicParser(
            "%logs",
            "[ID] [OPTIONS]",
            "Print the last lines that a piece of work has logged; without ID, of the latest that has a log.",
        )
        parser.add("id", nargs="?", help="as in %jobs, or its beginning", complete=_ids)
        parser.add("-n", "--lines", type=at_least(1), default=50, metavar="N", help="how many (default 50)")
        return parser

    def run(self, arguments: argparse.Namespace, cell: str | None) -> None:
        """Print them. Raises ConfigurationError where there is no log."""
        del cell
        if arguments.id is not None:
            piece = find(arguments.id)
        else:
            logged = [each for each in pieces() if each.facts.log_path]
            if not logged:
                message = "No work of this runtime has a log."
                raise ConfigurationError(message, "%jobs lists the work; %runtime log has the runtime's log.")
            piece = logged[-1]
        print("\n".join(piece.log(arguments.lines)) or "The log is empty.")


class CancelMagic(Magic):
    """``%cancel``."""

    def parser(self, line: str) -> MagicParser:
        """Make the parser."""
        del line
        parser = MagicParser(
            "%cancel",
            "[ID] [OPTIONS]",
            "Ask a piece of work to stop; %jobs lists them. Without ID, the only one that runs.\n"
            "What runs in a cell of its own is stopped by interrupting the cell as well.",
        )
        parser.add("id", nargs="?", help="as in %jobs, or its beginning", complete=_running_ids)
        parser.add("--all", action="store_true", help="everything that runs")
        return parser

    def run(self, arguments: argparse.Namespace, cell: str | None) -> None:
        """Ask, and say what was asked. Raises ConfigurationError where nothing can be stopped."""
        del cell
        running = [piece for piece in pieces() if piece.running]
        chosen = [find(arguments.id)] if arguments.id is not None else running
        if not chosen:
            message = "Nothing runs."
            raise ConfigurationError(message, "%jobs shows what became of earlier work.")
        if arguments.id is None and len(chosen) > 1 and not arguments.all:
            names = ", ".join(f"{piece.facts.task_id} ({piece.facts.name})" for piece in chosen)
            message = f"{len(chosen)} pieces of work run: {names}."
            raise ConfigurationError(message, "Say which, or --all.")
        for piece in chosen:
            facts = piece.facts
            if not piece.running:
                message = f"{facts.name} does not run any more: it is {facts.state.value}."
                raise ConfigurationError(message)
            piece.cancel()
            print(f"{facts.name} ({facts.task_id}) was asked to stop.")


def _workers(piece: Piece) -> Grid:
    facts = piece.facts
    rows = [
        [each.rank, each.node, each.pid, each.rows, size(each.memory_bytes), each.message]
        for each in facts.workers
    ]
    said = [facts.state.value, piece.where, amount(facts), *metrics(facts), facts.message]
    note = f"Log: {facts.log_path}" if facts.log_path else ""
    title = f"{facts.name} ({facts.task_id}): {', '.join(each for each in said if each)}"
    return Grid(["rank", "node", "pid", "rows", "memory", "message"], rows, note, title)


def _ids(scope: Scope) -> list[str]:
    del scope
    return [piece.facts.task_id for piece in reversed(pieces())]


def _running_ids(scope: Scope) -> list[str]:
    del scope
    return [piece.facts.task_id for piece in pieces() if piece.running]
