"""The workers of one call: reserved, placed, started or taken from the idle ones, given back.

::

    with lease(Layout(workers=2, cpus=1)) as group:
        run = group.start(function, [(part,) for part in parts])
        results = run.results(on_message=print)

``function(context, *arguments)`` is pickled by value where it cannot be imported, and runs on the
main thread of a worker; see :class:`~heliostat.modeling._workers._actor.WorkerContext`.
"""

from __future__ import annotations

import contextlib
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from heliostat.exceptions import ConfigurationError, TrainingError
from heliostat.modeling._workers._pool import idle_seconds, pool, release
from heliostat.modeling._workers._run import Run
from heliostat.modeling._workers._worker import Size, Worker

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence

_PLACEMENT_TIMEOUT_S = 60.0
_START_TIMEOUT_S = 60.0
_POLL_S = 0.1
_STRAGGLE, _STRAGGLE_S = 3.0, 1.0


@dataclass(frozen=True)
class Layout:
    """How many workers of what size; ``environment`` is set before they import anything numeric.

    ``ahead`` is a module that a new worker imports while the driver still prepares its function.
    With ``any_cpus`` the function sets numbers of threads itself, so any idle worker will do.
    """

    workers: int
    cpus: int
    gpus: int = 0
    environment: tuple[tuple[str, str], ...] = ()
    strategy: str = "PACK"
    ahead: str = ""
    any_cpus: bool = False

    @property
    def size(self) -> Size:
        """Size of each."""
        return Size(self.cpus, self.gpus, self.environment)


class Group:
    """Workers under a reservation. Made by :func:`lease`."""

    def __init__(self, layout: Layout) -> None:
        self.layout = layout
        self.workers: list[Worker] = []
        self.unreachable: set[str] = set()
        """Nodes that took no worker in place of one that died; Ray may not know yet that they are gone."""
        self._reservation: Any = None
        self._bundles: list[int] = []
        """Which bundle of the reservation each worker sits in."""
        self._run: Run | None = None

    def start(
        self,
        function: Callable[..., Any],
        arguments: Sequence[tuple[Any, ...]],
        environment: Sequence[Mapping[str, str]] | None = None,
    ) -> Run:
        """Have every rank call ``function(context, *arguments[rank])``; returns at once.

        ``environment`` has variables for each rank, for the length of the call.
        """
        self._run = Run(list(self.workers))
        self._run.begin(function, arguments, environment)
        return self._run

    def kill(self, rank: int) -> None:
        """End the process of a rank; ``refill`` brings up another in its place."""
        self.workers[rank].kill()

    def kill_busy(self) -> None:
        """End every worker whose function has not returned."""
        for rank in self._run.pending if self._run is not None else ():
            self.workers[rank].kill()

    def refill(self, timeout: float = 10.0) -> int:
        """Replace dead workers where they were; ranks that cannot be replaced in time are left out.

        Returns how many workers there are now; ranks are counted anew.
        """
        nodes = [worker.node_id for worker in self.workers]
        kept = [worker.alive for worker in self.workers]
        self.workers = [
            worker if alive else self._begin(bundle, self._node_of(bundle) or worker.node_id)
            for worker, bundle, alive in zip(self.workers, self._bundles, kept, strict=True)
        ]
        begun = time.monotonic()
        deadline = begun + timeout
        here: list[bool] = []
        while not (here and all(here)) and time.monotonic() < deadline:
            here = [worker.wait_until_here(0.0) for worker in self.workers]
            if any(came and not alive for came, alive in zip(here, kept, strict=True)):
                # One took so long: others that take a multiple of it are on a node that is gone.
                took = time.monotonic() - begun
                deadline = min(deadline, begun + _STRAGGLE_S + _STRAGGLE * took)
        for worker, node, came in zip(self.workers, nodes, here, strict=True):
            if not came:
                worker.kill()
                self.unreachable.add(node)
        self._bundles = [bundle for bundle, came in zip(self._bundles, here, strict=True) if came]
        self.workers = [worker for worker, came in zip(self.workers, here, strict=True) if came]
        return len(self.workers)

    def reserve(self, timeout: float, purpose: str, check: Callable[[], None] | None) -> None:
        """Wait for the CPUs and GPUs. Raises ConfigurationError when they stay in use."""
        import ray
        from ray.util.placement_group import placement_group

        layout = self.layout
        self._bundles = list(range(layout.workers))
        self._reservation = pool.take_reservation(layout)
        if self._reservation is not None:
            return
        bundle: dict[str, float] = {"CPU": layout.cpus, **({"GPU": layout.gpus} if layout.gpus else {})}
        bundle = {name: amount for name, amount in bundle.items() if amount} or {"CPU": 0.001}
        self._reservation = placement_group([bundle] * layout.workers, strategy=layout.strategy)
        deadline = time.monotonic() + timeout
        while not self._reservation.wait(_POLL_S):
            if check is not None:
                check()
            if time.monotonic() > deadline:
                required, free = layout.workers * layout.cpus, int(ray.available_resources().get("CPU", 0))
                grown = max(2 * required - free, 1)
                message = f"{purpose} asks for {required} CPUs; {free} are free and the rest stayed in use."
                action = f"End what uses them, or grow the runtime with  %resize cpus={grown}"
                raise ConfigurationError(message, action, required=required, available=free)

    def fill(self, timeout: float, check: Callable[[], None] | None) -> None:
        """Take idle workers and start what is missing. Raises TrainingError when one does not come up."""
        nodes = self._nodes()
        deadline = time.monotonic() + timeout
        for bundle in self._bundles:
            # A worker with a GPU belongs to the reservation that the GPU is from.
            idle = (
                None
                if self.layout.gpus
                else pool.take(self.layout.size, nodes[bundle], any_cpus=self.layout.any_cpus)
            )
            self.workers.append(idle or self._begin(bundle, nodes[bundle]))
        for rank, worker in enumerate(self.workers):
            if check is not None:
                check()
            if not worker.wait_until_here(deadline):
                message = f"The process of rank {rank} did not come up: {worker.death().text}."
                raise TrainingError(message, "See %runtime log.", rank=rank)

    def end(self, *, keep: bool) -> None:
        """Give back the reservation; keep workers that are idle if ``keep``, end all others."""
        busy = self._run.pending if self._run is not None else frozenset()
        of_run = self._run.workers if self._run is not None else []
        running = {id(of_run[rank]) for rank in busy}
        for worker in self.workers:
            if keep and not self.layout.gpus and worker.alive and id(worker) not in running:
                worker.listener = None
                pool.give(worker)
            else:
                worker.kill()
        self.workers = []
        reservation, self._reservation = self._reservation, None
        if reservation is None:
            return
        if keep and not self.layout.gpus and self._whole:
            pool.hold(self.layout, reservation)
        else:
            release(reservation)

    @property
    def _whole(self) -> bool:
        """Whether no bundle was lost on the way."""
        return len(self._bundles) == self.layout.workers

    def _begin(self, bundle: int, node_id: str) -> Worker:
        from ray.util.scheduling_strategies import PlacementGroupSchedulingStrategy

        layout = self.layout
        options: dict[str, Any] | None = None
        if layout.gpus:
            strategy = PlacementGroupSchedulingStrategy(self._reservation, bundle)
            options = {"num_cpus": layout.cpus, "num_gpus": layout.gpus, "scheduling_strategy": strategy}
        return Worker(pool.hub(), layout.size, node_id, layout.ahead, options)

    def _nodes(self) -> dict[int, str]:
        from ray.util import placement_group_table

        table = placement_group_table(self._reservation)
        return {int(bundle): str(node) for bundle, node in table["bundles_to_node_id"].items()}

    def _node_of(self, bundle: int) -> str:
        return self._nodes().get(bundle, "")


@contextlib.contextmanager
def lease(
    layout: Layout,
    *,
    purpose: str = "Training",
    placement_timeout: float = _PLACEMENT_TIMEOUT_S,
    check: Callable[[], None] | None = None,
) -> Iterator[Group]:
    """Have workers for the length of a ``with`` block.

    Leaving it by an exception ends them all at once, so an interrupt frees what they held; after
    work that was done they are kept for the next call.

    Parameters
    ----------
    purpose:
        What they are for, as the start of a sentence.
    placement_timeout:
        Seconds to wait for CPUs and GPUs that others use.
    check:
        Called a few times a second while waiting; may raise.

    Raises
    ------
    ConfigurationError
        The CPUs or GPUs stayed in use, or a setting cannot be used.
    TrainingError
        A worker did not come up.
    """
    idle_seconds()  # a setting that cannot be used is refused before anything starts
    group = Group(layout)
    done = False
    try:
        pool.hub()
        group.reserve(placement_timeout, purpose, check)
        group.fill(_START_TIMEOUT_S, check)
        yield group
        done = True
    finally:
        group.end(keep=done)
