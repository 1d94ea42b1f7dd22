"""All long work that can be seen from here, to be looked at and cancelled alike.

That is the work of this process, of scripts that it started, and of other notebooks and scripts
that are attached to the same Ray cluster. Each of the others tells its supervisor, which is asked.
"""

from __future__ import annotations

import contextlib
import time
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from heliostat import _calls as calls
from heliostat import _handle
from heliostat import _progress as progress
from heliostat._messages.work import WorkChoice
from heliostat._tail import tail
from heliostat.exceptions import ConfigurationError, HeliostatError

if TYPE_CHECKING:
    from collections.abc import Iterator

    from heliostat._client import SupervisorClient
    from heliostat._messages.work import Work
    from heliostat._progress import Task, TaskSnapshot
    from heliostat._runtime import Runtime

__all__ = ["Piece", "find", "pieces", "taken"]


@dataclass(frozen=True)
class Piece:
    """A piece of work, and how to reach whoever does it."""

    facts: TaskSnapshot | Work
    reached_by: Task | SupervisorClient
    where: str = ""
    """Which process does it; empty for this one."""

    @property
    def running(self) -> bool:
        """Whether it can be cancelled."""
        return self.facts.state.value == "running"

    def cancel(self) -> None:
        """Have it stop; returns at once."""
        if isinstance(self.reached_by, progress.Task):
            self.reached_by.cancel()
        else:
            self.reached_by.ask(calls.cancel_work(WorkChoice(task_id=self.facts.task_id)))

    def log(self, lines: int) -> list[str]:
        """Last lines of its log. Raises ConfigurationError where there is none."""
        if self.facts.log_path is None:
            message = f"{self.facts.name} ({self.facts.task_id}) keeps no log."
            raise ConfigurationError(message, "%jobs lists what there is.")
        if isinstance(self.reached_by, progress.Task):
            return tail(self.facts.log_path, lines)
        return self.reached_by.ask(calls.work_log(self.facts.task_id, lines))


def pieces() -> list[Piece]:
    """All of it, oldest first."""
    found = {task.snapshot.task_id: Piece(task.snapshot, task) for task in progress.tasks()}
    runtime = _handle.current()
    if runtime is not None:
        for client in _supervisors(runtime):
            # One may go at any time, and the others are worth showing.
            with contextlib.suppress(HeliostatError):
                for work in client.ask(calls.work()):
                    where = "another process" if work.pid is None else f"process {work.pid}"
                    found.setdefault(work.task_id, Piece(work, client, where))
    return sorted(found.values(), key=lambda piece: piece.facts.started_at)


def find(task_id: str) -> Piece:
    """The piece whose id begins so. Raises ConfigurationError for none, or several."""
    found = [piece for piece in pieces() if piece.facts.task_id.startswith(task_id)]
    if len(found) == 1:
        return found[0]
    message = f"There is {'no work' if not found else 'more than one piece of work'} with the id {task_id!r}."
    raise ConfigurationError(message, "%jobs lists what there is.")


def taken(facts: TaskSnapshot | Work) -> float:
    """Seconds that it took, or has taken so far."""
    return (facts.ended_at or time.time()) - facts.started_at


def _supervisors(runtime: Runtime) -> Iterator[SupervisorClient]:
    """Ours, and those of others that are attached to the same cluster."""
    from heliostat._client import SupervisorClient
    from heliostat._supervisor.manifest import list_manifests

    known = runtime.known
    for manifest in list_manifests():
        client = SupervisorClient(Path(manifest.socket))
        if manifest.runtime_id == runtime.runtime_id:
            yield client
        elif known is not None and known.address is not None and known.provider.value == "attached":
            with contextlib.suppress(HeliostatError):
                if client.ask(calls.status()).address == known.address:
                    yield client
