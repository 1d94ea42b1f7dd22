"""When a training counts as hanging. Pure: times are given."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable


class HangWatch:
    """Remembers when each rank last did something: a step, a report, a line of output."""

    def __init__(self, ranks: Iterable[int], timeout_s: float, now: float) -> None:
        self._timeout = timeout_s
        self._activity = dict.fromkeys(ranks, -1)
        self._since = now

    def note(self, rank: int, activity: int, now: float) -> None:
        """Hear how much a rank did so far."""
        if self._activity.get(rank) != activity:
            self._activity[rank] = activity
            self._since = now

    def overdue(self, now: float) -> bool:
        """Whether no rank did anything for too long."""
        return now - self._since >= self._timeout

    def excuse(self, now: float) -> None:
        """Begin anew: the ranks were looked at, and they compute."""
        self._since = now
