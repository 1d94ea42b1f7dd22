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

from heliostat import _calls as calls
from heliostat._client import SupervisorClient
from heliostat._connection import Connection
from heliostat._messages.runtime import DriverEvent, Failure, RuntimeState, RuntimeStatus
from heliostat._supervisor.config import LOG, SOCKET, SupervisorConfig
from heliostat._tail import tail_if_any
from heliostat.exceptions import (
    BootError,
    HeliostatError,
    RuntimeLostError,
    RuntimeUnavailableError,
    error_from_body,
)

if TYPE_CHECKING:
    from collections.abc import Callable

_LONG_POLL_SECONDS = 30.0
_START_POLL_SECONDS = 0.01
_RETRY_SECONDS = 1.0
_SECONDS_TO_LET_GO = 4.0
_RETRY_LET_GO_SECONDS = 0.05
_LINES_TOLD = 20


class Watcher:
    """Knows the latest status. Safe to use from every thread."""

    def __init__(self, config: SupervisorConfig, process: subprocess.Popen[bytes]) -> None:
        self._config, self._process = config, process
        self.client = SupervisorClient(config.path / SOCKET)
        self._changed = threading.Condition()
        self._latest: RuntimeStatus | None = None
        self._lost: HeliostatError | None = None
        self._stopping = False
        self._unsaid: HeliostatError | None = None
        self._refused: tuple[int, HeliostatError] | None = None
        self._connection = Connection(
            self._token(), local=config.address is None, wait_for_address=self._wait_for_address
        )
        self._thread = threading.Thread(target=self._run, name="heliostat-watch", daemon=True)

    def start(self) -> None:
        """Begin to follow. Early Ray calls wait from here on."""
        self._connection.prepare()
        self._thread.start()

    def latest(self) -> RuntimeStatus | None:
        """Return the latest status known; ``None`` before the first."""
        return self._latest

    def is_connected(self) -> bool:
        """Whether this process is a driver of the runtime as it is now."""
        latest = self._latest
        return latest is not None and latest.state.usable and self._connection.is_to(latest)

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
                if self._refused is not None and self._refused[0] >= since:
                    raise self._refused[1]
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
        """The end of the supervisor that comes now was asked for; let go of Ray."""
        self._stopping = True
        self._connection.close()

    def disconnect(self) -> None:
        """Let go of Ray until the next boot. Raises RuntimeUnavailableError."""
        self._connection.disconnect()
        self._note_driver(connected=False)

    def let_go(self) -> None:
        """Let go of a Ray that is dead: for good where the supervisor is gone too."""
        if self._lost is not None:
            self._connection.close()
        else:
            self._connection.disconnect()

    def clean_up(self) -> None:
        """Remove what a supervisor that had to be killed left behind."""
        _clean_up(self._config.runtime_id)

    def _run(self) -> None:
        from heliostat._cluster.fast_import import import_ray

        try:
            # Once the supervisor listens, it imports Ray itself: ours is not late, and until then
            # a kernel has its first request to answer.
            self._next_status()
            import_ray()
            self._follow(until_connected=True)
            self._connection.release_early_calls()
            while self._lost is None:
                self._follow(until_connected=False)
        except HeliostatError as error:
            self._lose(error)
        except Exception as error:
            message = f"The runtime cannot be followed any more: {error}."
            lost = RuntimeLostError(message, "%runtime log tells more.")
            lost.__cause__ = error
            self._lose(lost)
        finally:
            self._connection.release_early_calls()

    def _token(self) -> Path | None:
        if self._config.address is None:
            return self._config.path / "token"
        return None if self._config.token_path is None else Path(self._config.token_path)

    def _wait_for_address(self) -> str | None:
        """For ``ray.init()``: where the runtime is, once it is up; ``None`` if there is none."""
        if self._lost is not None or self._stopping:
            return None
        try:
            return self.wait().address
        except HeliostatError:
            return None

    def _follow(self, *, until_connected: bool) -> None:
        """Take in one change after the other; connect to each new boot."""
        while True:
            status = self._next_status()
            if status.state.usable and not self._connection.is_to(status):
                self._note_driver(connected=True)
                self._connect(status)
            elif status.state is RuntimeState.STARTING and self._connection.holds:
                self._let_go_of_former()
            with self._changed:
                before, self._latest = self._latest, status
                if status.state is RuntimeState.FAILED and (before is None or before.failure is None):
                    self._note_failure(status, was_up=before is not None and before.address is not None)
                self._changed.notify_all()
            settled = self.is_connected() or self._refused or status.state is RuntimeState.FAILED
            if until_connected and settled:
                return

    def _next_status(self) -> RuntimeStatus:
        while True:
            try:
                if self._latest is None:
                    return self.client.ask(calls.status())
                return self.client.ask(calls.status(after=self._latest.version, wait=_LONG_POLL_SECONDS))
            except RuntimeLostError:
                if self._process.poll() is not None:
                    raise self._end() from None
            # It is on its way up, or busy, or we are out of descriptors: as long as it lives, ask on.
            time.sleep(_START_POLL_SECONDS if self._latest is None else _RETRY_SECONDS)

    def _let_go_of_former(self) -> None:
        """Somebody else restarts the runtime: leave while it is still there, which is quick."""
        message = "The runtime is being restarted: what ran on it is lost."
        lost = RuntimeLostError(message, "Your variables are safe; run the cell again.")
        deadline, told = time.monotonic() + _SECONDS_TO_LET_GO, False
        while time.monotonic() < deadline:
            try:
                self.disconnect()
            except RuntimeUnavailableError:
                # A cell waits in Ray: it is told, and Ray looks for signals twice a second.
                if not told:
                    self._tell(lost)
                told = True
                time.sleep(_RETRY_LET_GO_SECONDS)
            else:
                return

    def _note_driver(self, *, connected: bool) -> None:
        # A courtesy to a supervisor that restarts: without it, it waits for us in vain.
        with contextlib.suppress(HeliostatError):
            self.client.ask(calls.note_driver(DriverEvent(connected=connected)))

    def _connect(self, status: RuntimeStatus) -> None:
        try:
            other = self._connection.connect(status)
        except Exception as error:
            message = f"This process could not connect to its runtime: {error}."
            refused = RuntimeLostError(message, "Try %runtime restart; %runtime log tells more.")
            refused.__cause__ = error
            self._refused = (status.version, refused)
            self._tell(refused)
            return
        self._refused = None
        if other is not None:
            message = f"Ray in this process stays connected to {other}, not to the runtime."
            self._tell(RuntimeUnavailableError(message, "ray.shutdown() and ray.init() change that."))

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
        rescue.free_main_thread(error, self._take_back, lambda: self._unsaid is not error or self._stopping)

    def _take_back(self) -> None:
        self._unsaid = None

    def _end(self) -> HeliostatError:
        """Say why the supervisor is gone, and clean up after it if it could not."""
        with contextlib.suppress(subprocess.TimeoutExpired):
            self._process.wait(5.0)
        if self._stopping:
            message = "The runtime was stopped."
            return RuntimeLostError(message, "Start a new one with %runtime start.")
        if self._process.returncode == 0:
            # A supervisor ends well only when it was told to; the word of why may come too late.
            message = "The runtime was stopped by somebody else."
            return RuntimeLostError(message, "Start a new one with %runtime start.")
        tail = tail_if_any(self._config.path / LOG, _LINES_TOLD)
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


def _clean_up(runtime_id: str) -> None:
    from heliostat._supervisor.manifest import dead_manifests
    from heliostat._supervisor.reaper import reap_one

    for manifest in dead_manifests():
        if manifest.runtime_id == runtime_id:
            reap_one(manifest)
