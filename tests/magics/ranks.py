"""A kernel with a runtime and ranks, and cells on them; one kernel serves a whole file of tests."""

from __future__ import annotations

import contextlib
import os
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from tests.kernel.support import Place, StartedKernel, new_manager

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.kernel.support import Outcome

__all__ = ["little_memory", "on_ranks", "press", "rank_kernel", "shown_by"]


@contextlib.contextmanager
def rank_kernel(start: str = "cpus=2", ranks: int = 4, flags: str = "") -> Iterator[StartedKernel]:
    """Our kernel at a home of its own, with a runtime and ranks."""
    place = Place()
    environment = place.environment()
    # With it, IPython's kernel leaves the output of native code alone.
    environment.pop("PYTEST_CURRENT_TEST", None)
    kernel = StartedKernel(new_manager(place), environment, place.path)
    try:
        started = kernel.run(
            f"import heliostat; r = heliostat.init({start})\n%ranks start -n {ranks} {flags}", timeout=120
        )
        assert started.status == "ok", started.error
        assert started.stdout.count("idle") == ranks
        yield kernel
    finally:
        kernel.end()
        place.remove()


def on_ranks(kernel: StartedKernel, body: str, line: str = "", timeout: float = 60.0) -> Outcome:
    """Run a cell on ranks."""
    return kernel.run(f"%%distribute {line}\n{body}", timeout=timeout)


def press(kernel: StartedKernel, body: str, line: str = "", *, times: int = 1) -> tuple[float, str, str]:
    """Press Stop once a cell prints, perhaps more than once.

    Returns after how many seconds it ended, the name of its error, and what it said after that.
    """
    request = kernel.client.execute(f"%%distribute {line}\nprint('go')\n{body}", stop_on_error=False)
    kernel.iopub(lambda m: m["msg_type"] == "stream" and "go" in m["content"]["text"], request)
    began = time.monotonic()
    for number in range(times):
        if number:
            # Two signals at once are one to the operating system.
            time.sleep(0.4)
        kernel.manager.interrupt_kernel()
    content = kernel.reply(request)["content"]
    seconds = time.monotonic() - began
    said = [m["content"]["text"] for m in shown_by(kernel, request) if m["msg_type"] == "stream"]
    return seconds, content.get("ename", ""), "".join(said)


def shown_by(kernel: StartedKernel, request: str) -> list[dict[str, Any]]:
    """Everything that a cell sends from now on until it is idle."""
    found: list[dict[str, Any]] = []

    def idle(message: dict[str, Any]) -> bool:
        found.append(message)
        return bool(message["msg_type"] == "status" and message["content"]["execution_state"] == "idle")

    kernel.iopub(idle, request)
    return found


@contextlib.contextmanager
def little_memory(pid: int, size: int) -> Iterator[None]:
    """Have the operating system kill a process that uses more than ``size`` bytes. Needs root."""
    old = Path("/sys/fs/cgroup/memory")
    root, limit = (old, "memory.limit_in_bytes") if old.is_dir() else (Path("/sys/fs/cgroup"), "memory.max")
    group = root / f"heliostat-test-{os.getpid()}"
    try:
        group.mkdir()
        (group / limit).write_text(str(size))
        (group / "cgroup.procs").write_text(str(pid))
    except OSError as error:
        pytest.skip(f"no memory limit can be set here: {error}")
    try:
        yield
    finally:
        with contextlib.suppress(OSError):
            for line in (group / "cgroup.procs").read_text().split():
                (root / "cgroup.procs").write_text(line)
        with contextlib.suppress(OSError):
            group.rmdir()
