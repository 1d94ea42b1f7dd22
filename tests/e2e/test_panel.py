"""The panel of a real JupyterLab in a real browser, on real kernels with real runtimes."""

from __future__ import annotations

import os
import re
import signal
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from playwright.sync_api import expect
from tests.support.nvml import build_fake_nvml, fake_nvml_environment

from .conftest import running_lab

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from playwright.sync_api import Locator, Page

    from .conftest import Lab

    Open = Callable[..., Page]

pytestmark = [pytest.mark.browser, pytest.mark.timeout(240)]
SLOW = 60_000
QUICK = 10_000
AXE = Path(__file__).parents[2] / "node_modules/axe-core/axe.min.js"
STEPS = """
window.heliostatSteps = new Set();
new MutationObserver(() => {
  for (const step of document.querySelectorAll('.heliostat-Steps li')) {
    window.heliostatSteps.add(step.firstChild.textContent.trim());
  }
}).observe(document, { childList: true, subtree: true, characterData: true });
"""
SMALL = "import heliostat, ray, time\nr = heliostat.runtime()\nr.resize(cpus=1).state.value"
NEEDS_TWO = "ray.get(ray.remote(num_cpus=2)(lambda: 'it' + ' ran').remote())"
HOLDS_THE_GIL = (
    "import ctypes\nprint('be' + 'gun', flush=True)\nctypes.PyDLL(None).sleep(25)\n'gil' + ' freed'"
)


@pytest.fixture
def open_notebook(page: Page, lab: Lab) -> Open:
    """Open a new notebook on our kernel, with the panel shown: ``open_notebook(name, *cells)``."""

    def open_it(name: str, *cells: str) -> Page:
        lab.write_notebook(name, "heliostat", *cells)
        page.add_init_script(STEPS)
        page.goto(in_own_workspace(lab, name))
        show_panel(page)
        return page

    return open_it


def in_own_workspace(lab: Lab, name: str) -> str:
    """Address of a notebook in a window that has nothing else open."""
    return lab.page(f"lab/workspaces/{name.removesuffix('.ipynb')}/tree/{name}")


def toolbar_button(page: Page) -> Locator:
    """The notebook's button that shows the panel."""
    return page.locator('[data-command="heliostat:show-panel"]')


def show_panel(page: Page) -> None:
    """Click the item of the status bar."""
    page.get_by_test_id("heliostat-status").click(timeout=SLOW)
    expect(panel(page)).to_be_visible()


def panel(page: Page) -> Locator:
    """The panel."""
    return page.get_by_role("region", name="Heliostat runtime")


def wait_until_ready(page: Page) -> None:
    """The runtime is up and has been read once."""
    expect(page.get_by_test_id("heliostat-state")).to_have_text("ready", timeout=SLOW)
    expect(page.get_by_test_id("heliostat-use-cpu")).to_be_visible(timeout=QUICK)


def run_cells(page: Page, count: int) -> None:
    """Run so many cells from the first on, without waiting for any."""
    page.locator(".jp-Notebook .jp-Cell").first.locator(".cm-content").click()
    for _ in range(count):
        page.keyboard.press("Shift+Enter")


def picture(page: Page, name: str, artefacts: Path) -> None:
    """Keep what is seen."""
    page.screenshot(path=artefacts / f"panel-{name}.png")


def test_boot_and_resize_while_a_cell_waits(open_notebook: Open, artefacts: Path) -> None:
    """Boot steps are seen; a task that needs two CPUs waits; two clicks later it runs."""
    page = open_notebook("resize.ipynb", SMALL, NEEDS_TWO)
    wait_until_ready(page)
    panel(page).get_by_role("button", name="Restart", exact=True).click()
    page.get_by_role("dialog").get_by_role("button", name="Restart", exact=True).click()
    page.wait_for_function("window.heliostatSteps.size > 1", timeout=SLOW)
    wait_until_ready(page)
    run_cells(page, 2)
    expect(page.get_by_test_id("heliostat-pending")).to_contain_text("CPU", timeout=SLOW)
    picture(page, "waiting", artefacts)
    panel(page).get_by_role("button", name="More: CPUs").click()
    expect(page.get_by_test_id("heliostat-plan")).to_contain_text("adds 1 CPU", timeout=QUICK)
    expect(page.get_by_test_id("heliostat-plan")).to_contain_text("%resize cpus=2")
    picture(page, "plan", artefacts)
    panel(page).get_by_role("button", name="Apply", exact=True).click()
    expect(page.get_by_text("'it ran'")).to_be_visible(timeout=SLOW)
    expect(page.get_by_test_id("heliostat-resize-outcome")).to_contain_text("size that was asked for")
    expect(page.get_by_test_id("heliostat-pending")).to_have_count(0, timeout=QUICK)
    cell = page.get_by_test_id("heliostat-cell").filter(has_text="ray.get(ray.remote")
    cell.get_by_role("button").click()
    expect(page.locator(".jp-Notebook .jp-Cell.jp-mod-active")).to_contain_text("num_cpus")


TRAINS = """
import numpy, pandas
from heliostat.modeling.distributors.xgboost import XGBEstimator
frame = pandas.DataFrame(numpy.random.default_rng(0).random((20000, 10)), columns=list("abcdefghij"))
XGBEstimator(n_estimators=100000).fit(frame, input_cols=list("abcdefghi"), label_col="j")
"""


def test_a_training_is_watched_and_cancelled_from_the_panel(open_notebook: Open, artefacts: Path) -> None:
    """A training shows its rounds and metrics; Cancel ends it, and the cell says so."""
    page = open_notebook("train.ipynb", TRAINS)
    wait_until_ready(page)
    run_cells(page, 1)
    piece = page.get_by_test_id("heliostat-work")
    expect(piece).to_contain_text(re.compile(r"[1-9]\d* of 100000 rounds"), timeout=SLOW)
    picture(page, "training", artefacts)
    piece.get_by_role("button", name=re.compile("^Cancel")).click()
    expect(piece).to_contain_text("cancelled", timeout=QUICK)
    expect(page.get_by_text(re.compile("was cancelled")).first).to_be_visible(timeout=QUICK)


def test_values_and_resizing_live_while_a_cell_holds_the_gil(open_notebook: Open, artefacts: Path) -> None:
    """A C call that blocks the whole kernel does not hold up the panel: figures move, a resize is done."""
    page = open_notebook("gil.ipynb", SMALL, HOLDS_THE_GIL)
    wait_until_ready(page)
    run_cells(page, 2)
    expect(page.get_by_text("begun", exact=True)).to_be_visible(timeout=SLOW)
    panel(page).get_by_role("button", name="More: CPUs").click()
    panel(page).get_by_role("button", name="Apply", exact=True).click(timeout=QUICK)
    expect(page.get_by_test_id("heliostat-resize-outcome")).to_be_visible(timeout=15_000)
    expect(page.get_by_test_id("heliostat-stale")).to_have_count(0)
    picture(page, "gil", artefacts)
    assert page.get_by_text("gil freed").count() == 0, "the call had ended before the resize was done"
    expect(page.get_by_text("'gil freed'")).to_be_visible(timeout=SLOW)


def test_a_busy_cell_a_reload_and_a_second_notebook(open_notebook: Open, lab: Lab, artefacts: Path) -> None:
    """The CPU chart rises with a busy cell, survives a reload, and each notebook shows its own runtime."""
    page = open_notebook("busy.ipynb", "import time\nend = time.time() + 40\nwhile time.time() < end: pass")
    wait_until_ready(page)
    run_cells(page, 1)
    busy = re.compile(r"CPU(0\.[89]|[1-9])[\d.]* of \d+ CPUs")
    expect(page.get_by_test_id("heliostat-use-cpu")).to_have_text(busy, timeout=SLOW)
    address = panel(page).locator("code").first.text_content()
    page.reload()
    expect(page.get_by_test_id("heliostat-status")).to_be_visible(timeout=SLOW)
    if not panel(page).is_visible():
        show_panel(page)
    wait_until_ready(page)
    expect(panel(page).locator("code").first).to_have_text(address or "")
    expect(page.get_by_test_id("heliostat-cell").first).to_contain_text("import time", timeout=QUICK)
    picture(page, "reloaded", artefacts)
    lab.write_notebook("second.ipynb", "heliostat", "1")
    page.goto(in_own_workspace(lab, "second.ipynb"))
    show_panel(page)
    expect(page.get_by_test_id("heliostat-status")).to_be_visible(timeout=SLOW)
    wait_until_ready(page)
    second = panel(page).locator("code").first.text_content()
    assert second != address
    running = lab.get("heliostat/api/runtimes")
    assert len({manifest["owner"]["kernel_id"] for manifest in running}) == len(running)


def test_a_killed_kernel_tells_how_it_died(open_notebook: Open, lab: Lab, artefacts: Path) -> None:
    """After kill -9 of the kernel the panel says so in words."""
    page = open_notebook("killed.ipynb", "import os\nprint('pid', os.getpid(), 'end')")
    wait_until_ready(page)
    run_cells(page, 1)
    output = page.get_by_text(re.compile(r"^pid \d+ end"))
    expect(output).to_be_visible(timeout=SLOW)
    os.kill(int((output.text_content() or "").split()[1]), signal.SIGKILL)
    expect(page.get_by_test_id("heliostat-died")).to_contain_text("killed by SIGKILL", timeout=QUICK)
    picture(page, "killed", artefacts)


def test_dark_theme_and_accessibility(open_notebook: Open, lab: Lab, artefacts: Path) -> None:
    """In the light and in the dark theme the panel has no serious violation that axe knows."""
    page = open_notebook("dark.ipynb", "1 + 1")
    wait_until_ready(page)
    run_cells(page, 1)
    expect(page.get_by_test_id("heliostat-cell").first).to_be_visible(timeout=QUICK)
    panel(page).get_by_role("button", name="Less: CPUs").click()
    expect(page.get_by_test_id("heliostat-plan")).to_contain_text("takes away", timeout=QUICK)
    page.add_script_tag(path=AXE)
    assert serious_violations(page) == []
    lab.set_theme("JupyterLab Dark")
    page.reload()
    expect(page.locator("body")).to_have_attribute("data-jp-theme-light", "false", timeout=SLOW)
    expect(page.get_by_test_id("heliostat-status")).to_be_visible(timeout=SLOW)
    if not panel(page).is_visible():
        show_panel(page)
    wait_until_ready(page)
    page.add_script_tag(path=AXE)
    assert serious_violations(page) == []
    picture(page, "dark", artefacts)
    lab.set_theme("JupyterLab Light")


def serious_violations(page: Page) -> list[str]:
    """What axe finds in the panel that is serious or worse."""
    found: list[dict[str, Any]] = page.evaluate("axe.run('#heliostat-panel').then(r => r.violations)")
    return [
        f"{rule['id']}: {rule['help']}: {rule['nodes'][0]['html']} {rule['nodes'][0]['failureSummary']}"
        for rule in found
        if rule["impact"] in ("serious", "critical")
    ]


def test_a_kernel_that_is_not_ours_is_told_what_to_do(page: Page, lab: Lab, artefacts: Path) -> None:
    """A plain Python kernel: the panel says how to get a runtime, and its button gets one."""
    lab.write_notebook("foreign.ipynb", "python3", "1 + 1")
    page.goto(in_own_workspace(lab, "foreign.ipynb"))
    toolbar_button(page).click(timeout=SLOW)
    expect(page.get_by_test_id("heliostat-absent")).to_contain_text("%load_ext heliostat", timeout=SLOW)
    picture(page, "foreign", artefacts)
    page.get_by_role("button", name="Start a runtime here").click()
    wait_until_ready(page)


class TestBehindAHub:
    """A server below a base URL, as JupyterHub runs it, on a machine with two GPUs, one of them cut."""

    @pytest.fixture(scope="class")
    @classmethod
    def hub(cls, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Lab]:
        """The server; the driver's library is the stand-in."""
        figures = tmp_path_factory.mktemp("figures") / "gpus.txt"
        figures.write_text(
            "gpu uuid=GPU-a name=Fake_H100 util=63 total=80000000000 used=30000000000 temp=55 power=310000"
            f" limit=700000\nprocess pid={os.getpid()} memory=12000000000\n"
            "gpu uuid=GPU-b name=Fake_H100 total=80000000000 used=0\n"
            "slice uuid=MIG-c name=Fake_H100_1g.10gb total=10000000000 used=9500000000\n"
        )
        library = build_fake_nvml(tmp_path_factory.mktemp("nvml"))
        with running_lab("/user/ada/", **fake_nvml_environment(library, figures)) as lab:
            yield lab

    def test_gpu_rows(self, page: Page, hub: Lab, artefacts: Path) -> None:
        """Each GPU has its figures, its processes and its limits; a slice is called one."""
        hub.write_notebook("gpus.ipynb", "heliostat", "1 + 1")
        page.goto(in_own_workspace(hub, "gpus.ipynb"))
        show_panel(page)
        wait_until_ready(page)
        first = page.get_by_test_id("heliostat-gpu-GPU-a")
        expect(first).to_contain_text("63 %")
        expect(first).to_contain_text("55 °C")
        expect(first).to_contain_text("310 of 700 W")
        expect(first).to_contain_text("not of this notebook")
        expect(first).to_contain_text("11 GiB")
        cut = page.get_by_test_id("heliostat-gpu-MIG-c")
        expect(cut).to_contain_text("MIG slice")
        expect(cut).to_contain_text("almost full")
        cut.scroll_into_view_if_needed()
        picture(page, "gpus", artefacts)

    def test_notebook_7(self, page: Page, hub: Lab, artefacts: Path) -> None:
        """In Notebook 7 the toolbar's button shows the same panel, with live figures."""
        hub.write_notebook("seven.ipynb", "heliostat", "1 + 1")
        page.goto(hub.page("notebooks/seven.ipynb"))
        toolbar_button(page).click(timeout=SLOW)
        wait_until_ready(page)
        picture(page, "notebook-7", artefacts)
