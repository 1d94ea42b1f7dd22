"""Waiting for what a training does, and for what it leaves behind."""

from __future__ import annotations

import os
import threading
import time
from typing import TYPE_CHECKING

import psutil

from heliostat import _progress
from heliostat.modeling._workers import pool

if TYPE_CHECKING:
    from collections.abc import Callable

    from heliostat._runtime import Runtime


def until(condition: Callable[[], bool], seconds: float, what: str) -> None:
    """Poll until ``condition`` holds; fail with ``what`` after ``seconds``."""
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, f"not within {seconds} s: {what}"
        time.sleep(0.02)


def at_round(count: int, act: Callable[[_progress.TaskSnapshot], None]) -> threading.Thread:
    """Call ``act`` once the training that runs next has done ``count`` rounds, and no later."""
    known = {task.snapshot.task_id for task in _progress.tasks()}

    def watch() -> None:
        def now() -> list[_progress.TaskSnapshot]:
            fresh = [task.snapshot for task in _progress.tasks() if task.snapshot.task_id not in known]
            return [each for each in fresh if each.done >= count and each.workers]

        until(lambda: bool(now()), 40, f"round {count} is done")
        act(now()[0])

    thread = threading.Thread(target=watch)
    thread.start()
    return thread


def assert_clean(runtime: Runtime) -> None:
    """Assert that a training left no busy process, no reservation and no rows behind."""
    import ray

    until(lambda: not _working(runtime), 2, "the workers are gone")
    until(lambda: ray.available_resources().get("CPU", 0) == 2, 10, "both CPUs are free again")
    assert _scratch_directories(runtime) == []


def _scratch_directories(runtime: Runtime) -> list[str]:
    """Spill directories that are there now."""
    return [entry.name for entry in os.scandir(runtime.status().session_dir) if "spill" in entry.name]


def _working(runtime: Runtime) -> list[psutil.Process]:
    """Processes of this runtime's workers that are not idle."""
    found = []
    idle = pool.pids()
    for process in psutil.Process(runtime.status().supervisor_pid).children(recursive=True):
        try:
            if "WorkerProcess.serve" in " ".join(process.cmdline()) and process.pid not in idle:
                found.append(process)
        except psutil.Error:
            continue
    return found
