"""Follow a runtime from its owner: know its state, be connected when it is up, notice its end.

One thread for each runtime. It imports Ray while the supervisor boots it, so both are ready
together, and it holds early Ray calls of other threads until the runtime is there.
"""

from __future__ import annotations

import contextlib
import subprocess
import threading
import time
from pathlib import Path
from typing import TYPE_CHECKING

from heliostat._client import SupervisorClient
from heliostat._cluster.early_calls import EarlyCalls
from heliostat._cluster.worker_output import WorkerOutput
from heliostat._messages import Failure, Provider, RuntimeState, RuntimeStatus
from heliostat._supervisor.config import LOG, SOCKET, SupervisorConfig
from heliostat.exceptions import BootError, HeliostatError, RuntimeLostError, error_from_body

if TYPE_CHECKING:
    from collections.abc import Callable

_LONG_POLL_SECONDS = 30.0
_START_POLL_SECONDS = 0.01
_SECONDS_TO_LISTEN = 60.0


class Watcher:
    """Knows the latest status. Safe to use from every thread."""

    def __init__(self, config: SupervisorConfig, process: subprocess.Popen[bytes]) -> None:
        self._config, self._process = config, process
        self.client = SupervisorClient(config.path / SOCKET)
        self._changed = threading.Condition()
        self._latest: RuntimeStatus | None = None
        self._lost: HeliostatError | None = None
        self._connected: tuple[str, float] | None = None
        self._stopping = False
        self._output: WorkerOutput | None = None
        self._unsaid: HeliostatError | None = None
        self._early_calls = EarlyCalls(self._wait_for_init)
        self._thread = threading.Thread(target=self._run, name="heliostat-watch", daemon=True)

    def start(self) -> None:
        """Begin to follow. Early Ray calls wait from here on."""
        from heliostat._cluster import driver

        driver.prepare(self._token(), local=self._config.address is None)
        self._early_calls.hold()
        self._thread.start()

    def latest(self) -> RuntimeStatus | None:
        """Return the latest status known; ``None`` before the first."""
        return self._latest

    def is_connected(self) -> bool:
        """Whether this process is a driver of the runtime as it is now."""
        latest = self._latest
        return latest is not None and latest.state.usable and self._connected == _boot_of(latest)

    def is_dead(self) -> bool:
        """Whether the cluster that this process was connected to has failed."""
        latest = self._latest
        return self._lost is not None or (latest is not None and latest.state is RuntimeState.FAILED)

    def wait(
        self,
        timeout: float | None = None,
        progress: Callable[[RuntimeStatus], None] | None = None,
        since: int = 0,
    ) -> RuntimeStatus:
        """Return once connected, with a status of version ``since`` or later.

        Raises BootError, RuntimeLostError, TimeoutError.
        """
        deadline = None if timeout is None else time.monotonic() + timeout
        shown = since - 1
        while True:
            with self._changed:
                status = self._latest
                if self._lost is not None:
                    raise self._lost
                done = status is not None and status.version >= since and self.is_connected()
                if not done and (status is None or status.version <= shown):
                    remaining = None if deadline is None else deadline - time.monotonic()
                    if remaining is not None and remaining <= 0:
                        message = f"The runtime was not ready after {timeout:g} s."
                        raise TimeoutError(message)
                    self._changed.wait(remaining)
                    continue
            if status is None:
                continue
            if progress is not None and status.version > shown:
                progress(status)
            shown = status.version
            if status.failure is not None:
                raise _error_of(status.failure)
            if done:
                return status

    def take_notice(self) -> HeliostatError | None:
        """Return what the user has not been told yet, once."""
        unsaid, self._unsaid = self._unsaid, None
        return unsaid

    def expect_end(self) -> None:
        """The end of the supervisor that comes now was asked for."""
        self._stopping = True
        self._stop_output()

    def _run(self) -> None:
        from heliostat._cluster.fast_import import import_ray

        try:
            # Once the supervisor listens, it imports Ray itself: ours is not late, and until then
            # a kernel has its first request to answer.
            self._next_status()
            import_ray()
            self._follow(until_connected=True)
            self._early_calls.release()
            while self._lost is None:
                self._follow(until_connected=False)
        except HeliostatError as error:
            self._lose(error)
        except Exception as error:
            message = f"This process could not connect to its runtime: {error}."
            lost = RuntimeLostError(message, "Try %runtime restart; %runtime log tells more.")
            lost.__cause__ = error
            self._lose(lost)
        finally:
            self._early_calls.release()

    def _token(self) -> Path | None:
        if self._config.address is None:
            return self._config.path / "token"
        return None if self._config.token_path is None else Path(self._config.token_path)

    def _wait_for_init(self) -> bool:
        """For ``ray.init()``: whether there is a runtime to use, once it is up."""
        if self._lost is not None or self._stopping:
            return False
        try:
            self.wait()
        except HeliostatError:
            return False
        return True

    def _follow(self, *, until_connected: bool) -> None:
        """Take in one change after the other; connect to each new boot."""
        while True:
            status = self._next_status()
            if status.state.usable and self._connected != _boot_of(status):
                self._connect(status)
            with self._changed:
                before, self._latest = self._latest, status
                if status.state is RuntimeState.FAILED and (before is None or before.failure is None):
                    self._note_failure(status, was_up=before is not None and before.address is not None)
                self._changed.notify_all()
            if until_connected and (self.is_connected() or status.state is RuntimeState.FAILED):
                return

    def _next_status(self) -> RuntimeStatus:
        deadline = time.monotonic() + _SECONDS_TO_LISTEN
        while True:
            try:
                if self._latest is None:
                    return self.client.status()
                return self.client.status(after=self._latest.version, wait=_LONG_POLL_SECONDS)
            except RuntimeLostError:
                starting = self._latest is None and time.monotonic() < deadline
                if not starting or self._process.poll() is not None:
                    raise self._end() from None
            time.sleep(_START_POLL_SECONDS)

    def _connect(self, status: RuntimeStatus) -> None:
        from heliostat._cluster import driver

        if status.address is None:
            return
        self._stop_output()
        driver.disconnect()
        local = status.provider is Provider.LOCAL
        job_id = driver.connect(status.address, show_output=not local)
        self._connected = _boot_of(status)
        if local:
            self._output = WorkerOutput(Path(status.log_dir), job_id)
            self._output.start()

    def _stop_output(self) -> None:
        output, self._output = self._output, None
        if output is not None:
            output.stop()

    def _note_failure(self, status: RuntimeStatus, *, was_up: bool) -> None:
        failure = status.failure
        if failure is not None:
            error = _error_of(failure)
            if was_up:
                error = RuntimeLostError(error.message, error.action, **error.fields)
            self._tell(error)

    def _tell(self, error: HeliostatError) -> None:
        """Raise it in a cell that waits in Ray, or keep it for the next cell."""
        from heliostat._cluster import rescue

        self._unsaid = error
        rescue.free_main_thread(error, self._take_back)

    def _take_back(self) -> None:
        self._unsaid = None

    def _end(self) -> HeliostatError:
        """Say why the supervisor is gone, and clean up after it if it could not."""
        with contextlib.suppress(subprocess.TimeoutExpired):
            self._process.wait(5.0)
        if self._stopping:
            message = "The runtime was stopped."
            return RuntimeLostError(message, "Start a new one with %runtime start.")
        tail = _tail(self._config.path / LOG)
        _clean_up(self._config.runtime_id)
        if self._latest is None:
            message = f"The runtime's supervisor did not start: {tail[-1] if tail else 'it said nothing'}."
            return BootError(message, "Run heliostat doctor.", log_tail=tail)
        message = "The runtime is gone: its supervisor was killed or crashed."
        action = "Your variables are safe. Start a new one with %runtime start."
        return RuntimeLostError(message, action, log_tail=tail)

    def _lose(self, error: HeliostatError) -> None:
        with self._changed:
            self._lost = error
            self._changed.notify_all()
        if not self._stopping:
            self._tell(error)

    @property
    def lost(self) -> HeliostatError | None:
        """Why there is no supervisor any more; ``None`` while there is one."""
        return self._lost


def _error_of(failure: Failure) -> HeliostatError:
    return error_from_body(failure.error, failure.what, failure.action, {"log_tail": failure.log_tail})


def _boot_of(status: RuntimeStatus) -> tuple[str, float] | None:
    return None if status.address is None else (status.address, status.started_at)


def _tail(path: Path, lines: int = 20) -> list[str]:
    try:
        return path.read_text(errors="replace").splitlines()[-lines:]
    except OSError:
        return []


def _clean_up(runtime_id: str) -> None:
    from heliostat._supervisor.manifest import all_manifests, is_live
    from heliostat._supervisor.reaper import reap_one

    for manifest in all_manifests():
        if manifest.runtime_id == runtime_id and not is_live(manifest):
            reap_one(manifest)
