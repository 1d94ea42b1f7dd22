"""The ranks of this process, for whoever shows and stops them.

Whoever starts ranks says so with :func:`set_crew`; whoever tells others about them (the supervisor's
list of work) asks :func:`crew`. Neither knows the other. Any thread may call anything here.
"""

from __future__ import annotations

import threading
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

__all__ = ["Crew", "RankSnapshot", "crew", "set_crew", "subscribe"]


@dataclass(frozen=True)
class RankSnapshot:
    """One rank at one moment."""

    rank: int
    state: str
    """``starting``, ``idle``, ``busy`` or ``dead``."""
    pid: int | None = None
    node: str | None = None
    """Id of its Ray node."""
    doing: str = ""
    """First line of the cell that it runs; empty if it runs none."""


class Crew(Protocol):
    """All ranks of a process."""

    def snapshots(self) -> Sequence[RankSnapshot]:
        """The ranks as they are now; takes no time."""

    def stop_rank(self, number: int) -> None:
        """Have one rank stop what it runs; returns at once."""


_lock = threading.Lock()
_crew: Crew | None = None
_listeners: list[Callable[[], None]] = []


def crew() -> Crew | None:
    """The ranks of this process, if it has any."""
    return _crew


def set_crew(new: Crew | None) -> None:
    """Say that there are ranks now, or that there are none any more."""
    global _crew  # noqa: PLW0603 - one crew a process
    _crew = new
    for listener in (*_listeners,):
        listener()


def subscribe(listener: Callable[[], None]) -> Callable[[], None]:
    """Call ``listener`` whenever there is another crew, until the function that is returned is called."""
    with _lock:
        _listeners.append(listener)

    def unsubscribe() -> None:
        with _lock:
            if listener in _listeners:
                _listeners.remove(listener)

    return unsubscribe
