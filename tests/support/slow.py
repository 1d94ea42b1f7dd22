"""A callback that gives tests time, in a module that workers import quickly."""

from __future__ import annotations

import os
import time
from pathlib import Path
from typing import Any

import numpy as np


class Slow:
    """Waits after each round, and remembers it; takes memory in a process of the control group."""

    def __init__(self) -> None:
        self.group = f"heliostat-test-{os.getpid()}"
        self.seen: list[int] = []

    def __call__(self, env: Any) -> None:
        """LightGBM calls it."""
        self.after(env.iteration - env.begin_iteration)

    def after(self, number: int) -> None:
        """Wait, and remember the round."""
        self.seen.append(number)
        time.sleep(0.01)
        if f"/{self.group}" in Path("/proc/self/cgroup").read_text():
            np.ones(40_000_000)
