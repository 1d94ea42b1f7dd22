"""The long work of the owner as the supervisor knows it: told by the owner, shown to whoever asks.

Scripts that the owner starts on its runtime tell of theirs as well. Whoever works reports what
changes and hears with each answer what shall stop. So work can be watched and cancelled while the
owner's main thread, or its GIL, is busy with that very work.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import msgspec
import psutil

from heliostat._messages.work import WorkOrders, WorkState
from heliostat._tail import tail
from heliostat.exceptions import ConfigurationError

if TYPE_CHECKING:
    from heliostat._messages.work import Rank, Work, WorkReport

_KEPT = 100
"""Pieces that are remembered; the oldest finished ones go first."""
_MOST_LINES = 2000


class WorkList:
    """All pieces of work, by id, in the order in which they began."""

    def __init__(self) -> None:
        self._work: dict[str, Work] = {}
        self._to_cancel: set[str] = set()
        self._ranks: dict[int, Rank] = {}
        self._to_stop: set[int] = set()

    def listed(self) -> list[Work]:
        """Every piece that is remembered, oldest first."""
        for task_id, work in self._work.items():
            if work.state is WorkState.RUNNING and work.pid is not None and not psutil.pid_exists(work.pid):
                self._work[task_id] = msgspec.structs.replace(
                    work, state=WorkState.FAILED, ended_at=work.updated_at, message="Its process has ended."
                )
        return list(self._work.values())

    def note(self, report: WorkReport) -> WorkOrders:
        """Take in a report; answers which of the running pieces shall stop."""
        for work in report.work:
            asked = work.task_id in self._to_cancel
            self._work[work.task_id] = msgspec.structs.replace(work, cancel_requested=asked)
        self._to_cancel = {
            task_id for task_id in self._to_cancel if self._work[task_id].state is WorkState.RUNNING
        }
        self._forget_oldest()
        if report.ranks is not None:
            self._note_ranks(report.ranks)
        orders = WorkOrders(cancel=sorted(self._to_cancel))
        if report.by_owner:
            # A rank is told once: it may run another cell by the time of the next report.
            orders = msgspec.structs.replace(orders, stop_ranks=sorted(self._to_stop))
            self._to_stop = set()
        return orders

    def ranks(self) -> list[Rank]:
        """The ranks that there are, in their order."""
        return list(self._ranks.values())

    def stop_rank(self, number: int) -> None:
        """Have a rank stop what it runs. Raises ConfigurationError where it runs nothing."""
        rank = self._ranks.get(number)
        if rank is None or rank.state != "busy":
            message = f"There is no rank {number}." if rank is None else f"Rank {number} is {rank.state}."
            raise ConfigurationError(message, "%ranks lists what there is.")
        self._to_stop.add(number)
        self._ranks[number] = msgspec.structs.replace(rank, stop_requested=True)

    def names(self) -> dict[int, str]:
        """What processes are called, by pid: the ranks, and the workers of what runs."""
        found = {
            worker.pid: f"{work.name} worker {worker.rank}"
            for work in self._work.values()
            if work.state is WorkState.RUNNING
            for worker in work.workers
            if worker.pid is not None
        }
        named = {rank.pid: f"rank {rank.rank}" for rank in self._ranks.values() if rank.pid is not None}
        return found | named

    def _note_ranks(self, ranks: list[Rank]) -> None:
        asked = {number for number, rank in self._ranks.items() if rank.stop_requested}
        self._ranks = {
            rank.rank: msgspec.structs.replace(
                rank, stop_requested=rank.rank in asked and rank.state == "busy"
            )
            for rank in ranks
        }

    def cancel(self, task_id: str) -> None:
        """Have a piece stop. Raises ConfigurationError where there is none that runs."""
        work = self._find(task_id)
        if work.state is not WorkState.RUNNING:
            message = f"{work.name} ({task_id}) does not run any more: it is {work.state}."
            raise ConfigurationError(message)
        self._to_cancel.add(task_id)
        self._work[task_id] = msgspec.structs.replace(work, cancel_requested=True)

    def log(self, task_id: str, lines: int) -> list[str]:
        """Last lines of a piece's log, of the latest for an empty id; none where there is no work.

        Raises ConfigurationError where it has no log that can be read.
        """
        if not task_id and not self._work:
            return []
        work = self._find(task_id or next(reversed(self._work)))
        if work.log_path is None:
            message = f"{work.name} ({task_id}) keeps no log."
            raise ConfigurationError(message)
        return tail(work.log_path, min(lines, _MOST_LINES))

    def _find(self, task_id: str) -> Work:
        work = self._work.get(task_id)
        if work is None:
            message = f"There is no work with the id {task_id!r}."
            raise ConfigurationError(message, "%jobs lists what there is.")
        return work

    def _forget_oldest(self) -> None:
        finished = [key for key, work in self._work.items() if work.state is not WorkState.RUNNING]
        for key in finished[: max(len(self._work) - _KEPT, 0)]:
            del self._work[key]
