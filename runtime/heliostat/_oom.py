"""Whether the operating system ended a process for want of memory: by its own record, or by a count.

The record is in the kernel's log, which names each such process, where it may be read: by root, or
where nothing restricts it. Everywhere else there are only counts, of the control group or of the
whole machine, which say that it happened, but not to whom.
"""

from __future__ import annotations

import contextlib
import os
import re
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator

_LOG = Path("/dev/kmsg")
_RECORD_BYTES = 8192
_FIRST_NAMESPACE = "pid:[4026531836]"
"""Where processes have the numbers that the kernel's log has."""
_COUNTERS = (("/proc/vmstat", "oom_kill"), ("/sys/fs/cgroup/memory.events", "oom_kill"))
_CLOCKS_APART_S = 5.0
"""How far the log's clock may be from ours."""


def oom_kills() -> int:
    """How many processes the kernel has killed for want of memory, as far as it tells."""
    total = 0
    for path, name in _COUNTERS:
        with contextlib.suppress(OSError, ValueError):
            for line in Path(path).read_text().splitlines():
                key, _, value = line.partition(" ")
                total += int(value) if key == name else 0
    return total


@dataclass(frozen=True)
class Watch:
    """What was known before a process began; make it then."""

    kills: int = field(default_factory=oom_kills)
    at: float = field(default_factory=time.monotonic)

    def killed(self, pid: int) -> bool | None:
        """Whether the process of this machine that had ``pid`` was killed for want of memory.

        ``None`` where some process was, and nobody says which.
        """
        with contextlib.suppress(OSError):
            if Path("/proc/self/ns/pid").readlink().name == _FIRST_NAMESPACE:
                named = re.compile(rf"Killed process {pid} \(|oom-kill:.*\bpid={pid},")
                return any(named.search(text) for text in _records(self.at - _CLOCKS_APART_S))
        return None if oom_kills() > self.kills else False


def _records(since: float) -> Iterator[str]:
    """Lines of the kernel's log since a time of the monotonic clock. Raises OSError where it is closed."""
    log = os.open(_LOG, os.O_RDONLY | os.O_NONBLOCK)
    try:
        while True:
            try:
                head, _, text = os.read(log, _RECORD_BYTES).decode(errors="replace").partition(";")
            except BrokenPipeError:
                continue  # it was overwritten before it was read
            except BlockingIOError:
                return
            if int(head.split(",")[2]) >= since * 1e6:
                yield text
    finally:
        os.close(log)
