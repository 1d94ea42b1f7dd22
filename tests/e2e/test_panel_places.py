"""Where the panel and its like are found in JupyterLab, and how the user sets them."""

from __future__ import annotations

import json
import re
from typing import TYPE_CHECKING, Any

import pytest
from playwright.sync_api import expect

from .pages import QUICK, SLOW, panel, picture, run_cells, toolbar_button, wait_until_ready

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from playwright.sync_api import Page

    from .conftest import Lab

    Open = Callable[..., Page]

pytestmark = [pytest.mark.browser, pytest.mark.timeout(240)]
PLUGIN = "heliostat:runtime"


def address(page: Page) -> str:
    """Address of the runtime that is shown."""
    wait_until_ready(page)
    return panel(page).locator("code").first.text_content() or ""


def test_a_console_from_the_launcher_and_the_list_of_what_runs(
    open_notebook: Open, lab: Lab, artefacts: Path
) -> None:
    """The launcher's card has our logo; the panel follows its console, and back; Running stops a runtime."""
    page = open_notebook("beside.ipynb", "1")
    of_notebook = address(page)
    page.get_by_title("New Launcher").first.click()
    cards = page.locator('.jp-LauncherCard[data-category="Console"]').filter(has_text="Heliostat")
    expect(cards.locator("img")).to_have_attribute("src", re.compile("heliostat/logo"), timeout=QUICK)
    picture(page, "launcher", artefacts)
    cards.click()
    expect(page.locator(".jp-CodeConsole")).to_be_visible(timeout=SLOW)
    expect(panel(page).locator("code").first).not_to_have_text(of_notebook, timeout=SLOW)
    of_console = address(page)
    picture(page, "console", artefacts)
    assert of_console != of_notebook
    page.locator("#jp-main-dock-panel .lm-TabBar-tab").filter(has_text="beside.ipynb").click()
    expect(panel(page).locator("code").first).to_have_text(of_notebook, timeout=QUICK)

    page.get_by_role("tab", name="Running Terminals and Kernels").click()
    running = page.locator("#jp-running-sessions")
    entry = running.locator(".jp-RunningSessions-item").filter(has=page.get_by_title(re.compile("^Runtime ")))
    ours = entry.filter(has_text="beside.ipynb")
    expect(ours).to_have_count(1, timeout=QUICK)
    expect(entry.filter(has_text="Console")).to_have_count(1, timeout=QUICK)
    picture(page, "running", artefacts)
    ours.hover()
    ours.get_by_role("button", name="Stop").or_(ours.get_by_title("Stop")).first.click()
    expect(ours).to_have_count(0, timeout=QUICK)
    expect(page.get_by_test_id("heliostat-absent")).to_contain_text("no Heliostat runtime", timeout=SLOW)


def test_commands_keys_and_the_toolbar(open_notebook: Open, artefacts: Path) -> None:
    """The palette has our commands, the toolbar a button; sections and charts work with keys alone."""
    page = open_notebook("keys.ipynb", "1")
    wait_until_ready(page)
    page.keyboard.press("Control+Shift+C")
    page.locator("#command-palette input, .lm-CommandPalette-input").first.fill("Heliostat")
    for name in ("Show Runtime", "Refresh Runtime Status", "Restart Runtime…", "Stop Runtime…"):
        expect(page.locator(".lm-CommandPalette-item").filter(has_text=name).first).to_be_visible()
    picture(page, "palette", artefacts)
    page.keyboard.press("Escape")
    panel(page).page.get_by_test_id("heliostat-status").focus()
    page.locator('.jp-SideBar [data-id="heliostat-panel"]').click()
    expect(panel(page)).not_to_be_visible()
    toolbar_button(page).click()
    expect(panel(page)).to_be_visible()

    head = page.get_by_test_id("heliostat-section-cells").get_by_role("button", name="Cells", exact=True)
    head.focus()
    page.keyboard.press("Enter")
    expect(head).to_have_attribute("aria-expanded", "false")
    page.keyboard.press("Tab")
    expect(page.get_by_role("button", name="Move Cells up")).to_be_focused()
    page.keyboard.press("Enter")
    sections = page.locator(".heliostat-Section")
    expect(sections.nth(3)).to_have_attribute("data-testid", "heliostat-section-cells")
    chart = page.get_by_test_id("heliostat-use-memory").locator("svg")
    chart.focus()
    page.keyboard.press("ArrowLeft")
    expect(page.get_by_test_id("heliostat-use-memory").locator(".heliostat-Chart-value")).to_have_text(
        re.compile(r"GiB, .* ago")
    )
    expect(chart).to_have_attribute("aria-label", re.compile(r"^Memory: .* at most .* in the last"))
    picture(page, "keys", artefacts)
    move = page.get_by_role("button", name="Move Cells down")
    move.focus()
    page.keyboard.press("Enter")
    head.click()


def test_the_line_of_code_and_a_resize_that_is_taken_back(open_notebook: Open, artefacts: Path) -> None:
    """Its code is copied and inserted; one that waits is cancelled, one that waits too long rolls back."""
    holds = (
        "import heliostat, ray\n"
        "@ray.remote(num_cpus=1)\nclass Holder:\n    def ready(self): return 1\n"
        "held = [Holder.remote() for _ in range(2)]\n"
        "print('he' + 'ld', ray.get([h.ready.remote() for h in held]))"
    )
    page = open_notebook("code.ipynb", holds, "")
    page.context.grant_permissions(["clipboard-read", "clipboard-write"])
    wait_until_ready(page)
    run_cells(page, 1)
    expect(page.get_by_text("held [1, 1]")).to_be_visible(timeout=SLOW)
    panel(page).get_by_role("button", name="Less: CPUs").click()
    plan = page.get_by_test_id("heliostat-plan")
    expect(plan).to_contain_text("%resize cpus=1", timeout=QUICK)
    plan.get_by_role("button", name="Copy").click()
    assert page.evaluate("navigator.clipboard.readText()") == "%resize cpus=1"
    plan.get_by_role("button", name="Insert").click()
    expect(page.locator(".jp-Notebook .jp-Cell.jp-mod-active")).to_contain_text("%resize cpus=1")
    picture(page, "code", artefacts)
    plan.get_by_role("button", name="Apply", exact=True).click()
    waiting = page.get_by_test_id("heliostat-resizing")
    expect(waiting).to_contain_text("Waiting for", timeout=QUICK)
    picture(page, "resize-waits", artefacts)
    waiting.get_by_role("button", name="Cancel and go back").click()
    outcome = page.get_by_test_id("heliostat-resize-outcome")
    expect(outcome).to_contain_text(re.compile("cancel", re.IGNORECASE), timeout=QUICK)
    picture(page, "resize-cancelled", artefacts)

    run = "import heliostat\n"
    run += "heliostat.runtime().resize(cpus=1, rollback_after_seconds=2)"
    page.locator(".jp-Notebook .jp-Cell.jp-mod-active .cm-content").fill(run)
    page.keyboard.press("Shift+Enter")
    expect(outcome).to_contain_text(re.compile("not reached in 2 s .* has its former size"), timeout=SLOW)
    picture(page, "resize-rolled-back", artefacts)


def test_settings_are_obeyed(open_notebook: Open, lab: Lab, artefacts: Path) -> None:
    """Interval, history, units, order and folding of sections, thresholds, and use kept in the cell."""
    settings = {
        "interval": 3,
        "historyMinutes": 1,
        "units": "decimal",
        "thresholds": {"high": 0.0001, "critical": 0.9999},
        "sections": ["cells", "use"],
        "folded": ["work"],
        "storeUseInCells": True,
    }
    lab.set(PLUGIN, **settings)
    try:
        asked: list[dict[str, Any]] = []
        page = open_notebook(
            "settings.ipynb",
            "sum(range(10**6))",
            on_page=lambda page: page.on(
                "websocket",
                lambda socket: (
                    socket.on("framesent", lambda sent: asked.append(json.loads(sent)))
                    if "heliostat/api/stream" in socket.url
                    else None
                ),
            ),
        )
        wait_until_ready(page)
        assert [each["interval"] for each in asked if each.get("follow", True)][-1] == 3
        sections = page.locator(".heliostat-Section")
        names = [section.get_attribute("data-testid") for section in sections.all()]
        assert names == [
            f"heliostat-section-{name}" for name in ("cells", "use", "runtime", "resize", "work")
        ]
        work = page.get_by_test_id("heliostat-section-work")
        expect(work.get_by_role("button", name="Work", exact=True)).to_have_attribute(
            "aria-expanded", "false"
        )
        memory = page.get_by_test_id("heliostat-use-memory")
        expect(memory).to_contain_text(re.compile(r"GB of \d+ GB"))
        expect(memory).to_contain_text("high")
        expect(memory).to_have_attribute("data-level", "high")
        expect(memory.locator("svg")).to_have_attribute("aria-label", re.compile("in the last 1 min"))
        run_cells(page, 1)
        expect(page.get_by_test_id("heliostat-cell")).to_contain_text("sum(range", timeout=QUICK)
        picture(page, "settings", artefacts)

        def stored() -> Any:
            page.keyboard.press("Control+s")
            saved = json.loads((lab.notebooks / "settings.ipynb").read_text())
            return saved["cells"][0]["metadata"].get("heliostat")

        expect(page.get_by_test_id("heliostat-cell")).not_to_contain_text("…", timeout=QUICK)
        page.wait_for_function("true")
        deadline = 40
        while (found := stored()) is None and deadline:
            page.wait_for_timeout(250)
            deadline -= 1
        assert found is not None
        assert found["cpu_seconds"] >= 0
        assert found["ended_at"] > found["started_at"]
    finally:
        lab.set(PLUGIN)


HIDE = """
hidden => {
  Object.defineProperty(document, 'hidden', { get: () => hidden, configurable: true });
  document.dispatchEvent(new Event('visibilitychange'));
}
"""


def test_nothing_is_asked_while_the_page_is_hidden(open_notebook: Open) -> None:
    """A hidden page lets go of its connection and asks nothing; shown again, it is live at once."""
    requests: list[str] = []
    sockets: list[Any] = []
    page = open_notebook(
        "hidden.ipynb",
        "1",
        on_page=lambda page: page.on(
            "websocket",
            lambda socket: sockets.append(socket) if "heliostat/api/stream" in socket.url else None,
        ),
    )
    wait_until_ready(page)
    (first,) = sockets
    page.evaluate(HIDE, True)
    deadline = 40
    while not first.is_closed() and deadline:
        page.wait_for_timeout(100)
        deadline -= 1
    assert first.is_closed()
    page.on("request", lambda request: requests.append(request.url))
    # Longer than three intervals: what polls would have asked by now.
    page.wait_for_timeout(3500)
    assert [url for url in requests if "heliostat" in url] == []
    assert len(sockets) == 1
    page.evaluate(HIDE, False)
    expect(page.get_by_test_id("heliostat-stale")).to_have_count(0, timeout=QUICK)
    wait_until_ready(page)
    assert len(sockets) == 2
