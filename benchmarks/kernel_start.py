"""From the start of a kernel process to the reply to ``1+1``, against plain ipykernel.

Both are started from their kernelspecs, in turn, with the same client. The Heliostat kernel
boots its runtime at the same time, on the same processors.
"""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

from _kernels import MeasuredKernel
from _measure import Figure, Report, main, progress
from _processes import own_home

if TYPE_CHECKING:
    from pathlib import Path

_KERNELS = {"ours": "heliostat", "peer": "python3"}


def seconds_to_reply(kernel: str, home: Path) -> float:
    """Start a kernel and run ``1+1`` in it."""
    with MeasuredKernel(kernel, home) as started:
        started.execute("1+1")
        return time.monotonic() - started.started


def measure(runs: int) -> Report:
    """Measure both in turn, after one start of each that does not count."""
    found: dict[str, list[float]] = {way: [] for way in _KERNELS}
    with own_home() as home:
        for run in range(runs + 1):
            for way, kernel in _KERNELS.items():
                seconds = seconds_to_reply(kernel, home)
                progress(f"run {run} {way}: {seconds:.3f} s")
                if run > 0:
                    found[way].append(seconds)
    figure = Figure("start to reply of 1+1", "s", tuple(found["ours"]), 1.15, tuple(found["peer"]))
    return Report("", (figure,))


if __name__ == "__main__":
    main("kernel start, against ipykernel", __doc__ or "", 7, measure)
