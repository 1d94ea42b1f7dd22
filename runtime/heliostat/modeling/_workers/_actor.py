"""The worker's side: a process that runs one function after the other on its main thread.

The main thread belongs to the function, so that it can be interrupted, and so that libraries
which insist on the main thread work. A second thread reads what the driver says. When the
driver is gone the process ends at once, whatever it is doing.

Nothing here may import a numeric library: the environment has to be set before.
"""

from __future__ import annotations

import contextlib
import ctypes
import faulthandler
import gc
import importlib
import os
import queue
import signal
import threading
import time
import traceback
from multiprocessing.connection import Client, Connection
from typing import TYPE_CHECKING, Any

from heliostat.modeling._workers._wire import (
    Address,
    Done,
    DumpStacks,
    Gather,
    Hello,
    Interrupt,
    Leaving,
    Raised,
    Say,
    Start,
    Stop,
    dump,
    load,
)

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

_SECONDS_FOR_RAY = 0.4
STACKS_SIGNAL = signal.SIGUSR2
"""Makes a worker write its stacks, also when it hangs in C code with the GIL held."""


class WorkerContext:
    """First argument of a function that runs on a worker."""

    def __init__(self, start: Start, send: Any) -> None:
        self._run, self._send = start.run, send
        self._inbox: queue.SimpleQueue[bytes] = queue.SimpleQueue()
        self._gathered: queue.SimpleQueue[bytes] = queue.SimpleQueue()
        self._stop = threading.Event()
        self.rank, self.size = start.rank, start.size

    @property
    def stopping(self) -> bool:
        """Whether the driver asked the function to end by itself."""
        return self._stop.is_set()

    def send(self, value: Any) -> None:
        """Send a value to the driver, from any thread; it arrives before the function's result."""
        self._send(Say(self._run, dump(value)))

    def receive(self, timeout: float | None = None) -> Any:
        """Return the next value that the driver sent. Raises ``queue.Empty`` after ``timeout`` seconds."""
        return load(self._inbox.get(timeout=timeout))

    def gather(self, value: Any) -> list[Any]:
        """Exchange small values: returns those of all ranks, in their order. All ranks must call it."""
        if self.size == 1:
            return [value]
        self._send(Gather(self._run, dump(value)))
        return [load(payload) for payload in load(self._gathered.get())]


class WorkerProcess:
    """The actor. ``serve`` is its only call, and lasts as long as the process."""

    def __init__(self, address: Address, token: str, environment: Mapping[str, str], ahead: str) -> None:
        import ray

        os.environ.update(environment)
        self._ahead = ahead
        context = ray.get_runtime_context()
        hello = (token, os.getpid(), context.get_node_id(), ray.util.get_node_ip_address())
        self._connection = _connect(address, Hello(*hello, text=False))
        self._text = _connect(address, Hello(*hello, text=True))
        self._sending = threading.Lock()
        self._starts: queue.SimpleQueue[Start] = queue.SimpleQueue()
        self._current: WorkerContext | None = None
        self._interruptible = False
        self._tell_when_leaving()
        faulthandler.enable(file=self._text, all_threads=True)
        faulthandler.register(STACKS_SIGNAL, file=self._text, all_threads=True)
        # What a forked child crashes of is not what this process died of.
        os.register_at_fork(after_in_child=lambda: faulthandler.enable(file=2))

    def serve(self) -> None:
        """Run what the driver sends, until it goes away."""
        signal.signal(signal.SIGINT, self._on_interrupt)
        # Ray starts its workers with the signal blocked.
        signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGINT})
        threading.Thread(target=self._listen, name="heliostat-driver", daemon=True).start()
        if self._ahead:
            # What is missing is told by the function that needs it.
            with contextlib.suppress(Exception):
                importlib.import_module(self._ahead)
        while True:
            with contextlib.suppress(KeyboardInterrupt):
                self._send(self._execute(self._starts.get()))
                give_memory_back()

    def _execute(self, start: Start) -> Done | Raised:
        context = self._current = WorkerContext(start, self._send)
        try:
            with _environment(start.environment):
                self._interruptible = True
                function, arguments = load(start.payload)
                value = function(context, *arguments)
                self._interruptible = False
            return Done(start.run, dump(value))
        except BaseException as error:
            self._interruptible = False
            return _raised(start.run, error)
        finally:
            self._current = None

    def _on_interrupt(self, *_: object) -> None:
        if self._interruptible:
            raise KeyboardInterrupt

    def _listen(self) -> None:
        while True:
            try:
                message = self._connection.recv()
            except (EOFError, OSError):
                # The driver is gone, or wants no more of us: then Ray ends the process, within 50 ms,
                # and does not report a worker that died by itself.
                time.sleep(_SECONDS_FOR_RAY)
                _really_exit(0)
            if isinstance(message, Start):
                self._starts.put(message)
            elif isinstance(message, DumpStacks):
                faulthandler.dump_traceback(self._text, all_threads=True)
            else:
                self._tell_function(message)

    def _tell_function(self, message: Any) -> None:
        current = self._current
        if current is None or message.run != current._run:
            return
        if isinstance(message, Say):
            current._inbox.put(message.payload)
        elif isinstance(message, Gather):
            current._gathered.put(message.payload)
        elif isinstance(message, Stop):
            current._stop.set()
        elif isinstance(message, Interrupt):
            signal.pthread_kill(threading.main_thread().ident or 0, signal.SIGINT)

    def _send(self, message: Any) -> None:
        with self._sending:
            self._connection.send(message)

    def _tell_when_leaving(self) -> None:
        own = os.getpid()

        def leave(code: int) -> None:
            if os.getpid() == own:  # and not in a child that was forked
                with contextlib.suppress(OSError):
                    self._send(Leaving(code))
            _really_exit(code)

        os._exit = leave  # type: ignore[assignment]


_really_exit = os._exit


def _connect(address: Address, hello: Hello) -> Connection:
    connection = Client((address.host, address.port), authkey=address.key)
    connection.send(hello)
    return connection


@contextlib.contextmanager
def _environment(variables: Mapping[str, str]) -> Iterator[None]:
    former = {name: os.environ.get(name) for name in variables}
    os.environ.update(variables)
    try:
        yield
    finally:
        for name, value in former.items():
            if value is None:
                os.environ.pop(name, None)
            else:
                os.environ[name] = value


def _raised(run: int, error: BaseException) -> Raised:
    at = time.time()
    trace = "".join(traceback.format_exception(error))
    if isinstance(error, SystemExit):
        error = RuntimeError(f"it called sys.exit({error.code!r})")
    try:
        payload = dump(error)
        load(payload)
    except Exception:
        payload = dump(RuntimeError(f"{type(error).__name__}: {error}"))
    return Raised(run, at, payload, trace)


def give_memory_back() -> None:
    """Return to the operating system what nobody uses any more."""
    gc.collect()
    with contextlib.suppress(AttributeError, OSError):
        ctypes.CDLL(None).malloc_trim(0)
