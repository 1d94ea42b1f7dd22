"""One attempt of a training on one group of workers: start it, hear it, end it."""

from __future__ import annotations

import time
from dataclasses import dataclass, field
from enum import StrEnum
from typing import TYPE_CHECKING, Any

from heliostat.modeling._workers import Failure, Finished, Said
from heliostat.modeling.distributors.pytorch import _worker
from heliostat.modeling.distributors.pytorch._frames import in_collective, parse_stacks
from heliostat.modeling.distributors.pytorch._job import End, Frame, Outcome, Pulse
from heliostat.modeling.distributors.pytorch._watch import HangWatch

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from heliostat.modeling._workers import Death, Event, Group, Run
    from heliostat.modeling.distributors.pytorch._job import Job

_POLL_S = 0.2
_SETTLE_S = 1.0
"""How long other ranks' failures are waited for: the first one heard of is not always the cause."""
_HALT_S = 0.6
"""How long interrupted ranks have to come back; what is left is killed, within a second in all."""


class Verdict(StrEnum):
    """How an attempt ended."""

    DONE = "done"
    RESIZE = "resize"
    RAISED = "raised"
    LOST = "lost"
    HUNG = "hung"


@dataclass(frozen=True)
class AttemptEnd:
    """How an attempt ended, and because of which rank."""

    verdict: Verdict
    rank: int = 0
    outcome: Outcome | None = None
    death: Death | None = None
    stacks: dict[int, list[Frame]] = field(default_factory=dict)


class Attempt:
    """Drives ``train_on_rank`` on every worker of a group. Used by one thread."""

    def __init__(
        self,
        group: Group,
        jobs: Sequence[Job],
        *,
        hear: Callable[[int, Any], None],
        check: Callable[[], None],
        resize_wanted: Callable[[], bool],
    ) -> None:
        self._group, self._hear, self._check = group, hear, check
        self._resize_wanted, self._asked = resize_wanted, False
        self._watch = HangWatch(range(len(jobs)), jobs[0].hang_timeout_s, time.monotonic())
        self._outcomes: dict[int, Outcome] = {}
        self._deaths: dict[int, Death] = {}
        self._run: Run = group.start(_worker.train_on_rank, [(job,) for job in jobs])

    def drive(self) -> AttemptEnd:
        """Wait for the end. What ``check`` raises comes through when the ranks have stopped."""
        try:
            while self._run.pending:
                self._take(self._run.next(_POLL_S))
                self._check()
                if self._failed():
                    self._settle()
                    return self._verdict()
                if self._watch.overdue(time.monotonic()) and (stacks := self._hanging()):
                    self._halt()
                    return AttemptEnd(Verdict.HUNG, stacks=stacks)
                if not self._asked and self._resize_wanted():
                    self._asked = True
                    self._run.stop()
        except BaseException:
            self._halt()
            raise
        return self._verdict()

    def _take(self, event: Event | None) -> None:
        if isinstance(event, Said):
            if isinstance(event.value, Pulse):
                self._watch.note(event.rank, event.value.activity, time.monotonic())
            self._hear(event.rank, event.value)
        elif isinstance(event, Finished):
            self._outcomes[event.rank] = event.value
        elif isinstance(event, Failure) and event.death is not None:
            self._deaths[event.rank] = event.death
        elif isinstance(event, Failure):
            ended = End.INTERRUPTED if isinstance(event.error, KeyboardInterrupt) else End.RAISED
            summary = f"{type(event.error).__name__}: {event.error}"
            self._outcomes[event.rank] = Outcome(ended, event.at, summary=f"{summary}\n{event.trace}")

    def _failed(self) -> bool:
        return bool(self._deaths) or any(o.end is End.RAISED for o in self._outcomes.values())

    def _settle(self) -> None:
        deadline = time.monotonic() + _SETTLE_S
        while self._run.pending and (left := deadline - time.monotonic()) > 0:
            self._take(self._run.next(min(left, _POLL_S)))
            self._check()
        self._halt()

    def _halt(self) -> None:
        """Stop what still runs: by an interrupt, then by force."""
        self._run.interrupt()
        deadline = time.monotonic() + _HALT_S
        while self._run.pending and (left := deadline - time.monotonic()) > 0:
            self._take(self._run.next(left))
        self._group.kill_busy()

    def _verdict(self) -> AttemptEnd:
        raised = {rank: out for rank, out in self._outcomes.items() if out.end is End.RAISED}
        own = [(out.at, rank) for rank, out in raised.items() if not out.secondary]
        if own:
            rank = min(own)[1]
            return AttemptEnd(Verdict.RAISED, rank, raised[rank])
        if self._deaths:
            rank = next(iter(self._deaths))
            return AttemptEnd(Verdict.LOST, rank, death=self._deaths[rank])
        if raised:
            rank = min((out.at, rank) for rank, out in raised.items())[1]
            return AttemptEnd(Verdict.LOST, rank, raised[rank])
        if any(out.end is End.RESIZE for out in self._outcomes.values()):
            return AttemptEnd(Verdict.RESIZE)
        return AttemptEnd(Verdict.DONE)

    def _hanging(self) -> dict[int, list[Frame]]:
        """Stacks of all ranks that still run, if one of them waits in a collective."""
        texts = self._run.stacks()
        stacks = {
            rank: parse_stacks(text, _worker.__file__, _worker.train_on_rank.__name__)
            for rank, text in texts.items()
        }
        if any(in_collective(frames) for frames in stacks.values()):
            return stacks
        self._watch.excuse(time.monotonic())
        return {}
