"""Bring a runtime up: boot Ray on this machine, or attach to a cluster that exists."""

from __future__ import annotations

import asyncio
import logging
from pathlib import Path
from typing import TYPE_CHECKING

from heliostat._cluster.attached import AttachedCluster
from heliostat._cluster.fast_import import import_ray
from heliostat._cluster.local import LocalCluster, in_place, slim_boot
from heliostat._messages.cluster import BootMode
from heliostat._messages.runtime import RuntimeState
from heliostat._supervisor import boot_policy
from heliostat._supervisor.config import RAY
from heliostat._supervisor.resizer import Resizer
from heliostat.exceptions import BootError

if TYPE_CHECKING:
    from collections.abc import Callable

    from heliostat._cluster.slim import NodeShape
    from heliostat._messages.resizing import ResizeOperation, ResizeTarget
    from heliostat._supervisor.supervisor import Supervisor

Cluster = LocalCluster | AttachedCluster

_log = logging.getLogger(__name__)
_SECONDS_TO_REACH_SIZE = 30.0


class Booter:
    """Boots for a supervisor, as often as it is asked to; ends in ``ready`` or raises."""

    def __init__(self, supervisor: Supervisor, on_resize: Callable[[ResizeOperation], None]) -> None:
        self._supervisor, self._on_resize = supervisor, on_resize
        self._loop = asyncio.get_running_loop()
        self._boots = 0

    def plan(self, target: ResizeTarget) -> boot_policy.BootPlan | None:
        """Say what would be booted; ``None`` where we attach. Raises ResizeError, BootError."""
        config, measuring = self._supervisor.config, self._supervisor.measuring
        if config.address is not None:
            return None
        limits = measuring.limits()
        around = boot_policy.look_around(config.path)
        self._supervisor.board.update(limits=limits)
        return boot_policy.plan_boot(target, limits, around, in_place=in_place())

    async def boot(self, target: ResizeTarget) -> Resizer | None:
        """Bring it up; returns what can resize it, or ``None`` where nothing may."""
        # The slow part of all that follows, off the loop: it has others to answer meanwhile.
        await self._supervisor.on_ray_thread(import_ray)
        plan = self.plan(target)
        if plan is None:
            await self._attach(str(self._supervisor.config.address))
            return None
        return await self._boot_local(plan)

    async def _boot_local(self, plan: boot_policy.BootPlan) -> Resizer:
        supervisor = self._supervisor
        cluster, mode = await self._boot_head(plan.shape)
        resizer = Resizer(cluster, plan.limits, supervisor.on_ray_thread, self._on_resize)
        await self._reach_size(cluster, resizer, plan)
        view = await supervisor.on_ray_thread(cluster.view)
        if supervisor.board.status.failure is not None:
            message = supervisor.board.status.failure.what
            raise BootError(message, "Try again with %runtime restart.")
        supervisor.board.move(
            RuntimeState.READY,
            "; ".join(["the runtime is ready", *plan.notes]),
            boot_mode=mode,
            address=cluster.address,
            log_dir=str(cluster.logs),
            resources=view.resources(),
        )
        return resizer

    async def _boot_head(self, shape: NodeShape) -> tuple[LocalCluster, BootMode]:
        """Boot the slim way, or Ray's own way where that cannot be done or fails."""
        if slim_boot():
            try:
                return await self._boot_with(BootMode.SLIM, shape), BootMode.SLIM
            except Exception:
                _log.exception("the slim boot failed; trying Ray's own")
                await self._supervisor.take_down()
        return await self._boot_with(BootMode.STOCK, shape), BootMode.STOCK

    async def _boot_with(self, mode: BootMode, shape: NodeShape) -> LocalCluster:
        self._boots += 1
        cluster = LocalCluster(self._supervisor.config.path / RAY, f"session_{self._boots}")
        self._supervisor.hold(cluster)
        await self._supervisor.on_ray_thread(lambda: cluster.boot(shape, mode, self._step))
        return cluster

    async def _reach_size(self, cluster: LocalCluster, resizer: Resizer, plan: boot_policy.BootPlan) -> None:
        wanted, shape = plan.wanted, plan.shape
        if (wanted.nodes, wanted.cpus, wanted.gpus) == (1, shape.cpus, shape.gpus):
            await self._supervisor.on_ray_thread(lambda: cluster.confine(int(wanted.cpus)))
            return
        if not await resizer.reach(wanted, _SECONDS_TO_REACH_SIZE):
            _log.warning("the size to boot with was not reached")
        self._supervisor.board.step("size reached")

    async def _attach(self, address: str) -> None:
        token = self._supervisor.config.token_path
        cluster = AttachedCluster(address, None if token is None else Path(token))
        self._supervisor.hold(cluster)
        view = await self._supervisor.on_ray_thread(lambda: cluster.attach(self._step))
        self._supervisor.board.move(
            RuntimeState.READY, f"attached to {address}", address=address, resources=view.resources()
        )

    def _step(self, name: str) -> None:
        """Note a step; called on Ray's thread."""
        self._loop.call_soon_threadsafe(self._supervisor.board.step, name)
