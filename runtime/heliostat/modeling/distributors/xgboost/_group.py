"""The workers of one training: placed, watched, and gone when it ends, however it ends."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any, Self

from heliostat.exceptions import ConfigurationError, HeliostatError, TrainingError
from heliostat.modeling.distributors.xgboost._plan import NodeSize, Placement
from heliostat.modeling.distributors.xgboost._worker import Job, Worker, WorkerFailure, WorkerResult

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from types import TracebackType

_PLACEMENT_TIMEOUT_S = 60.0
_POLL_S = 0.2
_GRACE_S = 1.0
"""How long to wait for other ranks' failures: the first one heard of is not always the cause."""


def nodes() -> list[NodeSize]:
    """Sizes of the nodes that are alive."""
    import ray

    return [
        NodeSize(int(node["Resources"].get("CPU", 0)), int(node["Resources"].get("GPU", 0)))
        for node in ray.nodes()
        if node["Alive"]
    ]


def cause(failures: Sequence[WorkerFailure]) -> WorkerFailure:
    """Which of several failures explains the others.

    An error of a rank's own goes before a broken connection; then the earlier one.
    """
    return min(failures, key=lambda failure: (failure.collective, failure.at))


class WorkerGroup:
    """Actors on a placement group, for the length of a ``with`` block.

    Leaving the block kills them at once, also on KeyboardInterrupt.
    """

    def __init__(self, placement: Placement) -> None:
        self._placement = placement
        self._reservation: Any = None
        self._actors: list[Any] = []

    def __enter__(self) -> Self:
        try:
            self._reserve()
            self._start()
        except BaseException:
            self._end()
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._end()

    def train(self, jobs: Sequence[Job], report: Callable[[str], None]) -> WorkerResult:
        """Train and return what rank 0 left; ``report`` gets each line of progress.

        Raises
        ------
        TrainingError
            A worker failed or died; ``rank`` says which.
        """
        import ray

        rendezvous = None
        if len(jobs) > 1:
            rendezvous = self._actors[0].start_tracker.remote(len(jobs))
        pending = {
            actor.train.remote(job, rendezvous): job.rank
            for actor, job in zip(self._actors, jobs, strict=True)
        }
        told, first = 0, None
        reporting = jobs[0].report_every > 0
        while pending:
            done, _ = ray.wait(list(pending), timeout=_POLL_S)
            for reference in done:
                outcome = _outcome(reference, pending.pop(reference))
                if isinstance(outcome, WorkerFailure):
                    raise _training_error(cause([outcome, *_further_failures(pending)]))
                first = outcome if outcome.model else first
            if reporting and (not done or not pending):
                lines = ray.get(self._actors[0].progress.remote(told))
                told += len(lines)
                for line in lines:
                    report(line)
        assert first is not None, "rank 0 always sends its model"
        return first

    def _reserve(self) -> None:
        import ray
        from ray.util.placement_group import placement_group

        size, count = self._placement, self._placement.workers
        bundle = {"CPU": size.cpus, **({"GPU": size.gpus} if size.gpus else {})}
        self._reservation = placement_group([bundle] * count, strategy="PACK")
        deadline = time.monotonic() + _PLACEMENT_TIMEOUT_S
        while not self._reservation.wait(_POLL_S):
            if time.monotonic() > deadline:
                required, free = count * size.cpus, int(ray.available_resources().get("CPU", 0))
                message = f"Training asks for {required} CPUs; {free} are free and the rest stayed in use."
                action = f"End what uses them, or grow the runtime with  %resize cpus={2 * required - free}"
                raise ConfigurationError(message, action, required=required, available=free)

    def _start(self) -> None:
        import ray
        from ray.util.scheduling_strategies import PlacementGroupSchedulingStrategy

        actor = ray.remote(Worker)
        self._actors = [
            actor.options(
                num_cpus=self._placement.cpus,
                num_gpus=self._placement.gpus,
                max_concurrency=2,
                scheduling_strategy=PlacementGroupSchedulingStrategy(self._reservation, index),
            ).remote()
            for index in range(self._placement.workers)
        ]

    def _end(self) -> None:
        import ray
        from ray.util.placement_group import remove_placement_group

        for actor in self._actors:
            ray.kill(actor, no_restart=True)
        self._actors = []
        if self._reservation is not None:
            remove_placement_group(self._reservation)
            self._reservation = None


def _outcome(reference: Any, rank: int) -> WorkerResult | WorkerFailure:
    import ray

    try:
        outcome: WorkerResult | WorkerFailure = ray.get(reference)
    except ray.exceptions.RayActorError as error:
        told = RuntimeError(f"its process died, often for want of memory: {str(error).splitlines()[0]}")
        return WorkerFailure(rank, time.time(), told, collective=False)
    except ray.exceptions.RayError as error:
        return WorkerFailure(rank, time.time(), RuntimeError(str(error)), collective=False)
    return outcome


def _further_failures(pending: dict[Any, int]) -> list[WorkerFailure]:
    import ray

    if not pending:
        return []
    done, _ = ray.wait(list(pending), num_returns=len(pending), timeout=_GRACE_S)
    outcomes = [_outcome(reference, pending[reference]) for reference in done]
    return [outcome for outcome in outcomes if isinstance(outcome, WorkerFailure)]


def _training_error(failure: WorkerFailure) -> Exception:
    error = failure.error
    if isinstance(error, HeliostatError):
        text, action = error.message, error.action
    else:
        kind = "" if type(error) is RuntimeError else f"{type(error).__name__}: "
        text, action = f"{kind}{error}", ""
    raised = TrainingError(f"Training failed on rank {failure.rank}: {text}", action, rank=failure.rank)
    raised.__cause__ = error
    return raised
