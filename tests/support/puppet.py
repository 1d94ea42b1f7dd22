"""A real process that does what a test tells it, one step at a time."""

from __future__ import annotations

import subprocess
import sys
import time
from typing import TYPE_CHECKING, Any

import msgspec
import psutil

from heliostat._messages.runtime import Owner

if TYPE_CHECKING:
    from typing import Self

_BODY = """
import gc, json, mmap, os, signal, subprocess, sys, time

def burn(seconds):
    "Use CPU for so many seconds of CPU time."
    until = time.process_time() + seconds
    while time.process_time() < until:
        pass

def start(title, code):
    "Start a child with that title in its command line; return it once it runs."
    child = subprocess.Popen(
        [title, "-c", "import os, sys, time; sys.stdin.close()\\n" + code],
        executable=sys.executable, stdin=subprocess.PIPE,
    )
    while os.readlink(f"/proc/{child.pid}/exe") != os.path.realpath(sys.executable):
        time.sleep(0.001)
    return child

SLEEP = "time.sleep(600)"
BURN = "t = time.process_time() + {0}\\nwhile time.process_time() < t: pass\\n"
children = []
for line in sys.stdin:
    result = None
    exec(json.loads(line))
    print(json.dumps(result), flush=True)
for child in children:
    child.kill()
"""


class Puppet:
    """A Python process. ``run`` executes lines in it, which find ``burn`` and ``start`` there.

    Children that the lines append to ``children`` are killed at the end.
    """

    def __init__(self) -> None:
        self._process = subprocess.Popen(
            [sys.executable, "-c", _BODY], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )
        self.run("")

    @property
    def pid(self) -> int:
        """Process id."""
        return self._process.pid

    @property
    def owner(self) -> Owner:
        """The process as the owner of a runtime."""
        return Owner(pid=self.pid, started_at=psutil.Process(self.pid).create_time())

    def run(self, code: str) -> Any:
        """Execute ``code`` there, wait until it is done, and return what it called ``result``."""
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.write(msgspec.json.encode(code).decode() + "\n")
        self._process.stdin.flush()
        return msgspec.json.decode(self._process.stdout.readline())

    def kill(self) -> None:
        """End it with SIGKILL and collect it."""
        self._process.kill()
        self._process.wait()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_exception: object) -> None:
        try:
            self._process.communicate(timeout=10)
        finally:
            self.kill()


def wait_until_done(pid: int, seconds: float) -> float:
    """Wait until a process has burnt so many seconds of CPU time and sleeps; returns what it used."""
    process, deadline = psutil.Process(pid), time.monotonic() + 60
    while True:
        asleep = process.status() == psutil.STATUS_SLEEPING
        times = process.cpu_times()
        used = float(times.user + times.system)
        if asleep and used >= seconds:
            return used
        assert time.monotonic() < deadline
        time.sleep(0.01)
