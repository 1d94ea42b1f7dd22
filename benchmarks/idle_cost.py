"""What an idle runtime costs while nobody uses it: CPU time over 30 s and memory.

The supervisor with its sampler is told apart from what it started: Ray's daemons, the stand-ins
of its agents, and the worker that was warmed.
"""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

from _measure import Figure, Report, main, progress
from _processes import Child, cpu_seconds, own_home, pss_megabytes

if TYPE_CHECKING:
    from pathlib import Path

_SETTLE_SECONDS = 6.0
_SECONDS = 30.0
_PROGRAM = """
import heliostat
say(supervisor=heliostat.init().status().supervisor_pid)
wait_for_order()
"""


def one_run(home: Path) -> dict[str, tuple[float, float]]:
    """Percent of one core and MB (PSS) of an idle runtime: supervisor, and the rest."""
    with Child(_PROGRAM, home) as child:
        pid = child.hear()["supervisor"]
        time.sleep(_SETTLE_SECONDS)
        below = child.below()
        parts = {
            "supervisor": [process for process in below if process.pid == pid],
            "ray": [process for process in below if process.pid != pid],
        }
        began = time.monotonic()
        before = {name: cpu_seconds(part) for name, part in parts.items()}
        time.sleep(_SECONDS)
        took = time.monotonic() - began
        return {
            name: (100 * (cpu_seconds(part) - before[name]) / took, pss_megabytes(part))
            for name, part in parts.items()
        }


def measure(runs: int) -> Report:
    """Measure in one fresh runtime after the other."""
    found = []
    with own_home() as home:
        for run in range(runs):
            found.append(one_run(home))
            progress(f"run {run + 1}: {found[-1]}")
    figures = (
        Figure("CPU of the supervisor", "%", tuple(each["supervisor"][0] for each in found), 2.0),
        Figure("memory of the supervisor", "MB", tuple(each["supervisor"][1] for each in found), 120.0),
        Figure("CPU of Ray", "%", tuple(each["ray"][0] for each in found)),
        Figure("memory of Ray", "MB", tuple(each["ray"][1] for each in found)),
    )
    note = f"% of one core over {_SECONDS:g} s; memory as PSS; {_SETTLE_SECONDS:g} s after the boot"
    return Report("", figures, notes=(note,))


if __name__ == "__main__":
    main("idle cost", __doc__ or "", 3, measure)
