"""The status bar of a real JupyterLab in a real browser."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

import pytest
from playwright.sync_api import expect

if TYPE_CHECKING:
    from pathlib import Path

    from playwright.sync_api import Page

    from .conftest import Lab

pytestmark = pytest.mark.browser
MILLISECONDS_TO_OPEN = 60_000
MILLISECONDS_TO_BOOT = 60_000
READY = re.compile(r"^Heliostat: ready · CPU [\d.]+ of \d+ · [\d.]+ of [\d.]+ GiB")
STARTING = r"/^Heliostat: starting(: .+ \([\d.]+ s\))?$/"
KEEP_ALL_TEXTS = """
window.heliostatTexts = [];
new MutationObserver(() => {
  const item = document.querySelector('[data-testid="heliostat-status"]');
  if (item && window.heliostatTexts.at(-1) !== item.textContent) {
    window.heliostatTexts.push(item.textContent);
  }
}).observe(document, { childList: true, subtree: true, characterData: true });
"""


def test_boot_is_shown_step_by_step_until_ready(page: Page, lab: Lab, artefacts: Path) -> None:
    """Starting our kernel shows the boot, then ready with use and units; a restart does so again."""
    lab.write_notebook("boot.ipynb", "heliostat", "1 + 1")
    page.add_init_script(KEEP_ALL_TEXTS)
    page.goto(lab.page("lab/tree/boot.ipynb"))
    item = page.get_by_test_id("heliostat-status")
    expect(item).to_be_visible(timeout=MILLISECONDS_TO_OPEN)
    expect(item).to_have_text(READY, timeout=MILLISECONDS_TO_BOOT)
    expect(item).to_have_attribute("data-stale", "false")
    page.screenshot(path=artefacts / "status-bar-ready.png")
    (kernel,) = [s["kernel"] for s in lab.get("api/sessions") if s["path"] == "boot.ipynb"]
    first = lab.get(f"heliostat/api/runtimes/{kernel['id']}")["status"]
    assert (first["state"], first["owner"]["kernel_id"]) == ("ready", kernel["id"])

    page.evaluate("window.heliostatTexts = []")
    page.get_by_role("menuitem", name="Kernel", exact=True).click()
    page.get_by_role("menuitem", name=re.compile(r"^Restart Kernel…")).click()
    page.get_by_role("button", name="Confirm Kernel Restart").click()
    page.wait_for_function(
        f"window.heliostatTexts.some(text => {STARTING}.test(text))", timeout=MILLISECONDS_TO_BOOT
    )
    expect(item).to_have_text(READY, timeout=MILLISECONDS_TO_BOOT)
    second = lab.get(f"heliostat/api/runtimes/{kernel['id']}")["status"]
    assert second["runtime_id"] != first["runtime_id"]


def test_kernel_without_runtime_shows_nothing(page: Page, lab: Lab) -> None:
    """A plain Python notebook has no status item."""
    lab.write_notebook("plain.ipynb", "python3", "1 + 1")
    page.goto(lab.page("lab/tree/plain.ipynb"))
    expect(page.get_by_text("Python 3 (ipykernel) | Idle").first).to_be_visible(timeout=MILLISECONDS_TO_OPEN)
    expect(page.get_by_test_id("heliostat-status")).to_have_count(0)


def test_notebook_7_runs_the_extension_without_a_status_bar(page: Page, lab: Lab) -> None:
    """Notebook 7, which has no status bar, loads the plugins and reports no error about them."""
    lab.write_notebook("seven.ipynb", "python3", "1 + 1")
    errors: list[str] = []
    page.on("console", lambda message: errors.append(message.text) if message.type == "error" else None)
    with page.expect_websocket(
        lambda socket: "heliostat/api/stream" in socket.url, timeout=MILLISECONDS_TO_OPEN
    ):
        page.goto(lab.page("notebooks/seven.ipynb"))
    assert [text for text in errors if "heliostat" in text] == []
