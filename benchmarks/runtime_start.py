"""A runtime from nothing to its first task, and what it holds while idle, against ``ray.init()``.

Time counts from the start of a fresh Python process, so importing is in it on both sides.
Memory is read in processes of their own, some seconds after the boot and before any task: PSS
of every process that the driver started, the driver itself left out on both sides. Ours counts
the supervisor in, and the workers that are warmed; Ray's the workers that it starts beforehand.
"""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

from _measure import Figure, Report, main, progress
from _processes import Child, own_home, pss_megabytes

if TYPE_CHECKING:
    from pathlib import Path

_SETTLE_SECONDS = 6.0
_STOCK = "import ray; ray.init()"
_OURS = "import heliostat; heliostat.init(); import ray"
_REST = """
while not ray.cluster_resources().get("CPU"):
    time.sleep(0.002)
say()
if TASK:
    assert ray.get(ray.remote(lambda: 2).remote()) == 2
    say()
wait_for_order()
"""


def times(boot: str, home: Path) -> tuple[float, float]:
    """Seconds from the start of a process to visible resources, and to a task's result."""
    with Child(f"{boot}\nTASK = True\n{_REST}", home) as child:
        return child.hear()["at"] - child.started, child.hear()["at"] - child.started


def memory(boot: str, home: Path) -> tuple[float, int]:
    """MB (PSS) of an idle runtime, and how many processes it has."""
    with Child(f"{boot}\nTASK = False\n{_REST}", home) as child:
        child.hear()
        time.sleep(_SETTLE_SECONDS)
        below = child.below()
        return pss_megabytes(below), len(below)


def measure(runs: int) -> Report:
    """Measure both in turn."""
    ways = {"ours": _OURS, "peer": _STOCK}
    visible: dict[str, list[float]] = {way: [] for way in ways}
    first: dict[str, list[float]] = {way: [] for way in ways}
    held: dict[str, list[float]] = {way: [] for way in ways}
    count: dict[str, int] = {}
    with own_home() as home:
        for run in range(runs):
            for way, boot in ways.items():
                seen, done = times(boot, home)
                megabytes, count[way] = memory(boot, home)
                progress(f"run {run + 1} {way}: {seen:.2f} s, {done:.2f} s, {megabytes:.0f} MB")
                visible[way].append(seen)
                first[way].append(done)
                held[way].append(megabytes)
    figures = (
        Figure("resources visible", "s", tuple(visible["ours"]), 0.3, tuple(visible["peer"])),
        Figure("first task's result", "s", tuple(first["ours"]), 0.5, tuple(first["peer"])),
        Figure("memory when idle", "MB", tuple(held["ours"]), 0.35, tuple(held["peer"])),
    )
    note = f"memory: PSS {_SETTLE_SECONDS:g} s after the boot, driver left out on both sides, no task yet;"
    detail = f"{count['ours']} processes (supervisor and warmed workers in it) against {count['peer']}"
    return Report("", figures, notes=(note, detail))


if __name__ == "__main__":
    main("runtime start, against ray.init()", __doc__ or "", 5, measure)
