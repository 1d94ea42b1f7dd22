"""The runtime as the process that owns it sees it: wait, resize, look, stop.

Every method is a thin call of the supervisor's API, so the panel, the magics and this class cannot
disagree.
"""

from __future__ import annotations

import contextlib
import os
import subprocess
import time
from typing import TYPE_CHECKING

from heliostat import _calls as calls
from heliostat._cell_recorder import CellRecorder
from heliostat._messages.resizing import ResizeOperation, ResizePlan, ResizeRequest, ResizeTarget
from heliostat._messages.runtime import RestartRequest
from heliostat._messages.work import WorkChoice
from heliostat._progress import SUPERVISOR_VARIABLE
from heliostat._resizing import wait_for_resize
from heliostat._sizes import Count, Size, make_target
from heliostat._supervisor.config import LOG, SOCKET
from heliostat._tail import tail_if_any
from heliostat._watcher import Watcher
from heliostat._work_reporter import WorkReporter
from heliostat.exceptions import (
    ConfigurationError,
    HeliostatError,
    RuntimeLostError,
    RuntimeUnavailableError,
)

if TYPE_CHECKING:
    from collections.abc import Callable

    from heliostat._launcher import Launched
    from heliostat._messages.cluster import Node
    from heliostat._messages.runtime import RuntimeStatus
    from heliostat._messages.usage import CellAccount, Sample
    from heliostat._messages.work import Work

__all__ = ["Runtime"]

_SECONDS_TO_STOP = 10.0


class Runtime:
    """Handle of the runtime that belongs to this process."""

    def __init__(self, launched: Launched) -> None:
        self._config, self._process = launched.config, launched.process
        self._watcher = Watcher(launched.config, launched.process)
        self._client = self._watcher.client
        self._cells = CellRecorder(self._client, lambda: self.alive)
        self._work = WorkReporter(self._client, lambda: self._cells.running)
        self._watcher.start()
        os.environ[SUPERVISOR_VARIABLE] = str(self._config.path / SOCKET)

    @property
    def runtime_id(self) -> str:
        """Unique name of the runtime."""
        return self._config.runtime_id

    @property
    def alive(self) -> bool:
        """Whether the supervisor is there, in whatever state the runtime is."""
        return self._watcher.lost is None and self._process.poll() is None

    @property
    def failed(self) -> bool:
        """Whether the runtime has failed, by what is known here; the supervisor may still live."""
        return self._watcher.is_dead()

    @property
    def known(self) -> RuntimeStatus | None:
        """The status as it was last heard, without asking; ``None`` before the first."""
        return self._watcher.latest()

    def status(self) -> RuntimeStatus:
        """What the runtime is doing now; one round trip to the supervisor.

        Raises
        ------
        RuntimeLostError
            The supervisor is gone.
        """
        if self._watcher.lost is not None:
            raise self._watcher.lost
        latest = self._watcher.latest()
        try:
            return self._client.ask(calls.status())
        except RuntimeLostError:
            if latest is None and self._process.poll() is None:
                # It was spawned a moment ago and does not listen yet.
                return self._wait_for_first_status()
            raise

    def wait(
        self, timeout: float | None = None, progress: Callable[[RuntimeStatus], None] | None = None
    ) -> RuntimeStatus:
        """Return when the runtime is usable and this process is connected to its Ray.

        ``progress`` is called with each new status while waiting.

        Raises
        ------
        BootError
            The runtime failed.
        TimeoutError
            It was not ready after ``timeout`` seconds; it goes on booting.
        """
        return self._watcher.wait(timeout, progress)

    def nodes(self) -> list[Node]:
        """The Ray nodes, head first."""
        return self._client.ask(calls.nodes())

    def samples(self, since: float = 0.0) -> list[Sample]:
        """Readings taken after ``since`` (Unix seconds), oldest first; at most 15 minutes."""
        return self._client.ask(calls.samples(since))

    def cells(self) -> list[CellAccount]:
        """What each cell used so far, oldest first."""
        return self._client.ask(calls.cells())

    def work(self) -> list[Work]:
        """The long work of this process and of its scripts (trainings, cells, queries), oldest first."""
        return self._client.ask(calls.work())

    def cancel_work(self, task_id: str) -> None:
        """Have a piece of work stop. Raises ConfigurationError where there is none that runs."""
        self._client.ask(calls.cancel_work(WorkChoice(task_id=task_id)))

    def work_log(self, task_id: str, lines: int = 100) -> list[str]:
        """Last lines of the log of a piece of work. Raises ConfigurationError where it keeps none."""
        return self._client.ask(calls.work_log(task_id, lines))

    def plan(
        self,
        target: ResizeTarget | None = None,
        *,
        cpus: Count = None,
        gpus: Count = None,
        memory: Size = None,
        nodes: Count = None,
    ) -> ResizePlan:
        """What ``resize`` with the same sizes would do; changes nothing. Raises ResizeError."""
        return self._client.ask(
            calls.plan(target or make_target(cpus=cpus, gpus=gpus, memory=memory, nodes=nodes))
        )

    def resize(
        self,
        target: ResizeTarget | None = None,
        *,
        cpus: Count = None,
        gpus: Count = None,
        memory: Size = None,
        nodes: Count = None,
        wait: bool = True,
        rollback_after_seconds: float = 720.0,
        minimum_nodes: int | None = None,
        force: bool = False,
        progress: Callable[[ResizeOperation], None] | None = None,
    ) -> ResizeOperation:
        """Bring the runtime to another size; totals that are not given stay as they are.

        Parameters
        ----------
        target:
            A target that is made already, in place of the sizes.
        cpus, gpus, nodes:
            Totals of the runtime.
        memory:
            What tasks may reserve: bytes, or text such as ``"4GiB"``.
        wait:
            Return when the size is reached. With ``False`` the resize goes on behind the caller.
        rollback_after_seconds:
            After this the runtime goes back to its former size.
        minimum_nodes:
            Return as soon as this many nodes are there.
        force:
            Shrink at once, ending what is in the way, instead of waiting for it.
        progress:
            Called with the operation each time it changes.

        Raises
        ------
        ResizeError
            It cannot be had; the runtime is as it was.
        ResizeTimeoutError
            It was not reached in time, and the runtime has its former size again.
        """
        if not rollback_after_seconds > 0:
            message = f"rollback_after_seconds is {rollback_after_seconds!r}, which is not a time to wait."
            raise ConfigurationError(message, "Give seconds above 0.")
        request = ResizeRequest(
            target=target or make_target(cpus=cpus, gpus=gpus, memory=memory, nodes=nodes),
            rollback_after_seconds=float(rollback_after_seconds),
            force=force,
        )
        operation = self._client.ask(calls.resize(request))
        if not wait:
            return operation
        return wait_for_resize(self._client, operation, minimum_nodes, progress)

    def cancel_resize(self) -> ResizeOperation:
        """Stop the running resize and go back to the size before it. Raises ResizeError."""
        return self._client.ask(calls.cancel_resize())

    def restart(self, target: ResizeTarget | None = None) -> None:
        """Take Ray down and boot it again, with other sizes if given. Variables stay.

        Raises
        ------
        ResizeError
            The sizes cannot be had; the runtime goes on as it was.
        BootError
            It did not come up again.
        """
        wanted = target if target is not None else ResizeTarget()
        self._client.ask(calls.restart(RestartRequest(target=wanted, check_only=True)))
        self._watcher.disconnect()
        restarted = self._client.ask(calls.restart(RestartRequest(target=wanted)))
        self._watcher.wait(60.0, since=restarted.version)

    def stop(self) -> None:
        """Take the runtime down; returns when its processes are gone."""
        self._watcher.expect_end()
        os.environ.pop(SUPERVISOR_VARIABLE, None)
        self._work.close()
        self._cells.close()
        with contextlib.suppress(HeliostatError):
            self._client.ask(calls.stop())
        try:
            self._process.wait(_SECONDS_TO_STOP)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
            self._watcher.clean_up()

    def log_tail(self, lines: int = 50) -> list[str]:
        """Last lines of the supervisor's log; empty when it was cleaned up."""
        return tail_if_any(self._config.path / LOG, lines)

    def cell_started(self, cell_id: str) -> None:
        """Note that a cell began; returns at once and never fails."""
        self._cells.started(cell_id)

    def cell_ended(self, cell_id: str) -> None:
        """Note that a cell ended; returns at once and never fails."""
        self._cells.ended(cell_id)

    def notice(self) -> str | None:
        """Something about the runtime that the user must hear, once."""
        said = self._watcher.take_notice()
        return None if said is None else str(said)

    def let_go_if_dead(self) -> None:
        """Shut down a Ray whose cluster is gone, so that calls of it fail instead of hanging.

        Call between cells, from the main thread. Takes 5 s then, and nothing otherwise.
        """
        if self._watcher.is_dead():
            with contextlib.suppress(RuntimeUnavailableError):
                self._watcher.let_go()

    def _wait_for_first_status(self) -> RuntimeStatus:
        deadline = time.monotonic() + _SECONDS_TO_STOP
        while time.monotonic() < deadline and self.alive:
            with contextlib.suppress(RuntimeLostError):
                return self._client.ask(calls.status())
            time.sleep(0.01)
        return self._client.ask(calls.status())
