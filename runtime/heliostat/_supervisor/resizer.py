"""Carry out resizes: ask the policy what to do next, do it, look again, until it is reached."""

from __future__ import annotations

import asyncio
import functools
import logging
import time
import uuid
from typing import TYPE_CHECKING, Protocol, TypeVar

import msgspec

from heliostat._cluster.local import in_place
from heliostat._messages.resizing import ResizeOperation, ResizePlan, ResizeRequest, ResizeState, ResizeTarget
from heliostat._supervisor import resize_policy as policy
from heliostat._supervisor import wishes
from heliostat.exceptions import ResizeError, RuntimeUnavailableError

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from heliostat._cluster.control import ClusterView
    from heliostat._cluster.local import LocalCluster
    from heliostat._messages.cluster import Limits, Resources

_log = logging.getLogger(__name__)
TICK_SECONDS = 0.05
_T = TypeVar("_T")
DRAIN_SECONDS = 300.0
"""A drained node that still holds actors or objects after this is ended."""


class OnRayThread(Protocol):
    """Runs a call on the one thread that may speak with Ray."""

    def __call__(self, call: Callable[[], _T]) -> Awaitable[_T]: ...


class Resizer:
    """One resize at a time, on the supervisor's event loop; Ray is spoken to on its own thread."""

    def __init__(
        self,
        cluster: LocalCluster,
        limits: Limits,
        on_ray_thread: OnRayThread,
        publish: Callable[[ResizeOperation], None],
    ) -> None:
        self._cluster, self._limits = cluster, limits
        self._on_ray_thread, self._publish = on_ray_thread, publish
        self._task: asyncio.Task[None] | None = None
        self._settling: asyncio.Task[None] | None = None
        self._starting = asyncio.Lock()
        self._cancelled = self._stopped = False
        self.operation: ResizeOperation | None = None

    async def plan(self, target: ResizeTarget) -> ResizePlan:
        """Say what a resize would do. Raises ResizeError; changes nothing."""
        view = await self._view()
        wanted = self._complete(view, target)
        return policy.plan(view, wanted, await self._on_ray_thread(self._actors))

    async def start(self, request: ResizeRequest) -> ResizeOperation:
        """Begin a resize and return at once. Raises ResizeError, RuntimeUnavailableError."""
        async with self._starting:
            return await self._start(request)

    async def _start(self, request: ResizeRequest) -> ResizeOperation:
        if self._task is not None and not self._task.done():
            message = "A resize is running already."
            raise ResizeError(message, "Wait for it, or cancel it with %resize --cancel.")
        plan = await self.plan(request.target)
        if self._stopped:
            message = "The runtime is being taken down."
            raise RuntimeUnavailableError(message, "Ask again when it is ready.")
        if self._settling is not None:
            self._settling.cancel()
        self._cancelled = False
        self.operation = ResizeOperation(
            operation_id=uuid.uuid4().hex[:8],
            state=ResizeState.RUNNING,
            plan=plan,
            started_at=time.time(),
            ended_at=None,
            current=plan.current,
            waiting_for=[],
            message="",
        )
        if plan.empty:
            self._finish(ResizeState.DONE, "The runtime already has that size.")
            return self.operation
        self._publish(self.operation)
        self._task = asyncio.create_task(self._run(plan, request))
        return self.operation

    async def cancel(self) -> ResizeOperation:
        """Go back to the size before the running resize. Raises ResizeError if none runs."""
        if self._task is None or self._task.done() or self.operation is None:
            message = "No resize is running."
            raise ResizeError(message)
        self._cancelled = True
        await self._task
        return self.operation

    async def stop(self) -> None:
        """Give up; the runtime is being taken down."""
        self._stopped = True
        for task in (self._task, self._settling):
            if task is not None and not task.done():
                task.cancel()
        self._finish(ResizeState.FAILED, "The runtime was taken down during the resize.")

    async def reach(self, wanted: Resources, seconds: float) -> bool:
        """Bring the cluster to ``wanted``; ``False`` when ``seconds`` seconds were not enough."""
        return await self._approach(wanted, seconds, force=False, cancellable=False)

    async def _run(self, plan: ResizePlan, request: ResizeRequest) -> None:
        try:
            reached = await self._approach(
                plan.target, request.rollback_after_seconds, request.force, cancellable=True
            )
            if reached:
                self._finish(ResizeState.DONE, "The runtime has the size that was asked for.")
            else:
                await self._roll_back(plan, request)
            wanted = plan.target if reached else plan.current
        except Exception as error:
            _log.exception("a resize failed")
            self._finish(ResizeState.FAILED, f"The resize failed: {error}")
        else:
            self._settling = asyncio.create_task(self._settle(wanted))

    async def _roll_back(self, plan: ResizePlan, request: ResizeRequest) -> None:
        waited = "; ".join(self.operation.waiting_for) if self.operation else ""
        self._note(message="rolling back")
        back = await self._approach(plan.current, seconds=30.0, force=False, cancellable=False)
        now = "the runtime has its former size" if back else "the runtime is not back at its former size yet"
        if self._cancelled:
            self._finish(ResizeState.CANCELLED, f"Cancelled; {now}.")
            return
        reason = f"The size was not reached in {request.rollback_after_seconds:g} s"
        reason += f" (waiting for {waited})" if waited else ""
        self._finish(ResizeState.ROLLED_BACK, f"{reason}; {now}.")

    async def _approach(self, wanted: Resources, seconds: float, force: bool, cancellable: bool) -> bool:
        started = time.monotonic()
        while not (cancellable and self._cancelled):
            elapsed = time.monotonic() - started
            view = await self._view()
            progress = policy.Progress(
                elapsed, self._cluster.gpus_installed, DRAIN_SECONDS, force, in_place()
            )
            actions = policy.decide(view, wanted, progress)
            self._note(
                current=view.resources(),
                waiting_for=list(actions.waiting_for),
                state=ResizeState.WAITING if actions.waiting_for else ResizeState.RUNNING,
            )
            await self._on_ray_thread(functools.partial(self._act, actions))
            if actions.reached:
                await self._on_ray_thread(lambda: self._cluster.confine(int(wanted.cpus)))
                return True
            if elapsed > seconds:
                return False
            await asyncio.sleep(TICK_SECONDS)
        return False

    async def _settle(self, wanted: Resources) -> None:
        """Turn what is parked into a true shrink once CPUs stay free."""
        while self._cluster.parked_cpus and not self._stopped:
            view = await self._view()
            progress = policy.Progress(0.0, self._cluster.gpus_installed, DRAIN_SECONDS)
            actions = policy.decide(view, wanted, progress)
            await self._on_ray_thread(functools.partial(self._act, actions))
            await asyncio.sleep(1.0)

    def _act(self, actions: policy.Actions) -> None:
        if actions.head:
            self._cluster.set_head(actions.head)
        self._cluster.park(actions.park_cpus, actions.park_gpus)
        for _ in range(actions.add_nodes):
            self._cluster.add_node()
        for node_id in actions.drain:
            self._cluster.drain(node_id, DRAIN_SECONDS)
        for node_id in actions.kill:
            self._cluster.kill_node(node_id)
        self._cluster.forget_exited_nodes()

    def _complete(self, view: ClusterView, target: ResizeTarget) -> Resources:
        current = view.resources()
        if not in_place():
            target = wishes.without_in_place(view, target)
        wishes.refuse_object_store_change(current, target)
        return wishes.complete(current, target, self._limits)

    def _actors(self) -> dict[str, int] | None:
        control = self._cluster.control
        return dict(control.actors_by_node()) if control is not None else None

    async def _view(self) -> ClusterView:
        return await self._on_ray_thread(self._cluster.view)

    def _note(self, **changes: object) -> None:
        if self.operation is not None and not self.operation.state.finished:
            changed = msgspec.structs.replace(self.operation, **changes)
            if changed != self.operation:
                self.operation = changed
                self._publish(changed)

    def _finish(self, state: ResizeState, message: str) -> None:
        self._note(state=state, message=message, ended_at=time.time(), waiting_for=[])
