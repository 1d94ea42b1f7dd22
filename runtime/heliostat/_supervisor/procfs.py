"""Single processes as ``/proc`` shows them: who they are, what they have used, what they hold.

Files are read with bare system calls: a sampler reads some of them for every process, every
second, and this costs a tenth of what general process libraries do.
"""

from __future__ import annotations

import os
from dataclasses import dataclass

TICKS = os.sysconf("SC_CLK_TCK")
"""Units of a second in which the kernel counts CPU time and start times."""
_PAGE = os.sysconf("SC_PAGE_SIZE")
_SMALL = 8192
_LARGE = 1 << 20


@dataclass(frozen=True, slots=True)
class Stat:
    """One process as ``/proc/PID/stat`` shows it."""

    pid: int
    parent: int
    name: str
    started: int
    """Clock ticks from the machine's start: with the pid, who this is beyond doubt."""
    own_seconds: float
    """CPU-seconds of the process itself."""
    reaped_seconds: float
    """CPU-seconds of children that ended and that it has waited for."""


def read_stat(proc: str, pid: int) -> Stat | None:
    """Read who a process is and what it has used; ``None`` if it is gone."""
    text = _read(f"{proc}/{pid}/stat")
    if not text:
        return None
    # The name may hold blanks and brackets, so fields are counted from its last bracket.
    opened, closed = text.index("("), text.rindex(")")
    fields = text[closed + 2 :].split()
    return Stat(
        pid=pid,
        parent=int(fields[1]),
        name=text[opened + 1 : closed],
        started=int(fields[19]),
        own_seconds=(int(fields[11]) + int(fields[12])) / TICKS,
        reaped_seconds=(int(fields[13]) + int(fields[14])) / TICKS,
    )


def read_memory(proc: str, pid: int) -> tuple[int, int]:
    """Bytes that a process holds alone, and those shared with others; zeros once it is gone."""
    fields = (_read(f"{proc}/{pid}/statm") or "0 0 0").split()
    resident, shared = int(fields[1]), int(fields[2])
    return max(0, resident - shared) * _PAGE, shared * _PAGE


def read_peak(proc: str, pid: int) -> int | None:
    """Most bytes that a process ever held, less those that it shares now."""
    for line in (_read(f"{proc}/{pid}/status") or "").splitlines():
        if line.startswith("VmHWM:"):
            return max(0, int(line.split()[1]) * 1024 - read_memory(proc, pid)[1])
    return None


def read_arguments(proc: str, pid: int) -> list[str]:
    """Command line of a process, or the title it gave itself; ``[""]`` once it is gone."""
    return (_read(f"{proc}/{pid}/cmdline") or "").split("\0")


def _read(path: str, most: int = _SMALL) -> str | None:
    """Read a small file of ``/proc``; ``None`` once its process is gone."""
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    except OSError:
        return None
    try:
        return os.read(descriptor, most).decode(errors="replace")
    except OSError:
        return None
    finally:
        os.close(descriptor)


def boot_time(proc: str) -> float:
    """Unix time at which the machine started: what start times in ticks count from."""
    for line in (_read(f"{proc}/stat", _LARGE) or "").splitlines():
        if line.startswith("btime "):
            return float(line.split()[1])
    return 0.0
