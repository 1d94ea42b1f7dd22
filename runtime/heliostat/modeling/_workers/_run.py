"""One function that runs on all ranks of a group, and what is heard of it."""

from __future__ import annotations

import itertools
import queue
import time
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from heliostat.exceptions import HeliostatError, TrainingError
from heliostat.modeling._workers._wire import (
    Done,
    Gather,
    Interrupt,
    Raised,
    Say,
    Start,
    Stop,
    dump,
    load,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from heliostat.modeling._workers._deaths import Death
    from heliostat.modeling._workers._worker import Worker

_RAY_POLL_S = 1.0
_GRACE_S = 1.0
"""How long to wait for other ranks' failures: the first one heard of is not always the cause."""
_numbers = itertools.count(1)


class PeerLostError(RuntimeError):
    """A function raises it when it failed because another rank did: then that one is the cause."""


@dataclass(frozen=True)
class Said:
    """A value that the function sent from a rank."""

    rank: int
    value: Any


@dataclass(frozen=True)
class Finished:
    """The function returned on a rank."""

    rank: int
    value: Any


@dataclass(frozen=True)
class Failure:
    """Why a rank failed: its function raised, or its process ended (``death``)."""

    rank: int
    at: float
    error: BaseException
    trace: str = ""
    death: Death | None = None

    @property
    def secondary(self) -> bool:
        """Whether it only tells that another rank failed."""
        return isinstance(self.error, PeerLostError)


Event = Said | Finished | Failure


class RunFailedError(Exception):
    """At least one rank failed; ``cause`` explains the others. For whoever drives a group."""

    def __init__(self, failures: Sequence[Failure]) -> None:
        self.failures = list(failures)
        self.cause = cause(failures)
        super().__init__(f"rank {self.cause.rank}: {self.cause.error}")

    @property
    def died(self) -> list[int]:
        """Ranks whose processes are gone."""
        return [failure.rank for failure in self.failures if failure.death is not None]


def cause(failures: Sequence[Failure]) -> Failure:
    """Which of several failures explains the others.

    A rank's own failure goes before one that says that a peer was lost; then the earlier one.
    """
    return min(failures, key=lambda failure: (failure.secondary, failure.at))


def training_error(failure: Failure) -> TrainingError:
    """The error for the user: rank, true cause, and whether the process died and of what."""
    error = failure.error
    if isinstance(error, HeliostatError):
        text, action = error.message, error.action
    else:
        kind = "" if type(error) in (RuntimeError, PeerLostError) else f"{type(error).__name__}: "
        text, action = f"{kind}{error}", ""
    fields: dict[str, Any] = {"rank": failure.rank}
    if failure.death is not None:
        fields |= {"exit_code": failure.death.code, "out_of_memory": failure.death.out_of_memory}
        if failure.death.out_of_memory:
            action = "Give it more memory, use fewer workers, or fewer columns."
    if failure.trace and not isinstance(error, HeliostatError):
        error.add_note(f"On rank {failure.rank}:\n{failure.trace.rstrip()}")
    raised = TrainingError(f"Training failed on rank {failure.rank}: {text}", action, **fields)
    raised.__cause__ = error
    return raised


@dataclass
class Run:
    """A function under way. Only one thread may read events; any thread may send, stop or interrupt."""

    workers: Sequence[Worker]
    number: int = field(default_factory=lambda: next(_numbers))

    def __post_init__(self) -> None:
        self._events: queue.SimpleQueue[tuple[int, Any]] = queue.SimpleQueue()
        self._pending = set(range(len(self.workers)))
        self._gathered: dict[int, bytes] = {}
        self._asked = 0.0

    def begin(
        self,
        function: Callable[..., Any],
        arguments: Sequence[tuple[Any, ...]],
        environment: Sequence[Mapping[str, str]] | None = None,
    ) -> None:
        """Have rank ``r`` call ``function(context, *arguments[r])`` with ``environment[r]`` set."""
        payloads = [dump((function, given)) for given in arguments]
        for rank, (worker, payload) in enumerate(zip(self.workers, payloads, strict=True)):
            worker.listener = lambda message, rank=rank: self._events.put((rank, message))
            variables = dict(environment[rank]) if environment else {}
            worker.send(Start(self.number, rank, len(self.workers), variables, payload))
        for rank, worker in enumerate(self.workers):
            if not worker.alive:
                self._events.put((rank, None))

    @property
    def pending(self) -> frozenset[int]:
        """Ranks whose function has neither returned nor failed."""
        return frozenset(self._pending)

    def next(self, timeout: float) -> Event | None:
        """Return what happened next; ``None`` when nothing did for ``timeout`` seconds."""
        deadline = time.monotonic() + timeout
        while True:
            left = min(deadline - time.monotonic(), _RAY_POLL_S)
            try:
                rank, message = self._events.get(timeout=max(left, 0))
            except queue.Empty:
                self._ask_ray()
                if time.monotonic() >= deadline and self._events.empty():
                    return None
                continue
            event = self._event(rank, message)
            if event is not None:
                return event

    def results(
        self, on_message: Callable[[int, Any], None] | None = None, check: Callable[[], None] | None = None
    ) -> list[Any]:
        """Wait until all ranks are done; return their results in the order of ranks.

        ``on_message`` gets what ranks send; ``check`` is called a few times a second and may raise.

        Raises
        ------
        RunFailedError
            A rank failed. The others are not waited for.
        """
        found: dict[int, Any] = {}
        while self._pending:
            event = self.next(0.2)
            if check is not None:
                check()
            if isinstance(event, Failure):
                raise RunFailedError([event, *self._further_failures(0.05 if event.death else _GRACE_S)])
            if isinstance(event, Finished):
                found[event.rank] = event.value
            elif isinstance(event, Said) and on_message is not None:
                on_message(event.rank, event.value)
        return [found[rank] for rank in sorted(found)]

    def send(self, rank: int, value: Any) -> None:
        """Send a value to the function on a rank; it reads it with ``context.receive``."""
        self.workers[rank].send(Say(self.number, dump(value)))

    def stop(self, ranks: Sequence[int] | None = None) -> None:
        """Ask functions to end by themselves: ``context.stopping`` becomes true."""
        self._tell(Stop(self.number), ranks)

    def interrupt(self, ranks: Sequence[int] | None = None) -> None:
        """Raise KeyboardInterrupt in functions; they fail with it unless they catch it."""
        self._tell(Interrupt(self.number), ranks)

    def stacks(self, timeout: float = 2.0) -> dict[int, str]:
        """Python stacks of each pending rank, for a report of what hangs where."""
        deadline = time.monotonic() + timeout
        return {rank: self.workers[rank].stacks(deadline) for rank in sorted(self._pending)}

    def _tell(self, message: Any, ranks: Sequence[int] | None) -> None:
        for rank in self._pending if ranks is None else ranks:
            self.workers[rank].send(message)

    def _event(self, rank: int, message: Any) -> Event | None:
        if message is None:
            return self._died(rank)
        if message.run != self.number:
            return None
        if isinstance(message, Say):
            return Said(rank, load(message.payload))
        if isinstance(message, Gather):
            self._gather(rank, message.payload)
            return None
        self._pending.discard(rank)
        if isinstance(message, Done):
            return Finished(rank, load(message.payload))
        assert isinstance(message, Raised), "a worker sends nothing else"
        return Failure(rank, message.at, load(message.payload), message.trace)

    def _died(self, rank: int) -> Failure | None:
        if rank not in self._pending:
            return None
        at = time.time()
        self._pending.discard(rank)
        death = self.workers[rank].death()
        return Failure(rank, at, RuntimeError(death.text), death=death)

    def _gather(self, rank: int, payload: bytes) -> None:
        self._gathered[rank] = payload
        if len(self._gathered) == len(self.workers):
            everything = dump([self._gathered[rank] for rank in range(len(self.workers))])
            self._gathered = {}
            self._tell(Gather(self.number, everything), range(len(self.workers)))

    def _ask_ray(self) -> None:
        if time.monotonic() - self._asked < _RAY_POLL_S:
            return
        self._asked = time.monotonic()
        for rank in self._pending:
            if self.workers[rank].alive and self.workers[rank].died_by_ray():
                self._events.put((rank, None))

    def _further_failures(self, grace: float) -> list[Failure]:
        found: list[Failure] = []
        deadline = time.monotonic() + grace
        while self._pending and (left := deadline - time.monotonic()) > 0:
            event = self.next(left)
            if isinstance(event, Failure):
                found.append(event)
        return found
