"""One cell on its ranks: what each was asked, what it showed, how it ended."""

from __future__ import annotations

import itertools
import queue
import threading
import time
from dataclasses import dataclass
from enum import StrEnum
from typing import TYPE_CHECKING, Any

from heliostat._ranks._facts import OURS

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

__all__ = ["Ended", "Outcome", "Run", "Said", "Woken"]

_numbers = itertools.count(1)


class Ended(StrEnum):
    """How a rank's cell ended."""

    OK = "ok"
    FAILED = "failed"
    STOPPED = "stopped"
    DIED = "died"


@dataclass(frozen=True)
class Outcome:
    """How the cell ended on one rank."""

    how: Ended
    at: float
    ename: str = ""
    evalue: str = ""
    traceback: tuple[str, ...] = ()
    expressions: Mapping[str, Any] | None = None


@dataclass(frozen=True)
class Said:
    """A rank showed something."""

    rank: int
    kind: str
    content: dict[str, Any]


@dataclass(frozen=True)
class Woken:
    """Something besides the ranks wants attention: an interrupt, a cancel."""

    reason: str


class Run:
    """A cell under way. Filled by the switchboard's thread, emptied by the one who waits for it."""

    def __init__(self, code: str, requests: Mapping[int, str], *, quiet: bool = False) -> None:
        self.number = next(_numbers)
        self.code, self.quiet = code, quiet
        self.requests = dict(requests)
        """Id of the request to each rank."""
        self.began = time.monotonic()
        self.outcomes: dict[int, Outcome] = {}
        self.finished = threading.Event()
        self.signalled = False
        """Whether its ranks were told to stop; errors after that are no news."""
        self.stopped_alone: set[int] = set()
        """Ranks that somebody told to stop while the others run on."""
        self.events: queue.SimpleQueue[Said | Woken | int] = queue.SimpleQueue()
        """What happened; a number is a rank that is done."""
        self.late: Callable[[Said], None] | None = None
        """Shows what threads of a rank print after the cell has ended; set when it has."""
        self._replies: dict[int, Outcome] = {}
        self._idle: set[int] = set()

    @property
    def ranks(self) -> tuple[int, ...]:
        """The ranks that it runs on."""
        return tuple(self.requests)

    @property
    def pending(self) -> tuple[int, ...]:
        """Ranks that are not done."""
        return tuple(rank for rank in self.requests if rank not in self.outcomes)

    def take(self, rank: int, channel: str, message: Mapping[str, Any]) -> None:
        """Take a message of a rank. Called on the switchboard's thread."""
        kind, content = message["msg_type"], message["content"]
        if channel == "shell" and kind == "execute_reply":
            self._replies[rank] = self._outcome(rank, content)
            if message["metadata"].get(OURS, {}).get("shown") is False:
                self._idle.add(rank)  # nothing follows on the other channel
        elif kind == "status":
            if content["execution_state"] == "idle":
                self._idle.add(rank)
        elif kind not in ("execute_input", "error"):
            late = self.late
            if late is None:
                self.events.put(Said(rank, kind, content))
            else:
                late(Said(rank, kind, content))
            return
        if rank in self._replies and rank in self._idle:
            self._end(rank, self._replies[rank])

    def died(self, rank: int) -> None:
        """Note that the process is gone."""
        self._end(rank, Outcome(Ended.STOPPED if self.signalled else Ended.DIED, time.monotonic()))

    def _outcome(self, rank: int, content: Mapping[str, Any]) -> Outcome:
        now = time.monotonic()
        if content["status"] == "ok":
            return Outcome(Ended.OK, now, expressions=content.get("user_expressions"))
        how = Ended.STOPPED if self.signalled else Ended.FAILED
        trace: Sequence[str] = content.get("traceback") or ()
        value = content.get("evalue", "") or ("the rank was stopped" if rank in self.stopped_alone else "")
        return Outcome(how, now, content.get("ename", ""), value, tuple(trace))

    def _end(self, rank: int, outcome: Outcome) -> None:
        if rank in self.outcomes:
            return
        self.outcomes[rank] = outcome
        self.events.put(rank)
        if not self.pending:
            self.finished.set()
