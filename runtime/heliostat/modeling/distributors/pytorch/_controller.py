"""From the first worker to the result: attempts, restarts, changes of size."""

from __future__ import annotations

import time
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from heliostat._progress import WorkerSnapshot
from heliostat.exceptions import ConfigurationError
from heliostat.modeling._runtime import honest_advice, is_local, nodes, resize_target
from heliostat.modeling._workers import Layout, lease
from heliostat.modeling.distributors.pytorch import _ahead
from heliostat.modeling.distributors.pytorch._attempt import Attempt, AttemptEnd, Verdict
from heliostat.modeling.distributors.pytorch._failures import hang_error, lost_error, raised_error
from heliostat.modeling.distributors.pytorch._job import Job, Metrics, Printed, Pulse, Reported
from heliostat.modeling.distributors.pytorch._plan import (
    Placement,
    may_restart,
    plan_placement,
    positions,
    wanted_workers,
)
from heliostat.modeling.distributors.pytorch.scaling_config import PyTorchScalingConfig

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from heliostat._location import Location
    from heliostat._progress import Task
    from heliostat.modeling._workers import Group
    from heliostat.modeling.distributors.pytorch._display import Display
    from heliostat.modeling.distributors.pytorch._plan import Position

_RESIZE_POLL_S = 0.5
_REFILL_TIMEOUT_S = 30.0
_NOTE_S = 5.0
"""Between two lines of the log that say how far it is."""


@dataclass(frozen=True)
class Training:
    """What to train. ``datasets`` pickles the connectors for a number of ranks."""

    request_id: str
    function: bytes
    hyper_params: Mapping[str, Any] | None
    datasets: Callable[[int], bytes | None]
    artifacts: Location
    legacy: bool
    directory: str
    paths: tuple[str, ...]
    hang_timeout_s: float
    keep: int | None
    """How many checkpoints are kept; ``None`` for all."""


@dataclass
class Record:
    """What happened so far."""

    metrics: dict[str, Any] = field(default_factory=dict)
    history: list[dict[str, Any]] = field(default_factory=list)
    reported: list[Reported] = field(default_factory=list)
    """Checkpoints that are kept, oldest first."""
    checkpoints: int = 0
    """How many there were, gone ones counted in."""
    restarts: int = 0
    world_sizes: list[int] = field(default_factory=list)

    @property
    def checkpoint(self) -> str | None:
        """Name of the last checkpoint."""
        return self.reported[-1].name if self.reported else None


class Controller:
    """Runs one training. Used by one thread."""

    def __init__(
        self, training: Training, config: PyTorchScalingConfig | None, task: Task, display: Display
    ) -> None:
        self._training, self._config, self._task, self._display = training, config, task, display
        self.record = Record()
        self._attempts = 0
        self._workers: dict[int, WorkerSnapshot] = {}
        self._looked = self._noted = 0.0
        self._gone: set[str] = set()
        self._lost: AttemptEnd | None = None

    def run(self) -> Record:
        """Train to the end.

        Raises
        ------
        TrainingError
            A rank failed, was lost once too often, or all of them hang.
        ConfigurationError
            The runtime is too small.
        """
        while True:
            placement = self._plan()
            error: BaseException | None = None
            layout = Layout(
                placement.workers,
                placement.cpus,
                placement.gpus,
                strategy=placement.strategy,
                ahead=_ahead.IMPORTS,
                any_cpus=True,
            )
            with lease(layout, check=self._task.check) as group:
                try:
                    done = self._on_group(group, placement)
                except (KeyboardInterrupt, Exception) as raised:
                    # The ranks have stopped: those that are well are kept for the next training.
                    error = raised
            self._display.finish()
            if error is not None:
                raise error
            if done:
                return self.record

    def _plan(self) -> Placement:
        try:
            with honest_advice():
                return plan_placement(self._config, nodes(self._gone), resize_target())
        except ConfigurationError as missing:
            if self._lost is None:
                raise
            log = self._log(self._lost.rank)
            raise lost_error(self._lost, self.record.restarts, log, missing) from missing

    def _on_group(self, group: Group, placement: Placement) -> bool:
        """Train on these workers; returns False when another number of them is wanted."""
        while True:
            end = self._attempt(group, placement)
            if end.verdict is Verdict.DONE:
                return True
            if end.verdict is Verdict.RESIZE:
                self._display.say("The runtime was resized: going on with another number of workers.")
                return False
            if end.verdict is Verdict.HUNG:
                raise hang_error(end, self._training.hang_timeout_s)
            if end.verdict is Verdict.RAISED:
                raise raised_error(end, self._log(end.rank))
            if self._recover(group, placement, end) != placement.workers:
                return False

    def _attempt(self, group: Group, placement: Placement) -> AttemptEnd:
        places = positions([worker.node_id for worker in group.workers])
        self.record.world_sizes.append(len(places))
        self._display.prepare(len(places))
        self._workers = {
            place.rank: WorkerSnapshot(place.rank, worker.pid, worker.node_id[:8])
            for place, worker in zip(places, group.workers, strict=True)
        }
        self._task.update(workers=list(self._workers.values()), message="")
        datasets = self._training.datasets(len(places))
        jobs = [self._job(place, placement, datasets) for place in places]
        self._attempts += 1
        attempt = Attempt(
            group,
            jobs,
            hear=self._hear,
            check=self._task.check,
            resize_wanted=lambda: self._wants_resize(len(jobs)),
        )
        try:
            return attempt.drive()
        finally:
            self._task.update(workers=list(self._workers.values()))

    def _job(self, place: Position, placement: Placement, datasets: bytes | None) -> Job:
        given, record = self._training, self.record
        return Job(
            request_id=given.request_id,
            attempt=self._attempts,
            position=place,
            function=given.function,
            hyper_params=given.hyper_params,
            datasets=datasets,
            cpus=placement.cpus,
            gpus=placement.gpus,
            local=is_local(),
            legacy=given.legacy,
            hang_timeout_s=given.hang_timeout_s,
            directory=given.directory,
            paths=given.paths,
            log_path=str(self._display.path(place.rank)),
            artifacts=given.artifacts,
            reported=tuple(record.reported),
            checkpoints=record.checkpoints,
            keep=given.keep,
        )

    def _recover(self, group: Group, placement: Placement, end: AttemptEnd) -> int:
        """Bring the group back to its number; returns how many workers there are."""
        record, config = self.record, self._config or PyTorchScalingConfig()
        record.restarts += 1
        if not may_restart(record.restarts, config):
            raise lost_error(end, record.restarts, self._log(end.rank))
        begun = record.checkpoint or "the beginning"
        why = end.death.text.splitlines()[0] if end.death else "the ranks lost each other"
        self._display.say(f"Rank {end.rank}: {why}. Starting again from {begun}.")
        self._task.update(message=f"rank {end.rank} was lost; starting again")
        if placement.gpus:
            # What NCCL and CUDA keep of a lost neighbour does not outlive the process.
            for rank in range(len(group.workers)):
                group.kill(rank)
        self._lost = end
        count = group.refill(_REFILL_TIMEOUT_S)
        if count < placement.workers:
            self._gone |= group.unreachable
            lost = ", ".join(sorted(node[:8] for node in group.unreachable))
            self._display.say(f"Node {lost} takes no worker any more: going on without it.")
        return count

    def _wants_resize(self, workers: int) -> bool:
        config = self._config
        if config is None or not config.elastic or time.monotonic() - self._looked < _RESIZE_POLL_S:
            return False
        self._looked = time.monotonic()
        return wanted_workers(config, nodes(self._gone), resize_target()) != workers

    def _hear(self, rank: int, value: Any) -> None:
        if isinstance(value, Printed):
            self._display.printed(rank, value.data, stored=value.stored)
        elif isinstance(value, Metrics) and rank == 0:
            self._take_metrics(value)
        elif isinstance(value, Pulse):
            self._take_pulse(rank, value)

    def _take_metrics(self, told: Metrics) -> None:
        record = self.record
        record.metrics.update(told.values)
        record.history.append(dict(told.values))
        if told.checkpoint is not None:
            record.reported.append(Reported(told.checkpoint, dict(told.values)))
            record.checkpoints += 1
            if self._training.keep is not None:
                del record.reported[: -self._training.keep]
        self._task.update(metrics=_numbers(told.values))

    def _take_pulse(self, rank: int, told: Pulse) -> None:
        known = self._workers.get(rank)
        if known is not None:
            message = "" if told.steps == 0 else f"step {told.steps}"
            self._workers[rank] = WorkerSnapshot(
                rank, known.pid, known.node, told.rows, told.memory_bytes, message
            )
        if rank == 0:
            took = told.step_seconds
            speed = {"step_seconds": took, "steps_per_second": 1 / took} if took else {}
            self._task.update(done=told.steps, metrics=speed, workers=list(self._workers.values()))
            if took:
                self._note_progress()

    def _note_progress(self) -> None:
        if time.monotonic() - self._noted < _NOTE_S:
            return
        self._noted = time.monotonic()
        task = self._task.snapshot
        metrics = ", ".join(f"{name} {value:.4g}" for name, value in task.metrics.items())
        self._display.note(f"{time.strftime('%H:%M:%S')} step {task.done:g}: {metrics}")

    def _log(self, rank: int) -> str:
        return str(self._display.path(rank))


def _numbers(values: Mapping[str, Any]) -> dict[str, float]:
    return {
        name: float(value)
        for name, value in values.items()
        if isinstance(value, int | float) and not isinstance(value, bool)
    }
