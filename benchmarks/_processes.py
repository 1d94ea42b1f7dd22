"""Processes under measurement: a place to run them in, what they hold and use, and their end."""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

from heliostat._supervisor.processes import Identity, adopt_orphans, descendants, end_descendants
from heliostat._supervisor.procfs import read_stat

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from typing import Self

__all__ = ["Child", "cpu_seconds", "end_all", "environment", "own_home", "pss_megabytes", "wait_until_gone"]

_PRELUDE = """
import json, sys, time
def say(_to=sys.stdout, **facts):
    print(json.dumps({"at": time.monotonic(), **facts}), file=_to, flush=True)
def wait_for_order():
    if not sys.stdin.readline():
        sys.exit()
"""
_FOREIGN = ("RAY_", "HELIOSTAT_", "JUPYTER_", "IPYTHON", "JPY_", "OMP_")


@contextlib.contextmanager
def own_home() -> Iterator[Path]:
    """Make a home for what is measured, and at the end leave no process or file of it.

    Orphans come to this process, so that those of a peer which was killed are found as well.
    """
    adopt_orphans()
    # Sockets of Ray lie below it, and their paths must be short.
    home = Path(tempfile.mkdtemp(prefix="hb-", dir="/tmp"))
    try:
        yield home
    finally:
        end_descendants(20.0)
        shutil.rmtree(home, ignore_errors=True)


def environment(home: Path, **more: str) -> dict[str, str]:
    """Environment as of a user who set nothing, at home in ``home``."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith(_FOREIGN)}
    places = {"HOME": str(home), "TMPDIR": str(home), "JUPYTER_RUNTIME_DIR": str(home / "jupyter")}
    return {**kept, **places, **more}


class Child:
    """A Python process that runs ``program``, which tells facts with ``say(name=value)``.

    Times that it tells compare with ``time.monotonic()`` here: it is one clock for all processes.
    """

    def __init__(self, program: str, home: Path, **more: str) -> None:
        self._errors = home / "errors.txt"
        self.started = time.monotonic()
        with self._errors.open("w") as errors:
            self.process = subprocess.Popen(
                [sys.executable, "-c", _PRELUDE + program],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=errors,
                text=True,
                env=environment(home, **more),
                cwd=home,
            )

    def hear(self, seconds: float = 120.0) -> dict[str, Any]:
        """Return the next facts. Raises RuntimeError when none come."""
        assert self.process.stdout is not None
        watchdog = threading.Timer(seconds, self.process.kill)
        watchdog.start()
        try:
            # Whatever else it prints (a library, one of its workers) is not for us.
            line = next((line for line in self.process.stdout if line.startswith('{"at": ')), "")
        finally:
            watchdog.cancel()
        if not line:
            message = f"the measured program ended or hung; it said: {self._errors.read_text()[-2000:]}"
            raise RuntimeError(message)
        facts: dict[str, Any] = json.loads(line)
        return facts

    def order(self) -> None:
        """Let a program go on that called ``wait_for_order()``."""
        assert self.process.stdin is not None
        self.process.stdin.write("\n")
        self.process.stdin.flush()

    def below(self) -> list[Identity]:
        """Every process that it started, directly or not; without itself."""
        return descendants(self.process.pid)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_exception: object) -> None:
        below = self.below()
        self.process.kill()
        self.process.communicate()
        end_all(below)


def end_all(processes: Sequence[Identity]) -> None:
    """Kill processes and every orphan that they leave, and wait until they are gone."""
    for process in processes:
        process.kill()
    wait_until_gone(processes, 20.0)
    end_descendants(20.0)


def pss_megabytes(processes: Sequence[Identity]) -> float:
    """Memory of processes, each shared page divided among those who share it; in MB of 10^6."""
    total = 0
    for process in processes:
        with contextlib.suppress(OSError):
            for line in Path(f"/proc/{process.pid}/smaps_rollup").read_text().splitlines():
                if line.startswith("Pss:"):
                    total += int(line.split()[1]) * 1024
    return total / 1e6


def cpu_seconds(processes: Sequence[Identity]) -> float:
    """CPU time of processes so far, children that they have waited for counted in."""
    stats = [read_stat("/proc", process.pid) for process in processes]
    return sum(stat.own_seconds + stat.reaped_seconds for stat in stats if stat is not None)


def wait_until_gone(processes: Sequence[Identity], seconds: float) -> float:
    """Return how long it took until the last one was gone. Raises TimeoutError."""
    started = time.monotonic()
    left = list(processes)
    while left := [process for process in left if process.alive()]:
        if time.monotonic() - started > seconds:
            message = f"{len(left)} processes are still there after {seconds:g} s"
            raise TimeoutError(message)
        time.sleep(0.01)
    return time.monotonic() - started
