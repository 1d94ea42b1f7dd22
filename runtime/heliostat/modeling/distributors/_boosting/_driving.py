"""Drive a training from the outside: start it, follow it, go on after a loss, stop it in time."""

from __future__ import annotations

import contextlib
import time
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from heliostat import _progress
from heliostat.exceptions import TaskCancelledError
from heliostat.modeling import _workers
from heliostat.modeling.distributors._boosting._report import Checkpoint, Restart

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from heliostat.modeling.distributors._boosting._checkpoints import Checkpoints

_PARTIAL_S = 0.6
"""How long an interrupted training may take to hand over the model of its last whole round."""
_DEATHS_WITHOUT_PROGRESS = 3


@dataclass(frozen=True)
class Round:
    """Worker: rank 0 finished a round."""

    done: int
    metrics: dict[str, float]


@dataclass(frozen=True)
class Seen:
    """Worker: how it is doing."""

    pid: int
    rows: int
    memory_bytes: int
    phase: str


@dataclass(frozen=True)
class Line:
    """Worker: text for the user."""

    text: str


@dataclass(frozen=True)
class Trained:
    """Worker: what it leaves. Every rank has the same model, so rank 0 alone sends it."""

    model: bytes
    rounds: int
    history: dict[str, dict[str, list[float]]]
    attributes: dict[str, Any] = field(default_factory=dict)
    warnings: list[str] = field(default_factory=list)
    phases: dict[str, float] = field(default_factory=dict)
    callbacks: bytes = b""
    stopped: bool = False
    """Whether it was asked to stop before it was through."""


@dataclass
class Outcome:
    """What became of it."""

    trained: Trained | None = None
    restarts: list[Restart] = field(default_factory=list)
    checkpoint: Checkpoint | None = None
    workers: int = 0
    where: str | None = None


class Driver:
    """Runs one training on a group of workers.

    Parameters
    ----------
    function:
        Runs on each rank, with what ``jobs`` returns for it.
    jobs:
        Makes the arguments of each rank for a number of workers and a checkpoint to go on from.
    checkpoints:
        Where they are written as well; in memory the latest is always kept.
    """

    def __init__(
        self,
        function: Callable[..., Any],
        jobs: Callable[[int, Checkpoint | None], Sequence[tuple[Any, ...]]],
        task: _progress.Task,
        checkpoints: Checkpoints,
        show: Callable[[str], None],
    ) -> None:
        self._function, self._jobs, self._task = function, jobs, task
        self._checkpoints, self._show = checkpoints, show
        self.outcome = Outcome()
        self._workers: dict[int, _progress.WorkerSnapshot] = {}
        self._lost_at: float | None = None
        self._deaths = 0

    def run(self, group: _workers.Group) -> Trained:
        """Train until it is through.

        Raises
        ------
        TrainingError
            A worker failed by itself, or workers die again and again without a round in between.
        KeyboardInterrupt, TaskCancelledError
            It was stopped; ``outcome`` has the partial model.
        """
        while True:
            self.outcome.workers = len(group.workers)
            run = None
            try:
                self._task.check()
                run = group.start(self._function, self._jobs(len(group.workers), self.outcome.checkpoint))
                results = run.results(self._hear, self._task.check)
            except _workers.RunFailedError as failed:
                self._go_on(group, failed)
            except (KeyboardInterrupt, TaskCancelledError):
                if run is not None:
                    self._rescue(run)
                raise
            else:
                trained: Trained = results[0]
                self.outcome.trained = trained
                self._checkpoints.done()
                self.outcome.where = self._checkpoints.where
                return trained

    def _go_on(self, group: _workers.Group, failed: _workers.RunFailedError) -> None:
        """Bring up what was lost; raises where that would not help."""
        died, cause = failed.died, failed.cause
        self._deaths += 1
        if not died or cause.death is None or self._deaths > _DEATHS_WITHOUT_PROGRESS:
            raise _workers.training_error(cause) from cause.error
        self._lost_at = self._lost_at or time.monotonic()
        kept = self.outcome.checkpoint.rounds if self.outcome.checkpoint else 0
        self._task.update(message=f"rank {cause.rank} was lost, going on after round {kept}", done=kept)
        for rank in range(len(group.workers)):
            # The survivors' libraries still believe in their lost peer.
            group.kill(rank)
        if not group.refill():
            raise _workers.training_error(cause) from cause.error
        text = cause.death.text.splitlines()[0]
        restart = Restart(tuple(sorted(died)), text, kept, len(group.workers), 0.0)
        self.outcome.restarts.append(restart)
        self._workers = {}

    def _hear(self, rank: int, message: Any) -> None:
        if isinstance(message, Round):
            self._note_restart()
            self._task.update(done=message.done, metrics=message.metrics, message="")
        elif isinstance(message, Seen):
            self._workers[rank] = _progress.WorkerSnapshot(
                rank, message.pid, None, message.rows, message.memory_bytes, message.phase
            )
            self._task.update(workers=[self._workers[r] for r in sorted(self._workers)])
        elif isinstance(message, Checkpoint):
            if self.outcome.checkpoint is None or message.rounds > self.outcome.checkpoint.rounds:
                self._deaths = 0
            self._keep(message)
        elif isinstance(message, Line):
            self._show(message.text)

    def _note_restart(self) -> None:
        if self._lost_at is not None and self.outcome.restarts:
            last = self.outcome.restarts[-1]
            seconds = time.monotonic() - self._lost_at
            self.outcome.restarts[-1] = Restart(
                last.ranks, last.cause, last.from_round, last.workers, seconds
            )
            self._lost_at = None

    def _keep(self, checkpoint: Checkpoint) -> None:
        self.outcome.checkpoint = checkpoint
        self._checkpoints.write(checkpoint.model)
        self.outcome.where = self._checkpoints.where

    def _rescue(self, run: _workers.Run) -> None:
        """Have rank 0 hand over its last whole round, if it can within a moment."""
        with contextlib.suppress(KeyboardInterrupt, Exception):
            run.stop([0])
            deadline = time.monotonic() + _PARTIAL_S
            while 0 in run.pending and (left := deadline - time.monotonic()) > 0:
                event = run.next(left)
                if isinstance(event, _workers.Said) and isinstance(event.value, Checkpoint):
                    self.outcome.checkpoint = event.value
                elif isinstance(event, _workers.Finished) and event.rank == 0:
                    self.outcome.trained = event.value
