"""Say how a kernel died, from what the server saw of its process and the last reading of its use.

Pure: the relay watches, this decides what is worth saying.
"""

from __future__ import annotations

import signal
from typing import TYPE_CHECKING

from heliostat._units import format_bytes
from heliostat_lab._messages import KernelEnd

if TYPE_CHECKING:
    from heliostat._messages.usage import ProcessUse, Sample

_FULL = 0.9
"""Share of the memory limit from which a SIGKILL is put down to it."""


def describe_end(
    at: float, returncode: int, sample: Sample | None, *, oom_killed: bool = False
) -> KernelEnd | None:
    """Return what to tell of a kernel that ended with ``returncode``; ``None`` for an orderly end.

    A negative code is the number of the signal that killed it, as ``subprocess`` has it.
    ``oom_killed`` is whether the operating system has ended a process for want of memory meanwhile:
    memory may fill between two readings.
    """
    if returncode == 0:
        return None
    if returncode > 0:
        what = f"The kernel exited with code {returncode}."
        return KernelEnd(at=at, what=what, action="The server's log has what it printed last.")
    name = _signal_name(-returncode)
    owner = _owner(sample)
    held = "" if owner is None else f" It held {format_bytes(owner.memory_bytes)}."
    if -returncode == signal.SIGKILL and sample is not None:
        used, limit = sample.host.memory_used_bytes, sample.host.memory_limit_bytes
        if oom_killed or used >= _FULL * limit:
            full = f"{format_bytes(used)} of {format_bytes(limit)}"
            what = f"The kernel was killed ({name}), most likely for want of memory:"
            seen = f" {full} were in use when last seen."
            return KernelEnd(at=at, what=what + seen + held + _largest(sample), action=_LESS_MEMORY)
    what = f"The kernel was killed by {name}.{held}"
    return KernelEnd(at=at, what=what, action="Its variables are lost; run the cells again.")


_LESS_MEMORY = (
    "Hold less at once (read in batches, del what is done with), or run on a machine with more memory."
)


def _signal_name(number: int) -> str:
    try:
        return signal.Signals(number).name
    except ValueError:
        return f"signal {number}"


def _owner(sample: Sample | None) -> ProcessUse | None:
    processes = [] if sample is None else sample.processes
    return next((process for process in processes if process.role == "owner"), None)


def _largest(sample: Sample) -> str:
    largest = max(sample.processes, key=lambda process: process.memory_bytes, default=None)
    if largest is None or largest.role == "owner":
        return ""
    return f" The largest process was {largest.name} with {format_bytes(largest.memory_bytes)}."
