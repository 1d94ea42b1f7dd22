"""One notebook with the magics, tour.ipynb, in every front end: the same cells, the same output."""

from __future__ import annotations

import re
import subprocess
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import nbclient
import nbformat
import pytest
from nbclient.exceptions import CellExecutionError
from playwright.sync_api import expect
from tests.kernel.support import Place, wait_until

if TYPE_CHECKING:
    from playwright.sync_api import Locator, Page

    from .conftest import Lab

TOUR = Path(__file__).with_name("tour.ipynb")
SLOW = 60_000
SAID = {
    "prints": ["[ranks 0-1] the same on each rank\n", "[rank 0] rank 0 of 2\n", "[rank 1] 10\n"],
    "rich": ["[rank 0]\n", "[rank 1]\n", "<Figure size 300x150 with 1 Axes>"],
    "connections": ["delays", "connector"],
    "connect": ["delays: 2 columns (origin, delay)\n"],
    "sql": ["origin  minutes\n------  -------\nEWR          18\n1 row."],
    "dataset": [" v1: 8 rows"],
    "show": ["columns: origin string, delay int64; comment: of the tour"],
    "pull": ["[40, 41]\n"],
    "resources": ["CPUs given out", "Measured at"],
    "cells": ["%%distribute"],
    "error": ["ValueError: of rank 1", "RankError: [rank 1]"],
}
"""What cells of the tour show as text, whatever shows it."""
LINES = re.compile(r"^\[rank (\d)\] (\d) line (\d+)$", re.MULTILINE)
ANSI = re.compile(r"\x1b\[[\d;]*m")

pytestmark = pytest.mark.timeout(240)


def text(cell: Any) -> str:
    """Everything that a cell shows, as a terminal would have it."""
    parts = []
    for output in cell.outputs:
        if output.output_type == "stream":
            parts.append(output.text)
        elif output.output_type == "error":
            parts.append("\n".join(output.traceback))
        else:
            parts.append(output.data["text/plain"])
    return ANSI.sub("", "".join(parts))


def check(notebook: Any) -> None:
    """The tour ran up to the cell that fails: everything was shown, in the right cell, and no more ran."""
    cells = {cell.id: cell for cell in notebook.cells}
    for name, said in SAID.items():
        shown = text(cells[name])
        assert not [part for part in said if part not in shown], (name, shown)
    lines = {(int(rank), int(number)) for rank, _, number in LINES.findall(text(cells["lines"]))}
    assert lines == {(rank, number) for rank in (0, 1) for number in range(5000)}
    kinds = {kind for cell in notebook.cells for each in cell.outputs for kind in each.get("data", {})}
    assert {"text/html", "image/png"} <= kinds
    assert cells["never"].outputs == []
    assert "rate exceeded" not in "".join(map(text, notebook.cells))


@pytest.fixture
def environment(place: Place, tmp_path: Path) -> dict[str, str]:
    """Environment with no runtime, no tables and no datasets yet."""
    database = "postgresql://ada:hunter2@localhost/sales"
    files = {
        "HELIOSTAT_CONNECTION_SALES": database,
        "HELIOSTAT_WAREHOUSE": str(tmp_path / "w.duckdb"),
        "XDG_DATA_HOME": str(tmp_path),
    }
    return place.environment(HELIOSTAT_AUTOSTART="1", **files)


def test_a_terminal_shows_text(environment: dict[str, str], tmp_path: Path) -> None:
    """In plain IPython, what is rich elsewhere is text, and has no colours where none are wanted."""
    cells = nbformat.read(TOUR, as_version=4).cells
    typed = "".join(f"{cell.source}\n\n\n" for cell in cells)
    command = [sys.executable, "-m", "IPython", "--simple-prompt", "--no-banner", "--colors=NoColor"]
    done = subprocess.run(
        command,
        input=typed,
        env=environment,
        cwd=tmp_path,
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    shown = done.stdout
    assert not [part for said in SAID.values() for part in said if part not in shown], shown[-5000:]
    assert len(set(LINES.findall(re.sub(r"^In.*: (?=\[)", "", shown, flags=re.MULTILINE)))) == 10_000
    assert "<b>" not in shown
    assert "postgresql://ada@localhost/sales" in shown
    assert "hunter2" not in shown + done.stderr
    assert "\x1b[" not in shown
    assert "this is never run" in shown, "a terminal goes on after an error"


@pytest.mark.filterwarnings("ignore::ResourceWarning")
def test_nbclient_stops_at_the_error(
    environment: dict[str, str], place: Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Without a browser the notebook gets all output, and ends where a rank failed."""
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    notebook = nbformat.read(TOUR, as_version=4)
    client = nbclient.NotebookClient(notebook, timeout=90, resources={"metadata": {"path": str(place.path)}})
    with pytest.raises(CellExecutionError, match="ValueError: of rank 1"):
        client.execute()
    check(notebook)
    stored = nbformat.writes(notebook)
    assert "postgresql://ada@localhost/sales" in stored
    assert "hunter2" not in stored


def run_all(page: Page, lab: Lab, name: str) -> None:
    """Choose Run All Cells, as soon as the page has its kernel: before that it would ask for one."""

    def idle() -> bool:
        sessions = [each for each in lab.get("api/sessions") if each["path"] == name]
        return bool(sessions) and sessions[0]["kernel"]["execution_state"] == "idle"

    wait_until(idle, SLOW / 1000, "the kernel is idle")
    expect(page.locator('.jp-Notebook-ExecutionIndicator[data-status="idle"]')).to_be_visible(timeout=SLOW)
    page.get_by_role("menuitem", name="Run", exact=True).click()
    page.get_by_role("menuitem", name="Run All Cells", exact=True).click()


def saved(page: Page, lab: Lab, name: str, cell: int) -> Any:
    """Save until the cell of that number has ended; returns the notebook as it is on disk then."""
    deadline = time.monotonic() + 120
    while time.monotonic() < deadline:
        page.keyboard.press("Control+s")
        page.wait_for_timeout(500)
        notebook = nbformat.read(lab.notebooks / name, as_version=4)
        if any(output.output_type == "error" for output in notebook.cells[cell].outputs):
            return notebook
    pytest.fail(f"no error in cell {cell} of {name}")


@pytest.mark.browser
@pytest.mark.parametrize("place", ["lab", "notebooks"])
def test_a_browser_shows_everything_in_its_cell(page: Page, lab: Lab, place: str, artefacts: Path) -> None:
    """JupyterLab and Notebook 7: Run All shows rich output and 10,000 lines, and stops at the error."""
    name = f"tour-{place}.ipynb"
    source = TOUR.read_text().replace("front_ends", f"front_ends_{place}")
    lab.notebooks.joinpath(name).write_text(source)
    page.set_viewport_size({"width": 1280, "height": 2400})
    page.goto(lab.page(f"lab/workspaces/{place}/tree/{name}" if place == "lab" else f"notebooks/{name}"))
    run_all(page, lab, name)
    notebook = saved(page, lab, name, -2)
    page.locator(".jp-WindowedPanel-outer").first.evaluate("each => each.scrollTo(0, 0)")
    page.wait_for_timeout(500)
    page.screenshot(path=artefacts / f"tour-{place}.png")
    check(notebook)
    query = [cell.id for cell in notebook.cells].index("sql")
    editors = page.locator(".jp-Notebook .jp-Cell .cm-content")
    expect(editors.nth(query)).to_have_attribute("data-language", "sql")
    expect(editors.nth(query - 1)).to_have_attribute("data-language", "python")


STEPS = (
    "%ranks start -n 2",
    "%%distribute\nimport time\nprint('be' + 'gun')\nkept = rank\ntime.sleep(600)",
    "print('que' + 'ued')",
    "%%distribute\nprint('kept', kept)",
)


def output(page: Page, number: int) -> Locator:
    """What the cell of that number shows."""
    return page.locator(".jp-Notebook .jp-Cell").nth(number).locator(".jp-OutputArea")


@pytest.mark.browser
def test_output_is_live_and_interrupt_stops_the_queue(page: Page, lab: Lab, artefacts: Path) -> None:
    """Output is seen while ranks run; the interrupt button ends them, and queued cells do not run."""
    lab.write_notebook("stop.ipynb", "heliostat", *STEPS)
    page.goto(lab.page("lab/workspaces/stop/tree/stop.ipynb"))
    expect(page.get_by_test_id("heliostat-status")).to_contain_text("ready", timeout=SLOW)
    run_all(page, lab, "stop.ipynb")
    expect(output(page, 1)).to_contain_text("[ranks 0-1] begun", timeout=SLOW)
    page.locator('[data-command="notebook:interrupt-kernel"]').click()
    expect(output(page, 1)).to_contain_text("KeyboardInterrupt", timeout=10_000)
    page.screenshot(path=artefacts / "tour-interrupted.png")
    page.locator(".jp-Notebook .jp-Cell").nth(3).locator(".cm-content").click()
    page.keyboard.press("Shift+Enter")
    expect(output(page, 3)).to_contain_text("[rank 1] kept 1", timeout=10_000)
    expect(output(page, 2)).not_to_contain_text("queued")


TRAINS = """
import numpy, pandas
frame = pandas.DataFrame(numpy.random.default_rng(0).random((20000, 10)), columns=list("abcdefghij"))
"""
FOREVER = "%%distribute xgboost --data frame --label j --workers 1\nn_estimators = 1_000_000"


@pytest.mark.browser
def test_the_button_below_a_progress_bar_cancels(page: Page, lab: Lab, artefacts: Path) -> None:
    """A training in a cell shows how far it is; a click on Cancel reaches it while the cell runs."""
    lab.write_notebook("cancel.ipynb", "heliostat", TRAINS, FOREVER)
    page.goto(lab.page("lab/workspaces/cancel/tree/cancel.ipynb"))
    expect(page.get_by_test_id("heliostat-status")).to_contain_text("ready", timeout=SLOW)
    run_all(page, lab, "cancel.ipynb")
    expect(output(page, 1)).to_contain_text(re.compile(r"[1-9]\d* of 1000000 rounds"), timeout=SLOW)
    page.screenshot(path=artefacts / "tour-progress.png")
    output(page, 1).get_by_role("button", name="Cancel").click()
    expect(output(page, 1)).to_contain_text("was cancelled", timeout=20_000)
    expect(output(page, 1).get_by_role("button", name="Cancel")).to_have_count(0)
    page.screenshot(path=artefacts / "tour-cancelled.png")
