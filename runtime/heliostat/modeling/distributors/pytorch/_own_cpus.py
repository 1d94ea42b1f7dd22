"""Each rank on CPUs of its own, where the ranks of a machine have all of its CPUs.

Ranks wait for each other in each step. The scheduler wakes them where there is room just then,
beside a neighbour or with cold caches: on two CPUs that took a tenth of the time of small steps.
"""

from __future__ import annotations

import contextlib
import os
from pathlib import Path
from typing import TYPE_CHECKING

from heliostat.data._rank import CPUS_VARIABLE
from heliostat.modeling.distributors.pytorch._plan import own_cpus

if TYPE_CHECKING:
    from collections.abc import Iterator

    from heliostat.modeling.distributors.pytorch._job import Job

_all: frozenset[int] = frozenset()
"""What this process may use, while its main thread has a part of that."""


@contextlib.contextmanager
def on_own_cpus(job: Job) -> Iterator[None]:
    """Keep the calling thread, and those that it starts, on the rank's CPUs for the length of the block."""
    global _all  # noqa: PLW0603 - a fact about the process
    usable = sorted(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else []
    mine = [] if job.gpus else own_cpus(job.position, job.cpus, usable)
    if not mine:
        yield
        return
    _all = frozenset(usable)
    os.environ[CPUS_VARIABLE] = str(len(mine))
    os.sched_setaffinity(0, mine)
    try:
        yield
    finally:
        # Threads of pools stay, and the next training may divide the CPUs otherwise.
        for thread in Path("/proc/self/task").iterdir():
            with contextlib.suppress(OSError):
                os.sched_setaffinity(int(thread.name), _all)
        _all = frozenset()


def _leave_to_children() -> None:
    """A forked child, such as a DataLoader's worker, runs where there is room: its parent may wait for it."""
    if _all:
        os.sched_setaffinity(0, _all)


os.register_at_fork(after_in_child=_leave_to_children)
