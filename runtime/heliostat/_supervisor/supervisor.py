"""The life of a runtime: boot, serve, watch, restart, take down."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import signal
import time
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, TypeVar

import msgspec

from heliostat._cluster.local import LocalCluster
from heliostat._messages.runtime import Failure, RuntimeState
from heliostat._supervisor.booter import Booter
from heliostat._supervisor.config import LOG, RAY, SupervisorConfig
from heliostat._supervisor.manifest import own_manifest, remove_manifest, write_manifest
from heliostat._supervisor.measuring import Measuring
from heliostat._supervisor.processes import (
    collect_exited,
    describe_exit,
    end_descendants,
)
from heliostat._supervisor.reaper import reap, remove_directory
from heliostat._supervisor.state import StatusBoard, first_status
from heliostat._supervisor.watch import owner_gone
from heliostat._supervisor.work import WorkList
from heliostat._tail import tail_if_any
from heliostat.exceptions import BootError, HeliostatError, RuntimeUnavailableError

if TYPE_CHECKING:
    from collections.abc import Callable

    from heliostat._cluster.control import ClusterView
    from heliostat._messages.resizing import ResizeOperation, ResizeTarget
    from heliostat._supervisor.booter import Cluster
    from heliostat._supervisor.resizer import Resizer

_log = logging.getLogger(__name__)
_T = TypeVar("_T")
_SECONDS_TO_END = 8.0
_LINES_TOLD = 20
_SECONDS_TO_LET_GO = 5.0
_SAFE = "Your variables are safe. Boot it again with %runtime restart."


class Supervisor:
    """Owns one runtime from the first step to the last process.

    Lives on an event loop in the main thread. Everything that speaks with Ray runs on one other
    thread, which lives as long as this process because Ray's daemons die with it.
    """

    def __init__(self, config: SupervisorConfig) -> None:
        self.config = config
        self._loop = asyncio.get_running_loop()
        self._ray_thread = ThreadPoolExecutor(1, thread_name_prefix="ray")
        self._stop = asyncio.Event()
        self._booting = asyncio.Lock()
        self._owner_let_go = asyncio.Event()
        self._owner_let_go.set()
        self._target = config.target
        self._taking_down: asyncio.Task[None] | None = None
        self._cluster: Cluster | None = None
        self.resizer: Resizer | None = None
        self.board = StatusBoard(first_status(config))
        self.work = WorkList()
        self.measuring = Measuring(config, self._ray_use, self.work.names)
        self._booter = Booter(self, self._on_resize)

    # -- life ---------------------------------------------------------------------------------

    async def run(self) -> None:
        """Serve until the owner is gone or somebody asks to stop; then leave nothing behind."""
        for number in (signal.SIGTERM, signal.SIGHUP):
            self._loop.add_signal_handler(number, self._stop.set)
        # An interrupt is meant for the owner's cell, never for the runtime.
        signal.signal(signal.SIGINT, signal.SIG_IGN)
        self._loop.add_signal_handler(signal.SIGCHLD, self._on_child_exit)
        write_manifest(own_manifest(self.config))
        self.board.step("supervisor up")
        tasks = [
            asyncio.create_task(self.boot()),
            asyncio.create_task(self._watch_owner()),
            asyncio.create_task(self.measuring.run()),
            asyncio.create_task(asyncio.to_thread(_reap_quietly)),
        ]
        await self._stop.wait()
        # While Ray boots it may hold the GIL for half a minute; the kernel's alarm needs none.
        signal.setitimer(signal.ITIMER_REAL, _SECONDS_TO_END)
        self.board.move(RuntimeState.STOPPING, self.board.status.reason)
        for task in tasks:
            task.cancel()
        await self.take_down()
        self.board.move(RuntimeState.STOPPED, self.board.status.reason)

    def request_stop(self, reason: str) -> None:
        """Begin to take the runtime down."""
        self.board.update(reason=reason)
        self._stop.set()

    async def take_down(self) -> None:
        """End every process that was started here."""
        if self.resizer is not None:
            await self.resizer.stop()
        cluster, self._cluster = self._cluster, None
        if cluster is not None:
            cluster.close()
        ended = await asyncio.to_thread(end_descendants)
        _log.info("ended %d processes", ended)

    def forget(self) -> None:
        """Remove manifest and directory: the very last thing."""
        with contextlib.suppress(HeliostatError, OSError):
            remove_manifest(self.config.runtime_id)
        remove_directory(self.config.path)

    async def _watch_owner(self) -> None:
        await owner_gone(self.config.owner)
        self.request_stop(f"the owner (pid {self.config.owner.pid}) is gone")

    # -- boot ---------------------------------------------------------------------------------

    async def boot(self) -> None:
        """Boot or attach; ends in ``ready`` or ``failed``, never in an exception."""
        async with self._booting:
            await self._boot()

    async def _boot(self) -> None:
        try:
            self.resizer = await self._booter.boot(self._target)
        except HeliostatError as error:
            unavailable = isinstance(error, RuntimeUnavailableError)
            self._fail(error.message, error.action, type(error) if unavailable else BootError)
        except Exception as error:
            _log.exception("the boot failed")
            self._fail(f"The runtime did not come up: {error}", "See %runtime log, and run heliostat doctor.")
        else:
            return
        await self.take_down()

    async def restart(self, target: ResizeTarget) -> None:
        """Take Ray down and boot it again. Raises ResizeError before anything is touched."""
        chosen = self.check_restart(target)
        async with self._booting:
            self._target = chosen
            await self._boot_again()

    def check_restart(self, target: ResizeTarget) -> ResizeTarget:
        """Say with what a restart would boot: the sizes given, else those of the boot before.

        Raises
        ------
        ResizeError, BootError
            They cannot be had.
        RuntimeUnavailableError
            The runtime is being taken down.
        """
        if self._stop.is_set():
            message = "The runtime is being taken down."
            raise RuntimeUnavailableError(message, "Start a new one with %runtime start.")
        chosen = _merge(self._target, target)
        self._booter.plan(chosen)
        return chosen

    def note_driver(self, *, connected: bool) -> None:
        """Remember whether the owner is connected to Ray, or is just connecting."""
        if connected:
            self._owner_let_go.clear()
        else:
            self._owner_let_go.set()

    async def _boot_again(self) -> None:
        self.board.move(
            RuntimeState.STARTING,
            "the runtime is booting again",
            started_at=time.time(),
            steps=[],
            address=None,
            resources=None,
            resize=None,
        )
        # A driver whose cluster goes away waits for it for a minute, holding up its process.
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(self._owner_let_go.wait(), _SECONDS_TO_LET_GO)
        await self.take_down()
        # Objects that were spilled to disk go with the boot that they belong to.
        await asyncio.to_thread(remove_directory, self.config.path / RAY)
        self.board.step("former runtime gone")
        await self._boot()

    # -- events -------------------------------------------------------------------------------

    def _on_child_exit(self) -> None:
        exited = collect_exited()
        cluster = self._cluster
        daemons = cluster.daemons() if cluster is not None else {}
        for pid, status in exited.items():
            if pid in daemons and not self._stop.is_set():
                self._on_daemon_exit(daemons[pid], describe_exit(status))

    def _on_daemon_exit(self, name: str, how: str) -> None:
        _log.error("%s %s", name, how)
        if "of the node" in name:
            self._on_node_exit(name, how)
        elif self.board.status.state is not RuntimeState.FAILED:
            self._fail(f"{name} {how}.", _SAFE)
            self._taking_down = asyncio.create_task(self._take_down_failed())

    async def _take_down_failed(self) -> None:
        """End what is left of a failed cluster; not under the feet of a boot, which does so itself."""
        async with self._booting:
            if self.board.status.state is RuntimeState.FAILED:
                await self.take_down()

    def _on_node_exit(self, name: str, how: str) -> None:
        resizing = self.resizer is not None and self.resizer.operation is not None
        if resizing and self.board.status.state is RuntimeState.RESIZING:
            return
        cluster = self._cluster
        if isinstance(cluster, LocalCluster):
            cluster.forget_exited_nodes()
        self.board.move(RuntimeState.DEGRADED, f"{name} {how}; add it again with %resize nodes=N")

    def _on_resize(self, operation: ResizeOperation) -> None:
        state = self.board.status.state
        changes = {"resize": operation, "resources": operation.current}
        if operation.state.finished and state is RuntimeState.RESIZING:
            self.board.move(RuntimeState.READY, operation.message, **changes)
        elif not operation.state.finished and state is not RuntimeState.RESIZING:
            self.board.move(RuntimeState.RESIZING, operation.plan.command, **changes)
        else:
            self.board.update(**changes)

    def _fail(self, what: str, action: str, error: type[HeliostatError] = BootError) -> None:
        self.board.fail(Failure(what=what, action=action, log_tail=self._log_tail(), error=error.__name__))

    def _log_tail(self) -> list[str]:
        directory = self._cluster.logs if isinstance(self._cluster, LocalCluster) else None
        candidates = [directory / "raylet.out", directory / "gcs_server.out"] if directory else []
        tails = (tail_if_any(path, _LINES_TOLD) for path in [*candidates, self.config.path / LOG])
        return next(filter(None, tails), [])

    # -- Ray's thread -------------------------------------------------------------------------

    async def on_ray_thread(self, call: Callable[[], _T]) -> _T:
        """Run ``call`` on the one thread that may speak with Ray."""
        return await self._loop.run_in_executor(self._ray_thread, call)

    async def view(self) -> ClusterView | None:
        """The cluster as it is now; ``None`` while there is none."""
        cluster = self._cluster
        if cluster is None or not self.board.status.state.usable:
            return None
        return await self.on_ray_thread(cluster.view)

    def hold(self, cluster: Cluster) -> None:
        """Answer for ``cluster`` from now on; called before its first process is started."""
        self._cluster = cluster

    async def _ray_use(self) -> ClusterView | None:
        with contextlib.suppress(Exception):
            return await asyncio.wait_for(self.view(), timeout=2.0)
        return None


def _merge(former: ResizeTarget, asked: ResizeTarget) -> ResizeTarget:
    given = {name: value for name, value in msgspec.structs.asdict(asked).items() if value is not None}
    return msgspec.structs.replace(former, **given)


def _reap_quietly() -> None:
    try:
        for sentence in reap():
            _log.info("%s", sentence)
    except (HeliostatError, OSError):
        _log.exception("cleaning up after earlier runtimes failed")
