"""Workers that have nothing to do, kept for the next call.

An idle worker has its libraries loaded and holds memory, but neither CPUs of the runtime nor a
GPU: a reservation lasts as long as a call. Idle workers end after some time, before a resize
goes on, when their runtime ends, and when somebody needs what they keep.
"""

from __future__ import annotations

import os
import threading
import time
from typing import TYPE_CHECKING, Any

from heliostat._cluster import driver
from heliostat.exceptions import ConfigurationError
from heliostat.modeling._runtime import is_local, latest_resize, resize_under_way
from heliostat.modeling._workers._hub import Hub
from heliostat.modeling._workers._worker import Worker, all_workers

if TYPE_CHECKING:
    from heliostat.modeling._workers._worker import Size

IDLE_VARIABLE = "HELIOSTAT_WORKERS_IDLE_SECONDS"
_DEFAULT_IDLE_S = 120.0
_LOOK_S = 0.25
_HOLD_S = 0.5
_MOST = 64


class Pool:
    """Idle workers of this process's runtime. Safe to use from every thread."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._idle: list[tuple[float, Worker]] = []
        self._hub: Hub | None = None
        self._of: str | None = None
        self._held: tuple[float, Any, Any] | None = None
        self._janitor: threading.Thread | None = None
        self._left: list[Worker] = []
        self._reservations_left: list[Any] = []
        self._prepared: str | None = None
        self._resize: Any = None

    def hub(self) -> Hub:
        """Where workers of the runtime that this process is connected to come in."""
        import ray

        host = "127.0.0.1" if is_local() else str(ray.util.get_node_ip_address())
        with self._lock:
            if self._hub is None or self._of != _connection():
                if self._hub is not None:
                    self._hub.close()
                self._abandon()
                self._hub, self._of = Hub(host), _connection()
            return self._hub

    def take(self, size: Size, node_id: str, *, any_cpus: bool = False) -> Worker | None:
        """Take an idle worker of that size on that node, the one that was busy last.

        With ``any_cpus`` one of another number of CPUs will do where there is none of that size.
        """
        found = self._take(size, node_id)
        return self._take(None, node_id) if found is None and any_cpus else found

    def _take(self, size: Size | None, node_id: str) -> Worker | None:
        with self._lock:
            for index in range(len(self._idle) - 1, -1, -1):
                worker = self._idle[index][1]
                if not worker.alive:
                    del self._idle[index]
                elif worker.node_id == node_id and (worker.size == size or (size is None and _plain(worker))):
                    return self._idle.pop(index)[1]
        return None

    def prepare(self, size: Size, count: int, node_id: str, ahead: str) -> None:
        """Start workers that a call will probably want, once for each connection; returns at once."""
        seconds = idle_seconds()
        hub = self.hub()
        with self._lock:
            if self._prepared == self._of or self._of != _connection() or not seconds:
                return
            self._prepared = self._of
            until = time.monotonic() + seconds
            self._idle += [(until, Worker(hub, size, node_id, ahead)) for _ in range(count)]
            self._start_janitor()

    def give(self, worker: Worker) -> None:
        """Keep a worker that has nothing to do, unless the runtime may be waiting for it to go."""
        seconds = 0.0 if resize_under_way() is not None else idle_seconds()
        with self._lock:
            if not worker.alive or not seconds or len(self._idle) >= _MOST or self._of != _connection():
                worker.kill()
                return
            self._idle.append((time.monotonic() + seconds, worker))
            self._start_janitor()

    def hold(self, layout: Any, reservation: Any) -> None:
        """Keep a reservation for a moment: the next call of the same size need not wait for another.

        Ray gives CPUs back some time after it was told to, and looks again after a second.
        """
        with self._lock:
            self._release()
            if self._of != _connection():
                return
            self._held = (time.monotonic() + _HOLD_S, layout, reservation)
            self._start_janitor()

    def take_reservation(self, layout: Any) -> Any:
        """Return the reservation that is held, if it is of this layout; another is given up first."""
        with self._lock:
            held, self._held = self._held, None
            if held is None:
                return None
            if held[1] == layout and self._of == _connection():
                return held[2]
            release(held[2])
        _wait_for_cpus(layout.workers * layout.cpus)
        return None

    def free(self) -> int:
        """End all idle workers; returns how many there were."""
        with self._lock:
            return self._drop()

    def forget(self) -> None:
        """Let go of everything without asking Ray: the connection ends, and the workers with it."""
        with self._lock:
            self._of = None
            self._abandon()

    def pids(self) -> list[int]:
        """Processes of the idle workers."""
        with self._lock:
            return [worker.pid for _, worker in self._idle if worker.alive and worker.pid]

    def _start_janitor(self) -> None:
        if self._janitor is None:
            self._resize = _resize()
            self._janitor = threading.Thread(target=self._look, name="heliostat-workers", daemon=True)
            self._janitor.start()

    def _release(self) -> None:
        held, self._held = self._held, None
        if held is not None:
            release(held[2])

    def _drop(self) -> int:
        self._release()
        count = len(self._idle)
        for _, worker in self._idle:
            worker.kill()
        self._idle = []
        return count

    def _abandon(self) -> None:
        idle, self._idle = self._idle, []
        # Ray ends the process when a handle is freed in the middle of its shutdown, and the
        # threads that read from workers free them when they like: so these are never freed.
        self._left = [*all_workers]
        self._reservations_left.append(self._held)
        self._held = None
        for _, worker in idle:
            worker.leave()

    def _look(self) -> None:
        """Run on a thread while there is something to look after."""
        while True:
            time.sleep(_LOOK_S)
            with self._lock:
                # A resize may be over before anybody looks.
                former, self._resize = self._resize, _resize()
                if self._of != _connection():
                    self._abandon()
                elif self._resize != former:
                    self._drop()
                now = time.monotonic()
                if self._held is not None and self._held[0] <= now:
                    self._release()
                for _, worker in [entry for entry in self._idle if entry[0] <= now]:
                    worker.kill()
                self._idle = [entry for entry in self._idle if entry[0] > now and entry[1].alive]
                if not self._idle and self._held is None:
                    self._janitor = None
                    return


def _wait_for_cpus(count: int) -> None:
    """Wait a moment until CPUs that were just given back are free: Ray would look again after a second."""
    import ray

    deadline = time.monotonic() + 1.0
    while ray.available_resources().get("CPU", 0) < count and time.monotonic() < deadline:
        time.sleep(0.01)


def release(reservation: Any) -> None:
    """Give the CPUs and GPUs of a placement group back."""
    from heliostat._cluster.cleanup import remove_reservation

    remove_reservation(reservation)


def idle_seconds() -> float:
    """How long an idle worker is kept: ``HELIOSTAT_WORKERS_IDLE_SECONDS``; 0 for not at all."""
    text = os.environ.get(IDLE_VARIABLE, "")
    try:
        seconds = float(text) if text else _DEFAULT_IDLE_S
    except ValueError:
        seconds = -1.0
    if not seconds >= 0:
        message = f"{IDLE_VARIABLE}={text!r} is not a time."
        raise ConfigurationError(message, "Set it to seconds from 0.")
    return seconds


def _plain(worker: Worker) -> bool:
    """Whether a worker is like any other but for its number of CPUs."""
    return not worker.size.gpus and not worker.size.environment


def _connection() -> str | None:
    return driver.connection()


def _resize() -> str | None:
    """Id of the latest resize, running or ended."""
    latest = latest_resize()
    return None if latest is None else latest.operation_id


_inherited: list[Any] = []


def _forget_after_fork() -> None:
    """A forked child has no workers: they are its parent's.

    What it has of them is never freed: Ray would be told of each handle, by a copy of its client
    whose threads are gone, and wait for a lock that one of them held.
    """
    _inherited.append((dict(vars(pool)), [*all_workers]))
    pool.__init__()  # type: ignore[misc]


pool = Pool()
driver.before_shutdown.append(pool.forget)
os.register_at_fork(after_in_child=_forget_after_fork)
