"""Resizing a live runtime: up until it is seen and used, down against a saturated queue.

Up: an actor holds the only CPU, a task that needs 2 waits, and the runtime goes from 1 to 3.
Down: more tasks of 0.2 s are queued than 10 s can finish. The size counts as reached when the
resize is done and no two tasks overlap any more, by the times that they note themselves; that is
watched for 2 s. Then the runtime grows again and every task must give its result. None is ever
retried, so one that was lost is an error. The machine may have fewer CPUs than 4:
``HELIOSTAT_MAX_CPUS=4`` lets tasks share them.

Ray's own total is no measure here: while a saturated queue holds the CPUs, they are taken from
it by parking, and ``cluster_resources()`` shows the former size until the queue is through.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from _measure import Figure, Report, main, progress
from _processes import Child, own_home

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

_TASKS_PER_CPU = 70
_PROGRAM = """
import heliostat
from heliostat._messages.resizing import ResizeTarget
runtime = heliostat.init(cpus=1)
import ray

def cpus():
    return ray.cluster_resources().get("CPU", 0)

def resize(count):
    runtime.resize(ResizeTarget(cpus=count))
    while cpus() != count:
        time.sleep(0.002)

class Holder:
    def ready(self):
        return True

def short():
    began = time.monotonic()
    time.sleep(0.2)
    return began, time.monotonic()

def up():
    holder = ray.remote(num_cpus=1)(Holder).remote()
    ray.get(holder.ready.remote())
    pending = ray.remote(num_cpus=2)(lambda: time.monotonic()).remote()
    assert not ray.wait([pending], timeout=0.5)[0]
    called = time.monotonic()
    runtime.resize(ResizeTarget(cpus=3), wait=False)
    while cpus() != 3:
        time.sleep(0.002)
    seen = time.monotonic() - called
    ran = ray.get(pending, timeout=60) - called
    ray.kill(holder)
    while not runtime.status().resize.state.finished:
        time.sleep(0.01)
    say(seen=seen, ran=ran)

def down(start, tasks):
    resize(start)
    task = ray.remote(num_cpus=1, max_retries=0)(short)
    ray.get([task.remote() for _ in range(4 * start)])
    queued = [task.remote() for _ in range(tasks)]
    ray.wait(queued, num_returns=start, timeout=60)
    called = time.monotonic()
    runtime.resize(ResizeTarget(cpus=1))
    done = time.monotonic()
    time.sleep(2)
    left = len(ray.wait(queued, num_returns=len(queued), timeout=0)[1])
    again = time.monotonic()
    resize(4)
    spans = ray.get(queued, timeout=120)
    say(called=called, done=done, again=again, left=left, spans=spans)
"""


def last_overlap(spans: Sequence[Sequence[float]], before: float) -> float:
    """Return the last moment up to ``before`` at which two spans of time overlapped.

    Minus infinity where none did.
    """
    changes = sorted([(began, 1) for began, _ in spans] + [(ended, -1) for _, ended in spans])
    last, running, since = float("-inf"), 0, 0.0
    for at, change in changes:
        if running > 1 and since < before:
            last = min(at, before)
        running, since = running + change, at
    return last


def seconds_down(facts: dict[str, Any], tasks: int) -> tuple[float, int]:
    """Seconds until the size was reached, and how many tasks were lost.

    Raises RuntimeError where the figures say nothing, or the size was not kept.
    """
    if not facts["left"]:
        message = "the queue ran empty before the size was reached: that says nothing"
        raise RuntimeError(message)
    overlapped = last_overlap(facts["spans"], facts["again"])
    if overlapped == facts["again"]:
        message = "the resize was reported as done and tasks went on side by side"
        raise RuntimeError(message)
    return max(overlapped, facts["done"]) - facts["called"], tasks - len(facts["spans"])


def one_run(home: Path) -> tuple[dict[str, float], int]:
    """Seconds of each measured step in a fresh runtime, and how many tasks were lost."""
    two, four = 2 * _TASKS_PER_CPU, 4 * _TASKS_PER_CPU
    steps = f"up()\ndown(2, {two})\ndown(4, {four})\n"
    with Child(_PROGRAM + steps, home, HELIOSTAT_MAX_CPUS="4") as child:
        up = child.hear()
        from_two, lost_of_two = seconds_down(child.hear(), two)
        from_four, lost_of_four = seconds_down(child.hear(), four)
    seconds = {
        "up: seen in cluster_resources()": up["seen"],
        "up: pending 2-CPU task runs": up["ran"],
        "down 2 to 1, saturated queue": from_two,
        "down 4 to 1, saturated queue": from_four,
    }
    return seconds, lost_of_two + lost_of_four


_GOALS = (0.3, 4.0, 10.0, 10.0)


def measure(runs: int) -> Report:
    """Measure in one fresh runtime after the other."""
    found: list[dict[str, float]] = []
    lost: list[float] = []
    with own_home() as home:
        for run in range(runs):
            seconds, missing = one_run(home)
            progress(f"run {run + 1}: " + ", ".join(f"{what} {took:.3f} s" for what, took in seconds.items()))
            found.append(seconds)
            lost.append(missing)
    figures = [
        Figure(what, "s", tuple(seconds[what] for seconds in found), goal)
        for what, goal in zip(found[0], _GOALS, strict=True)
    ]
    figures.append(Figure("tasks lost", "tasks", tuple(lost), 0.0))
    return Report("", tuple(figures))


if __name__ == "__main__":
    main("resize", __doc__ or "", 5, measure)
