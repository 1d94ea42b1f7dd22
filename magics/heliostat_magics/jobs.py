"""``%jobs``, ``%logs``, ``%cancel``: the long work of this notebook, which need not be in a cell."""

from __future__ import annotations

import time
from pathlib import Path
from typing import TYPE_CHECKING

from heliostat import _progress as progress
from heliostat.exceptions import ConfigurationError
from heliostat_magics._base import Magic
from heliostat_magics._format import duration, size
from heliostat_magics._grid import Grid
from heliostat_magics._parser import MagicParser, at_least

if TYPE_CHECKING:
    import argparse

    from heliostat._progress import Task, TaskSnapshot
    from heliostat_magics._parser import Scope

__all__ = ["CancelMagic", "JobsMagic", "LogsMagic", "amount"]

_LOG_BYTES = 256 * 1024


class JobsMagic(Magic):
    """``%jobs``."""

    def parser(self, line: str) -> MagicParser:
        """Make the parser."""
        del line
        parser = MagicParser(
            "%jobs",
            "[ID] [OPTIONS]",
            "Show the long work of this notebook: trainings, queries, cells on ranks; or one piece of it\n"
            "with its workers. ID may be the beginning of one. The panel and the supervisor's API show\n"
            "the same list, and it can be cancelled from each.",
        )
        parser.add("id", nargs="?", help="the piece to look at", complete=_ids)
        parser.add("--running", action="store_true", help="only what runs now")
        return parser

    def run(self, arguments: argparse.Namespace, cell: str | None) -> Grid:
        """Return the list, newest last."""
        del cell
        if arguments.id is not None:
            return _workers(find(arguments.id).snapshot)
        found = [each.snapshot for each in progress.tasks()]
        if arguments.running:
            found = [each for each in found if not each.state.finished]
        rows = [
            [
                each.task_id,
                each.state.value,
                each.kind,
                each.name,
                amount(each),
                duration((each.ended_at or time.time()) - each.started_at),
                ", ".join(f"{name} {value:.4g}" for name, value in each.metrics.items()),
                each.message,
            ]
            for each in found
        ]
        head = ["id", "state", "kind", "name", "done", "time", "metrics", "message"]
        return Grid(head, rows, "" if rows else "Nothing has run yet.")


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
            snapshot = find(arguments.id).snapshot
        else:
            logged = [each.snapshot for each in progress.tasks() if each.snapshot.log_path]
            if not logged:
                message = "No work of this notebook has a log."
                raise ConfigurationError(message, "%jobs lists the work; %runtime log has the runtime's log.")
            snapshot = logged[-1]
        if snapshot.log_path is None:
            message = f"{snapshot.name} ({snapshot.task_id}) keeps no log."
            raise ConfigurationError(message, "%jobs lists what there is.")
        print("\n".join(_tail(snapshot.log_path, arguments.lines)) or "The log is empty.")


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
        running = [each for each in progress.tasks() if not each.snapshot.state.finished]
        chosen = [find(arguments.id)] if arguments.id is not None else running
        if not chosen:
            message = "Nothing runs."
            raise ConfigurationError(message, "%jobs shows what became of earlier work.")
        if arguments.id is None and len(chosen) > 1 and not arguments.all:
            names = ", ".join(f"{each.snapshot.task_id} ({each.snapshot.name})" for each in chosen)
            message = f"{len(chosen)} pieces of work run: {names}."
            raise ConfigurationError(message, "Say which, or --all.")
        for each in chosen:
            if each.snapshot.state.finished:
                message = f"{each.snapshot.name} does not run any more: it is {each.snapshot.state.value}."
                raise ConfigurationError(message)
            each.cancel()
            print(f"{each.snapshot.name} ({each.snapshot.task_id}) was asked to stop.")


def find(task_id: str) -> Task:
    """The task whose id begins so. Raises ConfigurationError for none, or several."""
    found = [each for each in progress.tasks() if each.snapshot.task_id.startswith(task_id)]
    if len(found) == 1:
        return found[0]
    message = f"There is {'no work' if not found else 'more than one piece of work'} with the id {task_id!r}."
    raise ConfigurationError(message, "%jobs lists what there is.")


def amount(task: TaskSnapshot) -> str:
    """How far a task is, in words."""
    if task.total is not None:
        return f"{task.done:g} of {task.total:g} {task.unit}".strip()
    return f"{task.done:g} {task.unit}".strip() if task.done else ""


def _workers(task: TaskSnapshot) -> Grid:
    rows = [
        [each.rank, each.node, each.pid, each.rows, size(each.memory_bytes), each.message]
        for each in task.workers
    ]
    metrics = ", ".join(f"{name} {value:.4g}" for name, value in task.metrics.items())
    facts = [f"{task.state.value}", amount(task), metrics, task.message]
    note = f"Log: {task.log_path}" if task.log_path else ""
    title = f"{task.name} ({task.task_id}): {', '.join(fact for fact in facts if fact)}"
    return Grid(["rank", "node", "pid", "rows", "memory", "message"], rows, note, title)


def _tail(path: str, lines: int) -> list[str]:
    try:
        with Path(path).open("rb") as file:
            file.seek(0, 2)
            file.seek(max(file.tell() - _LOG_BYTES, 0))
            return file.read().decode(errors="replace").splitlines()[-lines:]
    except OSError as error:
        message = f"The log {path} cannot be read: {error.strerror}."
        raise ConfigurationError(message) from error


def _ids(scope: Scope) -> list[str]:
    del scope
    return [each.snapshot.task_id for each in reversed(progress.tasks())]


def _running_ids(scope: Scope) -> list[str]:
    del scope
    return [each.snapshot.task_id for each in progress.tasks() if not each.snapshot.state.finished]
