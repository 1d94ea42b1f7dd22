"""How long a cell ``1+1`` is held up at most while the runtime boots.

From the moment that the kernel has said what it is until it is connected to its runtime,
``1+1`` is run over and over, with 10 ms between. The peer is the same kernel with
``HELIOSTAT_AUTOSTART=0``, for as long as the boot before it took.
"""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

from _kernels import MeasuredKernel
from _measure import Figure, Report, main, progress
from _processes import own_home

if TYPE_CHECKING:
    from pathlib import Path

_PAUSE_SECONDS = 0.01
_SECONDS_TO_BOOT = 60.0
_CONNECTED = "__import__('heliostat._handle')._handle.current()._watcher.is_connected()"


def boot_delays(home: Path) -> tuple[list[float], float]:
    """Round trips in seconds while the runtime boots, and how long it took from the first on."""
    with MeasuredKernel("heliostat", home) as kernel:
        kernel.ready()
        return _delays(kernel, _SECONDS_TO_BOOT, until_connected=True)


def plain_delays(home: Path, seconds: float) -> list[float]:
    """Round trips in seconds without a runtime, for so long."""
    with MeasuredKernel("heliostat", home, HELIOSTAT_AUTOSTART="0") as kernel:
        kernel.ready()
        return _delays(kernel, seconds, until_connected=False)[0]


def _delays(kernel: MeasuredKernel, seconds: float, *, until_connected: bool) -> tuple[list[float], float]:
    found: list[float] = []
    began = time.monotonic()
    expressions = {"connected": _CONNECTED} if until_connected else {"connected": "False"}
    while time.monotonic() - began < seconds:
        sent = time.monotonic()
        answer = kernel.execute("1+1", **expressions)
        found.append(time.monotonic() - sent)
        if answer["connected"] == "True":
            return found, time.monotonic() - began
        time.sleep(_PAUSE_SECONDS)
    if until_connected:
        message = f"the runtime was not connected after {seconds:g} s"
        raise TimeoutError(message)
    return found, seconds


def measure(runs: int) -> Report:
    """Measure both in turn, after one start that does not count."""
    ours: list[float] = []
    plain: list[float] = []
    cells: list[int] = []
    with own_home() as home:
        boot_delays(home)
        for run in range(runs):
            found, seconds = boot_delays(home)
            quiet = plain_delays(home, seconds)
            progress(f"run {run + 1}: {max(found):.3f} s in {seconds:.2f} s, without: {max(quiet):.3f} s")
            ours.append(max(found))
            plain.append(max(quiet))
            cells.append(len(found))
    figures = (
        Figure("longest 1+1 while booting", "s", tuple(ours), 0.3),
        Figure("longest 1+1 without a runtime", "s", tuple(plain)),
    )
    return Report("", figures, notes=(f"{min(cells)} to {max(cells)} cells ran during a boot",))


if __name__ == "__main__":
    main("cells while the runtime boots", __doc__ or "", 5, measure)
