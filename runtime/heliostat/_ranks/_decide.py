"""When to stop ranks, when to end them, when to say who is stuck. Pure: no clock, no process."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum

__all__ = ["Limits", "Moment", "Step", "decide"]

LONGEST_WAIT = 1.0


class Step(StrEnum):
    """What is due."""

    WAIT = "wait"
    STOP = "stop"
    KILL = "kill"
    WATCH = "watch"


@dataclass(frozen=True)
class Limits:
    """What the user set, in seconds. ``timeout`` and ``watch`` may be off: ``None``."""

    grace: float = 2.0
    timeout: float | None = None
    watch: float | None = 60.0


@dataclass(frozen=True)
class Moment:
    """How a cell stands. Times are of one monotonic clock."""

    now: float
    began: float
    last_news: float
    """When something was printed, ended, or said by the watch."""
    failed_at: float | None = None
    """When the first rank failed or died."""
    stopped_at: float | None = None
    """When the ranks were told to stop."""
    urgent: bool = False
    """Whether the user asked a second time."""


def decide(moment: Moment, limits: Limits) -> tuple[Step, float]:
    """Return what is due now, and how long to wait for news if nothing is.

    Ranks that were told to stop have the grace to do so. Where one has failed, the others have
    the same grace to end by themselves: most wait for it in a collective and never will.
    """
    if moment.stopped_at is not None:
        kill_at = moment.now if moment.urgent else moment.stopped_at + limits.grace
        return _at(kill_at, Step.KILL, moment.now)
    due = []
    if moment.failed_at is not None:
        due.append((moment.failed_at + limits.grace, Step.STOP))
    if limits.timeout is not None:
        due.append((moment.began + limits.timeout, Step.STOP))
    if limits.watch is not None:
        due.append((moment.last_news + limits.watch, Step.WATCH))
    return _at(*min(due), moment.now) if due else (Step.WAIT, LONGEST_WAIT)


def _at(when: float, step: Step, now: float) -> tuple[Step, float]:
    left = when - now
    return (step, 0.0) if left <= 0 else (Step.WAIT, min(left, LONGEST_WAIT))
