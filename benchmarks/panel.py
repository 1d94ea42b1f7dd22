"""The panel in a real browser: how soon it shows what one does, and what it costs to keep it live.

A real JupyterLab, a real kernel and Debian's Chromium for the first figures. For the others the
supervisor is simulated, with 1 and with 100 nodes whose figures change every second; bytes are those
of the stream before compression, CPU is that of the browser's renderer processes.
"""

from __future__ import annotations

import itertools
import os
import shutil
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import psutil
from _measure import Figure, Report, main, progress

ROOT = Path(__file__).resolve().parent.parent
# The server and the notebooks of the browser tests serve here too.
sys.path.insert(0, str(ROOT))

if TYPE_CHECKING:
    from playwright.sync_api import Page

_SECONDS = 20.0
_MS_TO_BOOT = 60_000
_NOTE_PAUSES = """
() => {
  window.pauses = [];
  new PerformanceObserver(list => window.pauses.push(...list.getEntries().map(entry => entry.duration)))
    .observe({ type: 'longtask' });
}
"""
_CLICKS = """
() => new Promise(resolve => {
  const began = performance.now();
  const times = {};
  const size = () => document.querySelector('#heliostat-size-cpus').value;
  const wanted = size();
  const look = () => {
    if (!times.seen && document.querySelector('[data-testid="heliostat-plan"]') === null
        || document.querySelector('[data-testid="heliostat-plan"] .heliostat-mod-main:disabled')) {
      times.seen ??= performance.now() - began;
    }
    const isUnderWay = document.querySelector(
      '[data-testid="heliostat-plan"], [data-testid="heliostat-resizing"]'
    );
    if (isUnderWay === null && size() === wanted) {
      times.done = performance.now() - began;
      observer.disconnect();
      resolve(times);
    }
  };
  const observer = new MutationObserver(look);
  observer.observe(document, { childList: true, subtree: true, attributes: true, characterData: true });
  document.querySelector('[data-testid="heliostat-plan"] .heliostat-mod-main').click();
})
"""


def measure(runs: int) -> Report:
    """Measure on a real runtime, then on simulated ones."""
    from playwright.sync_api import sync_playwright
    from tests.e2e.conftest import running_lab

    seen, done, ages = [], [], []
    cost: dict[int, list[_Cost]] = {1: [], 100: []}
    with sync_playwright() as playwright, running_lab() as lab:
        browser = playwright.chromium.launch(executable_path=shutil.which("chromium"))
        page = browser.new_page()
        lab.write_notebook("real.ipynb", "heliostat", "1")
        page.goto(lab.page("lab/workspaces/real/tree/real.ipynb"))
        _show(page)
        for run in range(runs):
            first, last = _resize(page)
            seen.append(first)
            done.append(last)
            ages.append(_age(page))
            progress(f"run {run + 1}: seen {first:.0f} ms, done {last:.0f} ms, age {ages[-1]:.2f} s")
        page.close()
        runtime_directory = lab.notebooks.parent / "r" / "heliostat"
        for nodes, figures in cost.items():
            for _ in range(runs):
                lab.write_notebook(f"n{nodes}.ipynb", "python3", "1")
                figures.append(_cost(browser.new_page(), lab, runtime_directory, nodes))
                last_cost = figures[-1]
                progress(f"{nodes} nodes: {last_cost.kilobytes:.1f} kB/s, {last_cost.cpu:.1f} % of a core")
        browser.close()
    figures_shown = (
        Figure("click on Apply to the first visible change", "ms", tuple(seen), 150.0),
        Figure("click on Apply to resources there", "ms", tuple(done), 1500.0),
        Figure("age of a value at 1 Hz", "s", tuple(ages), 2.0),
        Figure("stream, 1 node", "kB/s", tuple(each.kilobytes for each in cost[1])),
        Figure("stream, 100 nodes", "kB/s", tuple(each.kilobytes for each in cost[100]), 60.0),
        Figure("browser CPU, 1 node", "%", tuple(each.cpu for each in cost[1])),
        Figure("browser CPU, 100 nodes", "%", tuple(each.cpu for each in cost[100]), 3.0),
        Figure("longest pause of the page, 100 nodes", "ms", tuple(each.pause for each in cost[100])),
        Figure("extension, gzipped", "kB", (_bundle_kilobytes(),), 120.0),
    )
    return Report("", figures_shown)


def _show(page: Page) -> None:
    page.get_by_test_id("heliostat-status").click(timeout=_MS_TO_BOOT)
    page.get_by_test_id("heliostat-use-cpu").wait_for(timeout=_MS_TO_BOOT)


def _resize(page: Page) -> tuple[float, float]:
    """Milliseconds from the click to the first change and to the end; changes the CPUs by one."""
    less = page.get_by_role("button", name="Less: CPUs")
    (less if less.is_enabled() else page.get_by_role("button", name="More: CPUs")).click()
    page.locator('[data-testid="heliostat-plan"] .heliostat-mod-main:enabled').wait_for()
    times = page.evaluate(_CLICKS)
    return float(times["seen"]), float(times["done"])


def _age(page: Page) -> float:
    """Longest time between two changes of a figure's chart, seen over some seconds."""
    changes: list[float] = page.evaluate(
        "() => new Promise(resolve => {"
        " const times = [performance.now()];"
        " const chart = document.querySelector('[data-testid=\"heliostat-use-cpu\"] svg');"
        " new MutationObserver(() => times.push(performance.now()))"
        "   .observe(chart, { subtree: true, attributes: true, childList: true });"
        " setTimeout(() => resolve(times), 8000); })"
    )
    return max(after - before for before, after in itertools.pairwise(changes)) / 1000


class _Cost(NamedTuple):
    """What live figures cost: the stream, % of a core of the browser, its longest task of 50 ms and more."""

    kilobytes: float
    cpu: float
    pause: float


def _cost(page: Page, lab: Any, runtime_directory: Path, nodes: int) -> _Cost:
    """Measure over a while of live figures."""
    from tests.support.simulated_supervisor import SimulatedSupervisor

    received: list[int] = []
    page.on(
        "websocket",
        lambda socket: (
            socket.on("framereceived", lambda payload: received.append(len(payload)))
            if "heliostat/api/stream" in socket.url
            else None
        ),
    )
    page.goto(lab.page(f"lab/workspaces/n{nodes}/tree/n{nodes}.ipynb"))
    page.get_by_text("Python 3 (ipykernel) | Idle").first.wait_for(timeout=_MS_TO_BOOT)
    kernels = [session["kernel"]["id"] for session in lab.get("api/sessions")]
    with SimulatedSupervisor(runtime_directory, kernels, nodes):
        _show(page)
        page.wait_for_timeout(5000)
        received.clear()
        if nodes > 1:
            page.get_by_text(f"{nodes} nodes").click()
        page.evaluate(_NOTE_PAUSES)
        renderers = _renderers()
        before, began = _cpu_seconds(renderers), time.monotonic()
        page.wait_for_timeout(1000 * _SECONDS)
        seconds = time.monotonic() - began
        used = _cpu_seconds(renderers) - before
        pause = float(page.evaluate("Math.max(0, ...window.pauses)"))
    page.close()
    return _Cost(sum(received) / seconds / 1000, 100 * used / seconds, pause)


def _renderers() -> list[psutil.Process]:
    children = psutil.Process(os.getpid()).children(recursive=True)
    return [child for child in children if "--type=renderer" in " ".join(child.cmdline())]


def _cpu_seconds(processes: list[psutil.Process]) -> float:
    times = [process.cpu_times() for process in processes if process.is_running()]
    return sum(each.user + each.system for each in times)


def _bundle_kilobytes() -> float:
    import gzip

    scripts = (ROOT / "labextension/dist/static").glob("*.js")
    return sum(len(gzip.compress(script.read_bytes())) for script in scripts) / 1000


if __name__ == "__main__":
    main("the panel", __doc__ or "", 3, measure)
