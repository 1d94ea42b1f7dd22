"""How many processes the operating system has ended for want of memory."""

from __future__ import annotations

import contextlib
from pathlib import Path

_COUNTERS = (("/proc/vmstat", "oom_kill"), ("/sys/fs/cgroup/memory.events", "oom_kill"))


def oom_kills() -> int:
    """How many processes the kernel has killed for want of memory, as far as it tells."""
    total = 0
    for path, name in _COUNTERS:
        with contextlib.suppress(OSError, ValueError):
            for line in Path(path).read_text().splitlines():
                key, _, value = line.partition(" ")
                total += int(value) if key == name else 0
    return total
