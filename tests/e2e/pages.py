"""What the browser tests do with a page of JupyterLab: open it, find the panel, keep what is seen."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from playwright.sync_api import expect

if TYPE_CHECKING:
    from playwright.sync_api import Locator, Page

    from .conftest import Lab

SLOW = 60_000
QUICK = 10_000
AXE = Path(__file__).parents[2] / "node_modules/axe-core/axe.min.js"


def in_own_workspace(lab: Lab, name: str) -> str:
    """Address of a notebook in a window that has nothing else open."""
    return lab.page(f"lab/workspaces/{name.removesuffix('.ipynb')}/tree/{name}")


def toolbar_button(page: Page) -> Locator:
    """The notebook's button that shows the panel."""
    return page.locator('.jp-Toolbar [data-jp-item-name="heliostat"]').first


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


def serious_violations(page: Page) -> list[str]:
    """What axe finds in the panel that is serious or worse."""
    page.add_script_tag(path=AXE)
    found: list[dict[str, Any]] = page.evaluate("axe.run('#heliostat-panel').then(r => r.violations)")
    return [
        f"{rule['id']}: {rule['help']}: {rule['nodes'][0]['html']} {rule['nodes'][0]['failureSummary']}"
        for rule in found
        if rule["impact"] in ("serious", "critical")
    ]
