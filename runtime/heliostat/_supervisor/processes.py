"""Processes: who they are, who descends from whom, and ending exactly the right ones.

A process is known by its pid *and* its start time, since pids are used again. Nothing is ever
ended by name.
"""

from __future__ import annotations

import ctypes
import os
import signal
import socket
import time
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import psutil

if TYPE_CHECKING:
    from collections.abc import Iterable

MARK = "HELIOSTAT_SUPERVISED_BY"
"""Environment variable that everything started under a supervisor inherits: its runtime id."""

_PR_SET_CHILD_SUBREAPER = 36
_TICK = 1 / os.sysconf("SC_CLK_TCK")
_MOST_CLOCK_CHANGE = 86400.0
"""Seconds by which somebody may set the clock while a runtime lives."""


@dataclass(frozen=True)
class Identity:
    """A process beyond doubt."""

    pid: int
    started_at: float

    @classmethod
    def of(cls, pid: int) -> Identity | None:
        """Identify ``pid``; ``None`` if there is no such process, or only its remains."""
        try:
            process = psutil.Process(pid)
            if process.status() == psutil.STATUS_ZOMBIE:
                return None
            return cls(pid, process.create_time())
        except psutil.Error:
            return None

    def alive(self) -> bool:
        """Whether this very process still runs."""
        found = Identity.of(self.pid)
        if found is None:
            return False
        # Start times count from the boot of the machine, which Linux gives in whole seconds and
        # moves when the clock is set: the fraction of a second stays, whatever the clock does.
        moved = found.started_at - self.started_at
        return abs(moved) < _MOST_CLOCK_CHANGE and abs(moved - round(moved)) < _TICK / 2

    def kill(self) -> None:
        """End it with SIGKILL, if it is still this process."""
        if self.alive():
            try:
                os.kill(self.pid, signal.SIGKILL)
            except ProcessLookupError:
                return


def machine_id() -> str:
    """Name the world in which a pid means something: host, its boot, and the pid namespace.

    A shared home or ``/tmp`` shows runtimes of other hosts and containers, whose pids say nothing
    here.
    """
    try:
        boot = Path("/proc/sys/kernel/random/boot_id").read_text().strip()
        namespace = str(Path("/proc/self/ns/pid").readlink())
    except OSError:
        boot, namespace = "", ""
    return f"{socket.gethostname()} {boot} {namespace}"


def own_age() -> float:
    """Seconds since this process was started, to 10 ms; 0 where that cannot be told."""
    try:
        fields = Path("/proc/self/stat").read_text().rpartition(")")[2].split()
        started = int(fields[19]) / os.sysconf("SC_CLK_TCK")
        return max(0.0, time.clock_gettime(time.CLOCK_BOOTTIME) - started)
    except (OSError, AttributeError, IndexError):
        return 0.0


def adopt_orphans() -> None:
    """Become the parent of every descendant whose parent dies, so that none can slip away."""
    libc = ctypes.CDLL(None, use_errno=True)
    if hasattr(libc, "prctl"):
        libc.prctl(_PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)


def descendants(root: int) -> list[Identity]:
    """Every living process below ``root``."""
    try:
        children = psutil.Process(root).children(recursive=True)
    except psutil.Error:
        return []
    return [found for child in children if (found := Identity.of(child.pid)) is not None]


def collect_exited() -> dict[int, int]:
    """Reap children that ended; pid to wait status. Adopted orphans come here too."""
    ended: dict[int, int] = {}
    while True:
        try:
            pid, status = os.waitpid(-1, os.WNOHANG)
        except ChildProcessError:
            return ended
        if pid == 0:
            return ended
        ended[pid] = status


def describe_exit(status: int) -> str:
    """Say how a process ended: ``was killed by SIGKILL``, ``exited with code 1``."""
    if os.WIFSIGNALED(status):
        number = os.WTERMSIG(status)
        known = number in {known.value for known in signal.Signals}
        return f"was killed by {signal.Signals(number).name if known else f'signal {number}'}"
    return f"exited with code {os.waitstatus_to_exitcode(status)}"


def end_descendants(timeout: float = 8.0) -> int:
    """Kill everything below this process and wait until it is gone; returns how many.

    Children may start others while they are being ended, so this looks again until none is left.
    """
    deadline = time.monotonic() + timeout
    ended: set[Identity] = set()
    while time.monotonic() < deadline:
        collect_exited()
        living = descendants(os.getpid())
        if not living:
            break
        for process in living:
            process.kill()
        ended.update(living)
        time.sleep(0.01)
    return len(ended)


def marked_with(runtime_ids: Iterable[str]) -> list[Identity]:
    """Find processes of this user that carry the mark of one of ``runtime_ids``."""
    wanted = {f"{MARK}={runtime_id}".encode() for runtime_id in runtime_ids}
    found = []
    for entry in Path("/proc").iterdir():
        if not entry.name.isdigit():
            continue
        try:
            if entry.stat().st_uid != os.getuid():
                continue
            environment = (entry / "environ").read_bytes().split(b"\0")
        except OSError:
            continue
        if wanted.intersection(environment) and (process := Identity.of(int(entry.name))) is not None:
            found.append(process)
    return found
