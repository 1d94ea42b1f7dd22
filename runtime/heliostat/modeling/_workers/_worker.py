"""One worker as the driver sees it."""

from __future__ import annotations

import contextlib
import os
import secrets
import threading
import time
import weakref
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from heliostat._oom import Watch
from heliostat.modeling._workers import _deaths
from heliostat.modeling._workers._actor import STACKS_SIGNAL, WorkerProcess
from heliostat.modeling._workers._wire import DumpStacks, Leaving

if TYPE_CHECKING:
    from collections.abc import Callable
    from multiprocessing.connection import Connection

    from heliostat.modeling._workers._deaths import Death
    from heliostat.modeling._workers._hub import Hub
    from heliostat.modeling._workers._wire import Hello

all_workers: weakref.WeakSet[Worker] = weakref.WeakSet()
"""Those whose handles are not freed yet, dead ones too."""

_STACKS_QUIET_S = 0.1
_LAST_WORDS_S = 1.0


@dataclass(frozen=True)
class Size:
    """What one worker is made of; idle workers of equal size can stand in for each other."""

    cpus: int
    gpus: int = 0
    environment: tuple[tuple[str, str], ...] = ()

    def variables(self) -> dict[str, str]:
        """Environment of the process, set before it imports any numeric library."""
        return {
            # OpenMP's waiting threads spin by default, which starves everybody else on the machine.
            # GNU's spins for some microseconds now: sleeping at once cost LightGBM a fifth of its time.
            "OMP_WAIT_POLICY": "PASSIVE",
            "GOMP_SPINCOUNT": "1000",
            "OMP_NUM_THREADS": str(self.cpus),
            **dict(self.environment),
        }


class Worker:
    """Handle of a worker's process. ``listener`` hears its messages, on the connection's thread."""

    def __init__(
        self, hub: Hub, size: Size, node_id: str, ahead: str = "", options: dict[str, Any] | None = None
    ) -> None:
        """Start a process on a node; it imports ``ahead`` before it does anything else.

        ``options`` are those of the actor; without any, it holds no CPU of the runtime.
        """
        import ray

        self.size, self.node_id = size, node_id
        self.pid, self.host = 0, ""
        self.listener: Callable[[Any], None] | None = None
        self._hub, self._token = hub, secrets.token_hex(16)
        self._text: list[bytes] = []
        self._code: int | None = None
        self._connection: Connection | None = None
        self._here, self._gone, self._told = threading.Event(), threading.Event(), threading.Event()
        self._sending = threading.Lock()
        self._watch = Watch()
        hub.expect(self._token, self._joined)
        all_workers.add(self)
        actor = ray.remote(WorkerProcess)
        options = {"max_restarts": 0, "max_task_retries": 0, **(options or _beside(node_id))}
        self.actor = actor.options(**options).remote(hub.address, self._token, size.variables(), ahead)
        self._serving = self.actor.serve.remote()

    @property
    def alive(self) -> bool:
        """Whether the process is there, as far as is known here."""
        return not self._gone.is_set()

    def wait_until_here(self, deadline: float) -> bool:
        """Return whether it connected before ``deadline`` (monotonic)."""
        import ray

        while not self._here.wait(0.05):
            if time.monotonic() > deadline or ray.wait([self._serving], timeout=0)[0]:
                return False
        return True

    def send(self, message: Any) -> None:
        """Send a message; one for a worker that is gone is dropped, its death is told elsewhere."""
        with self._sending, contextlib.suppress(OSError):
            if self._connection is not None:
                self._connection.send(message)

    def kill(self) -> None:
        """End the process at once and wait for nothing."""
        from heliostat._cluster.cleanup import kill_actor

        kill_actor(self.actor)
        self.leave()

    def leave(self) -> None:
        """Let go of a process that ends by itself, with the cluster that it is of."""
        self._hub.forget(self._token)
        self.listener = None
        self._close()

    def death(self) -> Death:
        """Why it ended. Call when it is not alive; takes up to two seconds."""
        # Its last words come on a connection of their own, which another thread reads.
        self._told.wait(_LAST_WORDS_S)
        text = b"".join(self._text).decode(errors="replace")
        pid = self.pid if self._is_of_this_machine() else 0
        return _deaths.explain(self._serving, code=self._code, text=text, watch=self._watch, pid=pid)

    def died_by_ray(self) -> bool:
        """Whether Ray says that the process is gone, even if its connection is still open."""
        from heliostat._cluster.cleanup import has_ended

        return has_ended(self._serving)

    def stacks(self, deadline: float) -> str:
        """Python stacks of all threads, also of one that hangs in C code; empty where it gives none."""
        start = len(self._text)
        if self._is_local():
            with contextlib.suppress(OSError):
                os.kill(self.pid, STACKS_SIGNAL)
        else:
            self.send(DumpStacks())
        seen = start
        while time.monotonic() < deadline:
            time.sleep(_STACKS_QUIET_S)
            if len(self._text) > start and len(self._text) == seen:
                break
            seen = len(self._text)
        return b"".join(self._text[start:]).decode(errors="replace")

    def _is_of_this_machine(self) -> bool:
        return bool(self.pid) and self.host in ("127.0.0.1", _own_host())

    def _is_local(self) -> bool:
        """Whether the process is one of this machine, told by its Ray node and its name."""
        if not self._is_of_this_machine():
            return False
        with contextlib.suppress(OSError):
            return f"{WorkerProcess.__name__}.".encode() in _command(self.pid)
        return False

    def _joined(self, hello: Hello, connection: Connection) -> None:
        if hello.text:
            self._read_text(connection)
            return
        self.pid, self.node_id, self.host = hello.pid, hello.node_id, hello.host
        self._connection = connection
        self._here.set()
        try:
            while True:
                message = connection.recv()
                if isinstance(message, Leaving):
                    self._code = message.code
                elif (listener := self.listener) is not None:
                    listener(message)
        except (EOFError, OSError):
            pass
        self._gone.set()
        if (listener := self.listener) is not None:
            listener(None)

    def _read_text(self, connection: Connection) -> None:
        with contextlib.suppress(OSError):
            while data := os.read(connection.fileno(), 65_536):
                self._text.append(data)
        self._told.set()
        connection.close()

    def _close(self) -> None:
        self._gone.set()
        connection = self._connection
        if connection is not None:
            import socket

            # Closing alone would not wake the thread that reads.
            # A peer that died makes the shutdown fail: the copy is closed all the same.
            with (
                contextlib.suppress(OSError),
                socket.socket(fileno=os.dup(connection.fileno())) as copy,
            ):
                copy.shutdown(socket.SHUT_RDWR)


def _beside(node_id: str) -> dict[str, Any]:
    """Options of an actor on a node whose CPUs somebody else has reserved for it."""
    from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

    strategy = NodeAffinitySchedulingStrategy(node_id, soft=False)
    return {"num_cpus": 0, "scheduling_strategy": strategy}


def _own_host() -> str:
    import ray

    return str(ray.util.get_node_ip_address())


def _command(pid: int) -> bytes:
    from pathlib import Path

    return Path(f"/proc/{pid}/cmdline").read_bytes()
