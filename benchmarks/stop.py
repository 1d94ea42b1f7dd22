"""How fast a runtime is gone: after ``kill -9`` of its owner, and by ``Runtime.stop()``.

In both cases a task runs that never ends by itself, and a process that the task started in a
session of its own. The time counts until the last process is gone.
"""

from __future__ import annotations

import os
import signal
import time
from typing import TYPE_CHECKING

from _measure import Figure, Report, main, progress
from _processes import Child, own_home, wait_until_gone

if TYPE_CHECKING:
    from pathlib import Path

_SECONDS_TO_END = 60.0
_PROGRAM = """
import heliostat
runtime = heliostat.init()
import ray

def busy(path):
    import pathlib, subprocess
    subprocess.Popen(["sleep", "600"], start_new_session=True)
    pathlib.Path(path).touch()
    while True:
        pass

import pathlib
begun = pathlib.Path("begun")
begun.unlink(missing_ok=True)
reference = ray.remote(busy).remote(str(begun.absolute()))
while not begun.exists():
    time.sleep(0.01)
say()
wait_for_order()
began = time.monotonic()
runtime.stop()
say(took=time.monotonic() - began)
wait_for_order()
"""


def after_kill(home: Path) -> float:
    """Seconds from ``kill -9`` of the owner to the end of its last process."""
    with Child(_PROGRAM, home) as child:
        child.hear()
        below = child.below()
        os.kill(child.process.pid, signal.SIGKILL)
        return wait_until_gone(below, _SECONDS_TO_END)


def by_stop(home: Path) -> float:
    """Seconds that ``Runtime.stop()`` takes. Raises RuntimeError where it leaves a process."""
    with Child(_PROGRAM, home) as child:
        child.hear()
        below = child.below()
        child.order()
        took = float(child.hear()["took"])
        left = [process for process in below if process.alive()]
        if left:
            message = f"stop() returned and {len(left)} processes are still there"
            raise RuntimeError(message)
        return took


def measure(runs: int) -> Report:
    """Measure in one fresh runtime after the other."""
    killed: list[float] = []
    stopped: list[float] = []
    began = time.monotonic()
    with own_home() as home:
        for run in range(runs):
            killed.append(after_kill(home))
            stopped.append(by_stop(home))
            progress(f"run {run + 1}: kill -9 {killed[-1]:.2f} s, stop() {stopped[-1]:.2f} s")
    figures = (
        Figure("kill -9 of the owner to last process gone", "s", tuple(killed), 10.0),
        Figure("Runtime.stop()", "s", tuple(stopped)),
    )
    return Report("", figures, notes=(f"{2 * runs} runtimes in {time.monotonic() - began:.0f} s",))


if __name__ == "__main__":
    main("stop", __doc__ or "", 5, measure)
