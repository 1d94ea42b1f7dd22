"""Real kernels for tests: started in places of their own, ended by pid."""

from __future__ import annotations

import contextlib
import os
import shutil
import tempfile
import time
from dataclasses import dataclass, field
from pathlib import Path
from queue import Empty
from typing import TYPE_CHECKING, Any

import psutil
from jupyter_client.kernelspec import KernelSpecManager
from jupyter_client.manager import KernelManager

from heliostat_kernel.install import install

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from jupyter_client.blocking.client import BlockingKernelClient

READY_SECONDS = 60.0


class Place:
    """A home with nothing in it but our kernelspec; its path is short enough for sockets."""

    def __init__(self) -> None:
        self.path = Path(tempfile.mkdtemp(prefix="hk-", dir="/tmp"))
        install(prefix=str(self.path))

    @property
    def kernels(self) -> Path:
        """Directory with the kernelspecs."""
        return self.path / "share/jupyter/kernels"

    def environment(self, **more: str) -> dict[str, str]:
        """Environment of a process that lives here; it does not boot a runtime by itself."""
        return {
            **os.environ,
            "HOME": str(self.path),
            "IPYTHONDIR": str(self.path / "ipython"),
            "JUPYTER_CONFIG_DIR": str(self.path / "config"),
            "JUPYTER_DATA_DIR": str(self.path / "data"),
            "JUPYTER_PATH": str(self.path / "share/jupyter"),
            "JUPYTER_RUNTIME_DIR": str(self.path / "run"),
            "HELIOSTAT_AUTOSTART": "0",
            "HELIOSTAT_TMPDIR": str(self.path),
            **more,
        }

    def remove(self) -> None:
        """Remove the directory, once every runtime that was started here has cleaned up."""
        manifests = self.path / "run/heliostat"
        wait_until(lambda: not list(manifests.glob("*.json")), 15, "no manifest is left")
        shutil.rmtree(self.path, ignore_errors=True)


@dataclass
class Outcome:
    """What became of a cell."""

    status: str = ""
    stdout: str = ""
    stderr: str = ""
    data: list[dict[str, Any]] = field(default_factory=list)
    error: str = ""
    seconds: float = 0.0

    @property
    def text(self) -> str:
        """Plain text of the last result or display; empty if there was none."""
        return str(self.data[-1].get("text/plain", "")) if self.data else ""

    def take(self, message: dict[str, Any]) -> None:
        """Add an IOPub message."""
        kind, content = message["msg_type"], message["content"]
        if kind == "stream":
            setattr(self, content["name"], getattr(self, content["name"]) + content["text"])
        elif kind in ("execute_result", "display_data"):
            self.data.append(content["data"])
        elif kind == "error":
            self.error = f"{content['ename']}: {content['evalue']}"


class StartedKernel:
    """A kernel process and a client of it."""

    def __init__(self, manager: KernelManager, environment: dict[str, str], cwd: Path) -> None:
        self.manager = manager
        self._replies: dict[str, dict[str, Any]] = {}
        self.manager.start_kernel(env=environment, cwd=str(cwd))
        self.client: BlockingKernelClient = manager.client()
        self._connect()

    def _connect(self) -> None:
        self.client.start_channels()
        self.client.wait_for_ready(timeout=READY_SECONDS)

    def reconnect(self) -> None:
        """Speak with the process that took the place of the one before."""
        self.client.stop_channels()
        self.client = self.manager.client()
        self._connect()

    @property
    def pid(self) -> int:
        """Process id of the kernel."""
        provisioner: Any = self.manager.provisioner
        return int(provisioner.pid)

    def run(self, code: str, timeout: float = 60.0, **options: Any) -> Outcome:
        """Run a cell and return everything that it showed."""
        outcome, begun = Outcome(), time.monotonic()
        reply = self.client.execute_interactive(
            code, timeout=timeout, output_hook=outcome.take, allow_stdin=False, **options
        )
        outcome.status = reply["content"]["status"]
        outcome.seconds = time.monotonic() - begun
        return outcome

    def begin(self, code: str) -> str:
        """Send a cell and return its message id once its code runs; later cells run if it fails."""
        message_id: str = self.client.execute(f"print('begun')\n{code}", stop_on_error=False)
        self.iopub(lambda message: message["msg_type"] == "stream", message_id)
        return message_id

    def iopub(
        self, wanted: Callable[[dict[str, Any]], bool], parent: str | None = None, timeout: float = 30.0
    ) -> dict[str, Any]:
        """Return the next wanted IOPub message, of the given request if one is named."""
        left = _countdown(timeout)
        while True:
            message: dict[str, Any] = self.client.get_iopub_msg(timeout=left())
            if parent in (None, message["parent_header"].get("msg_id")) and wanted(message):
                return message

    def statuses(self, seconds: float) -> list[str]:
        """Every status published during the next ``seconds``, in order."""
        deadline, found = time.monotonic() + seconds, []
        while (left := deadline - time.monotonic()) > 0:
            with contextlib.suppress(Empty):
                message = self.client.get_iopub_msg(timeout=left)
                if message["msg_type"] == "status":
                    found.append(message["content"]["execution_state"])
        return found

    def reply(self, message_id: str, timeout: float = 30.0) -> dict[str, Any]:
        """Return the shell reply to a request; replies to others are kept until asked for."""
        left = _countdown(timeout)
        while message_id not in self._replies:
            message: dict[str, Any] = self.client.get_shell_msg(timeout=left())
            self._replies[message["parent_header"].get("msg_id", "")] = message
        return self._replies.pop(message_id)

    def ask_control(
        self, kind: str, content: dict[str, Any] | None = None, timeout: float = 30.0
    ) -> dict[str, Any]:
        """Send a control request and return its reply."""
        request = self.client.session.msg(kind, content or {})
        self.client.control_channel.send(request)
        left = _countdown(timeout)
        while True:
            message: dict[str, Any] = self.client.control_channel.get_msg(timeout=left())
            if message["parent_header"].get("msg_id") == request["header"]["msg_id"]:
                return message

    def end(self) -> None:
        """Shut the kernel down, whatever state it is in."""
        self.client.stop_channels()
        with contextlib.suppress(RuntimeError):
            self.manager.shutdown_kernel(now=not self.manager.is_alive())
        self.manager.cleanup_resources()


def _countdown(seconds: float) -> Callable[[], float]:
    deadline = time.monotonic() + seconds
    return lambda: max(deadline - time.monotonic(), 0.01)


def new_manager(place: Place, name: str = "heliostat") -> KernelManager:
    """Return a manager that knows the kernels of ``place`` and this environment's ``python3``."""
    specs = KernelSpecManager(kernel_dirs=[str(place.kernels)])
    connection_file = place.path / "run" / f"kernel-{os.urandom(6).hex()}.json"
    connection_file.parent.mkdir(exist_ok=True)
    return KernelManager(kernel_name=name, kernel_spec_manager=specs, connection_file=str(connection_file))


@dataclass(frozen=True)
class Known:
    """A process by pid and start time."""

    pid: int
    started_at: float

    def alive(self) -> bool:
        """Whether it still runs; what only waits to be collected does not."""
        with contextlib.suppress(psutil.Error):
            process = psutil.Process(self.pid)
            return process.create_time() == self.started_at and process.status() != psutil.STATUS_ZOMBIE
        return False


def family(*roots: int) -> list[Known]:
    """The processes ``roots`` and everything below them."""
    found: dict[int, Known] = {}
    for root in roots:
        with contextlib.suppress(psutil.Error):
            process = psutil.Process(root)
            for member in (process, *process.children(recursive=True)):
                with contextlib.suppress(psutil.Error):
                    found[member.pid] = Known(member.pid, member.create_time())
    return list(found.values())


def wait_until(condition: Callable[[], bool], seconds: float, what: str) -> None:
    """Poll until ``condition`` holds; fail with ``what`` after ``seconds``."""
    deadline = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > deadline:
            message = f"not within {seconds} s: {what}"
            raise AssertionError(message)
        time.sleep(0.05)


def living(processes: Iterable[Known]) -> list[Known]:
    """Those of ``processes`` that still run."""
    return [process for process in processes if process.alive()]
