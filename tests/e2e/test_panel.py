"""The panel of a real JupyterLab in a real browser, on real kernels with real runtimes."""

from __future__ import annotations

import os
import re
import signal
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from playwright.sync_api import expect
from tests.support.nvml import build_fake_nvml, fake_nvml_environment

from .conftest import running_lab
from .pages import (
    QUICK,
    SLOW,
    in_own_workspace,
    panel,
    picture,
    run_cells,
    serious_violations,
    show_panel,
    toolbar_button,
    wait_until_ready,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from playwright.sync_api import Page

    from .conftest import Lab

    Open = Callable[..., Page]

pytestmark = [pytest.mark.browser, pytest.mark.timeout(240)]
SMALL = "import heliostat, ray, time\nr = heliostat.runtime()\nr.resize(cpus=1).state.value"
NEEDS_TWO = "ray.get(ray.remote(num_cpus=2)(lambda: 'it' + ' ran').remote())"
START_RANKS = (
    "import heliostat\nfrom heliostat import _ranks\n"
    "heliostat.init().wait()\ngroup = _ranks.start(_ranks.Wish(ranks=2))\n"
    "print('pi' + 'ds', [rank.prepared.pid for rank in group.ranks], 'end')"
)
WAIT_ON_RANKS = "%%distribute\nimport time\ntime.sleep(120)"
QUERY = "%%sql\nSELECT count(*) FROM range(1000000) a, range(1000000) b WHERE a.range < b.range"
CHOOSE_THEME = "theme => jupyterapp.commands.execute('apputils:change-theme', { theme })"
HOLDS_THE_GIL = (
    "import ctypes, os\nos.mkfifo('gate')\nprint('be' + 'gun', flush=True)\n"
    "ctypes.PyDLL(None).open(b'gate', os.O_RDONLY)\n'gil' + ' freed'"
)


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


def test_values_and_resizing_live_while_a_cell_holds_the_gil(
    open_notebook: Open, lab: Lab, artefacts: Path
) -> None:
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
    # Whoever opens the other end lets the call return.
    os.close(os.open(lab.notebooks / "gate", os.O_WRONLY | os.O_NONBLOCK))
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


def test_themes_and_accessibility(open_notebook: Open, artefacts: Path) -> None:
    """In each theme, high contrast too, the panel has no serious violation that axe knows."""
    page = open_notebook("themes.ipynb", "1 + 1")
    wait_until_ready(page)
    run_cells(page, 1)
    expect(page.get_by_test_id("heliostat-cell").first).to_be_visible(timeout=QUICK)
    panel(page).get_by_role("button", name="Less: CPUs").click()
    expect(page.get_by_test_id("heliostat-plan")).to_contain_text("takes away", timeout=QUICK)
    for theme in ("JupyterLab Light", "JupyterLab Dark", "JupyterLab Dark High Contrast"):
        page.evaluate(CHOOSE_THEME, theme)
        expect(page.locator("body")).to_have_attribute("data-jp-theme-name", theme, timeout=SLOW)
        picture(page, theme.removeprefix("JupyterLab ").replace(" ", "-").lower(), artefacts)
        assert serious_violations(page) == [], theme
    page.evaluate(CHOOSE_THEME, "JupyterLab Light")


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
    def figures(cls, tmp_path_factory: pytest.TempPathFactory) -> Path:
        """What the driver says; read again each second."""
        return tmp_path_factory.mktemp("figures") / "gpus.txt"

    @pytest.fixture(scope="class")
    @classmethod
    def hub(cls, figures: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Lab]:
        """The server; the driver's library is the stand-in."""
        figures.write_text(
            "gpu uuid=GPU-a name=Fake_H100 util=63 total=80000000000 used=30000000000 temp=55 power=310000"
            f" limit=700000\nprocess pid={os.getpid()} memory=12000000000\n"
            "gpu uuid=GPU-b name=Fake_H100 total=80000000000 used=0\n"
            "slice uuid=MIG-c name=Fake_H100_1g.10gb total=10000000000 used=9500000000\n"
        )
        library = build_fake_nvml(tmp_path_factory.mktemp("nvml"))
        with running_lab("/user/ada/", environment=fake_nvml_environment(library, figures)) as lab:
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
        expect(first).to_contain_text("no notebook of yours")
        expect(first).to_contain_text("11 GiB")
        cut = page.get_by_test_id("heliostat-gpu-MIG-c")
        expect(cut).to_contain_text("MIG slice")
        expect(cut).to_contain_text("almost full")
        cut.scroll_into_view_if_needed()
        picture(page, "gpus", artefacts)

    def test_ranks_are_shown_and_stopped(self, page: Page, hub: Lab, figures: Path, artefacts: Path) -> None:
        """Ranks have their state, cell, memory and GPU; one is stopped alone, one that dies is named."""
        hub.write_notebook("ranks.ipynb", "heliostat", START_RANKS, WAIT_ON_RANKS, WAIT_ON_RANKS, QUERY)
        page.goto(in_own_workspace(hub, "ranks.ipynb"))
        show_panel(page)
        wait_until_ready(page)
        run_cells(page, 1)
        rows = page.get_by_test_id("heliostat-rank")
        expect(rows).to_have_count(2, timeout=SLOW)
        output = page.get_by_text(re.compile(r"pids \[\d+, \d+\] end"))
        expect(output).to_be_visible(timeout=SLOW)
        pids = [int(pid) for pid in re.findall(r"\d+", output.text_content() or "")]
        figures.write_text(
            "gpu uuid=GPU-a name=Fake_H100 util=63 total=80000000000 used=30000000000 temp=55 power=310000"
            f" limit=700000\nprocess pid={pids[1]} memory=12000000000\n"
            "gpu uuid=GPU-b name=Fake_H100 total=80000000000 used=0\n"
        )
        on_gpu = page.get_by_test_id("heliostat-gpu-GPU-a")
        expect(on_gpu).to_contain_text("rank 1 · ranks.ipynb", timeout=QUICK)
        page.keyboard.press("Shift+Enter")
        expect(rows.nth(1)).to_contain_text("busy", timeout=SLOW)
        expect(rows.nth(1)).to_contain_text("import time")
        expect(rows.nth(1)).to_contain_text(re.compile(r"MiB, GPU 0: 11 GiB"))
        rows.nth(1).scroll_into_view_if_needed()
        picture(page, "ranks", artefacts)
        rows.nth(1).get_by_role("button", name="Stop rank 1").click()
        expect(page.get_by_text(re.compile("the rank was stopped")).first).to_be_visible(timeout=SLOW)
        piece = page.get_by_test_id("heliostat-work").first
        expect(piece).to_contain_text("the rank was stopped", timeout=QUICK)
        expect(rows.nth(1)).to_contain_text("idle", timeout=QUICK)

        page.locator(".jp-Notebook .jp-Cell").nth(2).locator(".cm-content").click()
        page.keyboard.press("Shift+Enter")
        expect(rows.nth(0)).to_contain_text("busy", timeout=SLOW)
        # Its memory is looked at twice a second while it is busy, and told when it dies.
        expect(piece).to_contain_text(re.compile(r"ranks, [2-9]\.\d s"), timeout=QUICK)
        os.kill(pids[0], signal.SIGKILL)
        expect(piece).to_contain_text(re.compile(r"Rank 0 died: .*it used \d+ MiB"), timeout=SLOW)
        piece.scroll_into_view_if_needed()
        picture(page, "rank-killed", artefacts)

        page.locator(".jp-Notebook .jp-Cell").nth(3).locator(".cm-content").click()
        page.keyboard.press("Shift+Enter")
        query = page.get_by_test_id("heliostat-work").filter(has_text="SELECT")
        expect(query).to_have_attribute("data-state", "running", timeout=SLOW)
        query.get_by_role("button", name=re.compile("^Cancel")).click()
        expect(query).to_contain_text("cancelled", timeout=SLOW)
        picture(page, "query", artefacts)

    def test_notebook_7(self, page: Page, hub: Lab, artefacts: Path) -> None:
        """In Notebook 7 the toolbar's button shows the same panel, with live figures."""
        hub.write_notebook("seven.ipynb", "heliostat", "1 + 1")
        page.goto(hub.page("notebooks/seven.ipynb"))
        toolbar_button(page).click(timeout=SLOW)
        wait_until_ready(page)
        picture(page, "notebook-7", artefacts)
