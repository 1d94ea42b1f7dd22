"""Who may use the warehouse file just now: many processes that read, or one that writes.

DuckDB locks a file to one writing process for as long as it has it open. So no process keeps it
open: a connection attaches the file when a statement needs it, for reading if that is enough,
and lets go when it has been idle for a moment, or at once after a statement when others wait.

Two lock files lie beside the warehouse, both held by ``flock``, which ends with the process
however it ends. ``.lock`` is held shared by readers and alone by a writer, as long as the file is
attached. ``.turn`` is held while waiting for the first; it keeps new readers behind a writer that
waits, and a holder sees by it that somebody waits. DuckDB's own locks would not do: the system
forgets them when one of two handles of a process on the same file is closed.
"""

from __future__ import annotations

import contextlib
import fcntl
import gc
import os
import threading
import time
import weakref
from enum import IntEnum
from typing import TYPE_CHECKING, Any

from heliostat._holders import holders, lock_message
from heliostat._locks import is_open_here, open_lock, try_lock
from heliostat._settings import guard_of
from heliostat.exceptions import ConfigurationError, WarehouseBusyError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

NAME = "warehouse"
"""Name of the file's database in SQL."""

_IDLE_SECONDS = 0.5
_POLL_SECONDS = 0.01
_CONFLICT = "Conflicting lock"


class Mode(IntEnum):
    """How the file is attached."""

    READ = 1
    WRITE = 2


class Lease:
    """The right of this process to use the warehouse file. Safe to use from several threads.

    Parameters
    ----------
    path:
        The file; its directory exists.
    side:
        A connection that nothing else uses, to attach and detach with.
    wait_seconds:
        How long to wait for others.

    Raises
    ------
    ConfigurationError
        The lock files cannot be made.
    """

    def __init__(self, path: Path, side: Any, wait_seconds: Callable[[], float]) -> None:
        self.path, self._side, self._wait_seconds = path, side, wait_seconds
        self._lock, self._turn = open_lock(guard_of(path)), open_lock(path.with_name(f"{path.name}.turn"))
        self._changed = threading.Condition()
        self._nesting = threading.local()
        self._attached: Mode | None = None
        self._locked: Mode | None = None
        self._users = self._holds = self._waiting = 0
        self._idle_since = 0.0
        self._closed = False
        self._thread: threading.Thread | None = None
        _leases.add(self)

    @contextlib.contextmanager
    def use(self, mode: Mode) -> Iterator[None]:
        """Have the file attached for the length of the block; blocks within it change nothing.

        Raises
        ------
        WarehouseBusyError
            Others did not let go of the file in time.
        ConfigurationError
            The file cannot be opened.
        """
        if getattr(self._nesting, "depth", 0):
            yield
            return
        with self._changed:
            self._attach(mode, time.monotonic() + self._wait_seconds())
            self._users += 1
        self._nesting.depth = 1
        try:
            yield
        finally:
            self._nesting.depth = 0
            with self._changed:
                self._users -= 1
                self._idle_since = time.monotonic()
                if self._is_idle() and self._others_wait():
                    self._detach()
                if self._waiting:
                    self._changed.notify_all()

    def hold(self) -> Callable[[], None]:
        """Keep the file attached until the returned function is called: a result is being read."""
        with self._changed:
            self._holds += 1

        def release() -> None:
            with self._changed:
                self._holds -= 1
                self._idle_since = time.monotonic()
                if self._is_idle() and self._others_wait():
                    self._detach()
                self._changed.notify_all()

        return release

    def close(self) -> None:
        """Let go of the file for good. The other connections must be closed by now."""
        with self._changed:
            self._closed = True
            self._attached = None
            self._changed.notify_all()
            self._side.close()
            self._side = None
        if self._thread is not None and self._thread is not threading.current_thread():
            self._thread.join()
        self.forget()

    def rest(self) -> None:
        """Let go of the file until it is needed again, if nothing uses it."""
        with self._changed:
            if self._is_idle():
                self._detach()

    def forget(self) -> None:
        """Close the lock files, and with them let go of the locks."""
        descriptors = self._lock, self._turn
        # Once only: their numbers are used again, for the files and pipes of others.
        self._lock = self._turn = -1
        for descriptor in descriptors:
            with contextlib.suppress(OSError):
                os.close(descriptor)
        self._locked = None

    def _attach(self, mode: Mode, deadline: float) -> None:
        if self._closed:
            message = f"The session of {self.path} is closed."
            raise ConfigurationError(message, "Call get_active_session() for an open one.")
        if self._attached is not None and self._attached >= mode:
            return
        if not self.path.exists():
            mode = Mode.WRITE
        self._let_go(mode, deadline)
        self._lock_and_open(mode, deadline)
        if self._thread is None:
            self._thread = threading.Thread(target=self._watch, name="heliostat-warehouse", daemon=True)
            self._thread.start()
        self._changed.notify_all()

    def _let_go(self, mode: Mode, deadline: float) -> None:
        """Detach the file, which is attached otherwise than as ``mode``, and wait until it is closed."""
        while self._attached is not None:
            if self._is_idle():
                self._detach()
            elif not self._wait_for_others_here(deadline):
                raise self._still_read()
        while self._locked is not None and not self._drained():
            if self._locked == mode == Mode.READ:
                return
            if time.monotonic() > deadline:
                raise self._still_read()
            self._changed.wait(_POLL_SECONDS)

    def _wait_for_others_here(self, deadline: float) -> bool:
        """Wait for other threads; false when the time is up, or only results that are read are left."""
        if self._users == 0:
            gc.collect()  # a result that nobody has any more may still be there
            if self._is_idle():
                return True
        self._waiting += 1
        try:
            return self._changed.wait(max(deadline - time.monotonic(), 0))
        finally:
            self._waiting -= 1

    def _lock_and_open(self, mode: Mode, deadline: float) -> None:
        kind = fcntl.LOCK_EX if mode is Mode.WRITE else fcntl.LOCK_SH
        had_turn = False
        try:
            while True:
                had_turn = had_turn or try_lock(self._turn, fcntl.LOCK_EX)
                if had_turn and (self._locked == mode or try_lock(self._lock, kind)):
                    self._locked = mode
                    if self._open(mode):
                        return
                if time.monotonic() > deadline:
                    raise self._busy(mode)
                time.sleep(_POLL_SECONDS)
        finally:
            if had_turn:
                fcntl.flock(self._turn, fcntl.LOCK_UN)
            self._drained()

    def _open(self, mode: Mode) -> bool:
        """Attach the file; false if a program that knows nothing of our locks has it open."""
        import duckdb

        path = str(self.path).replace("'", "''")
        try:
            self._side.execute(
                f"ATTACH '{path}' AS {NAME} ({'READ_WRITE' if mode is Mode.WRITE else 'READ_ONLY'})"
            )
        except duckdb.Error as error:
            if _CONFLICT in str(error):
                return False
            message = f"The warehouse {self.path} cannot be opened: {error}"
            if isinstance(error, duckdb.ResourceInUseException):
                action = (
                    "Open it in one session of this process, and do not fork while a result is being read."
                )
                raise ConfigurationError(message, action, path=str(self.path)) from error
            action = "Set HELIOSTAT_WAREHOUSE to a file that can be written."
            raise ConfigurationError(message, action, path=str(self.path)) from error
        self._attached = mode
        self._idle_since = time.monotonic()
        return True

    def _detach(self) -> None:
        import duckdb

        try:
            # Running transactions and results keep the file open; _drained sees when they are through.
            self._side.execute(f"DETACH {NAME}")
        except duckdb.Error:
            # A full disk, most likely. What was committed is in the log beside the file.
            self._idle_since = time.monotonic()
            return
        self._attached = None
        self._drained()

    def _drained(self) -> bool:
        """Let go of the lock if nothing in this process has the file open any more."""
        if self._attached is not None or is_open_here(self.path):
            return False
        self._unlock()
        return True

    def _unlock(self) -> None:
        if self._locked is not None:
            with contextlib.suppress(OSError):
                fcntl.flock(self._lock, fcntl.LOCK_UN)
            self._locked = None

    def _is_idle(self) -> bool:
        return self._attached is not None and self._users == self._holds == 0

    def _others_wait(self) -> bool:
        if not try_lock(self._turn, fcntl.LOCK_EX):
            return True
        fcntl.flock(self._turn, fcntl.LOCK_UN)
        return False

    def _watch(self) -> None:
        """Let go of the file when it has been idle; runs on a thread until the session is closed."""
        with self._changed:
            while not self._closed:
                if self._attached is None and self._locked is None:
                    self._changed.wait()
                    continue
                left = self._idle_since + _IDLE_SECONDS - time.monotonic()
                if self._attached is None and not self._drained():
                    self._changed.wait(_POLL_SECONDS * 5)
                elif left > 0 or not self._is_idle():
                    self._changed.wait(left if left > 0 else _IDLE_SECONDS)
                else:
                    self._detach()

    def _busy(self, mode: Mode) -> WarehouseBusyError:
        return lock_message(self.path, holders(self.path), "write" if mode is Mode.WRITE else "read")

    def _still_read(self) -> WarehouseBusyError:
        message = (
            f"The warehouse {self.path} cannot be changed: a result of this process is still being read."
        )
        return WarehouseBusyError(
            message, "Read it to its end or drop it first: del reader.", path=str(self.path)
        )


_leases: weakref.WeakSet[Lease] = weakref.WeakSet()


def _before_fork() -> None:
    """Let go of what is idle: a child believes the file open that its parent had, and cannot close it."""
    for lease in list(_leases):
        lease.rest()


def _forget_all() -> None:
    """In a forked child: the locks belong to the parent, and must end with it."""
    for lease in list(_leases):
        lease.forget()


os.register_at_fork(before=_before_fork, after_in_child=_forget_all)
