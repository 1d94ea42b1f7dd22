"""Hold this process's connection to its runtime's Ray: made once a boot, and taken back cleanly.

Used by the watcher's thread, which connects, and by the main thread, which lets go.
"""

from __future__ import annotations

import contextlib
import threading
import time
from pathlib import Path
from typing import TYPE_CHECKING

from heliostat._cluster.early_calls import EarlyCalls
from heliostat._cluster.worker_output import WorkerOutput
from heliostat._messages.cluster import BootMode, Provider

if TYPE_CHECKING:
    from collections.abc import Callable

    from heliostat._messages.runtime import RuntimeStatus

_SECONDS_TO_FINISH_CONNECTING = 2.0
_SECONDS_FOR_A_WORKER = 3.0
_POLL_SECONDS = 0.01


class Connection:
    """Connects to each boot of one runtime, and to nothing once it is closed."""

    def __init__(
        self, token_path: Path | None, *, local: bool, wait_for_address: Callable[[], str | None]
    ) -> None:
        self._token_path, self._local = token_path, local
        self._early_calls = EarlyCalls(wait_for_address, self._follow_output)
        self._changing = threading.Lock()
        self._closed = False
        self.holds = False
        """Whether Ray may be connected to a boot of this runtime."""
        self._boot: tuple[str, float] | None = None
        self._logs: Path | None = None
        self._output: WorkerOutput | None = None

    def prepare(self) -> None:
        """Set what Ray reads from the environment; early Ray calls wait from here on."""
        from heliostat._cluster import driver

        driver.prepare(self._token_path, local=self._local)
        self._early_calls.hold()

    def release_early_calls(self) -> None:
        """Let early calls go on: this process is connected, or will not be."""
        self._early_calls.release()

    def is_to(self, status: RuntimeStatus) -> bool:
        """Whether this process is, or was, a driver of the runtime as ``status`` has it."""
        return self._boot is not None and self._boot == _boot_of(status)

    def connect(self, status: RuntimeStatus) -> str | None:
        """Become a driver of the runtime; returns the address of another cluster if we are its.

        Whoever called ``ray.init`` with an address of their own keeps what they have.
        """
        from heliostat._cluster import driver

        with self._changing:
            if self._closed or status.address is None:
                return None
            self._stop_output()
            driver.disconnect(self._boot[0] if self._boot else None)
            self._boot = _boot_of(status)
            self.holds = True
            other = driver.connected_to()
            if other is not None and other != status.address:
                return other
            local = status.provider is Provider.LOCAL
            if status.boot_mode is BootMode.SLIM:
                _wait_for_first_worker(Path(status.log_dir))
            driver.connect(status.address, show_output=not local)
            _share_settings()
            self._logs = Path(status.log_dir) if local else None
            self._follow_output()
            return None

    def disconnect(self) -> None:
        """Let go of Ray, dead or alive. Raises RuntimeUnavailableError while a thread waits in it."""
        from heliostat._cluster import driver

        self._stop_output()
        if self._boot is not None:
            driver.disconnect(self._boot[0])
        self.holds = False

    def close(self) -> None:
        """Connect no more, and put back what Ray reads from the environment."""
        from heliostat._cluster import driver

        # A connection that is being made to a cluster that just ended may never be finished.
        got = self._changing.acquire(timeout=_SECONDS_TO_FINISH_CONNECTING)
        self._closed = True
        if got:
            self._changing.release()
        with contextlib.suppress(Exception):
            self.disconnect()
        driver.restore()

    def _follow_output(self) -> None:
        """Show what the tasks of our present job print."""
        from heliostat._cluster import driver

        job_id = driver.job_id()
        if self._logs is None or job_id is None:
            return
        if self._output is None or self._output.job_id != job_id:
            self._stop_output()
            self._output = WorkerOutput(self._logs, job_id)
            self._output.start()

    def _stop_output(self) -> None:
        output, self._output = self._output, None
        if output is not None:
            output.stop()


def _wait_for_first_worker(logs: Path) -> None:
    """Return when the worker that is started ahead is there: it opens its log then.

    Ray has the first driver wait for it, with the GIL held; nothing in a kernel would run.
    """
    deadline = time.monotonic() + _SECONDS_FOR_A_WORKER
    while time.monotonic() < deadline and not any(logs.glob("worker-*.out")):
        time.sleep(_POLL_SECONDS)


def _share_settings() -> None:
    from heliostat.context import share_settings

    share_settings()


def _boot_of(status: RuntimeStatus) -> tuple[str, float] | None:
    return None if status.address is None else (status.address, status.started_at)
