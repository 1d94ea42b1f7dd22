"""The panel with servers as they are in the world: behind a hub's proxy, with a password, restarted."""

from __future__ import annotations

import re
import signal
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from jupyter_server.auth.security import passwd
from playwright.sync_api import expect
from tests.support.hub_proxy import HubProxy

from .conftest import free_port, running_lab
from .pages import QUICK, SLOW, in_own_workspace, panel, picture, run_cells, show_panel, wait_until_ready

if TYPE_CHECKING:
    from playwright.sync_api import Page

pytestmark = [pytest.mark.browser, pytest.mark.timeout(240)]
PREFIX = "/user/ada/"
IDLE_SECONDS = 4.0


def test_a_password_behind_a_hubs_proxy_that_comes_and_goes(page: Page, artefacts: Path) -> None:
    """Below a prefix, behind a proxy that drops what is silent, after a login with a password: all works."""
    password = ("--PasswordIdentityProvider.hashed_password", passwd("a secret"))
    with (
        running_lab(
            PREFIX, arguments=("=".join(password),), environment={"JUPYTERHUB_SERVICE_PREFIX": PREFIX}
        ) as lab,
        HubProxy(free_port(), int(lab.url.split(":")[2].split("/")[0]), PREFIX, IDLE_SECONDS) as proxy,
    ):
        lab.write_notebook("hub.ipynb", "heliostat", "1 + 1")
        outside = f"http://127.0.0.1:{proxy.port}"
        assert page.request.get(f"{outside}/lab").status == 404, "only the prefix is served"
        assert page.request.get(f"{outside}{PREFIX}heliostat/api/runtimes").status == 403
        page.goto(f"{outside}{PREFIX}lab/tree/hub.ipynb")
        page.locator("#password_input").fill("a secret")
        page.locator("#login_submit").click()
        show_panel(page)
        wait_until_ready(page)
        panel(page).get_by_role("button", name="Less: CPUs").click()
        panel(page).get_by_role("button", name="Apply", exact=True).click(timeout=QUICK)
        expect(page.get_by_test_id("heliostat-resize-outcome")).to_contain_text("asked for", timeout=QUICK)
        run_cells(page, 1)
        expect(page.get_by_test_id("heliostat-cell")).to_contain_text("1 + 1", timeout=QUICK)
        picture(page, "hub-password", artefacts)

        lost = page.get_by_role("dialog").filter(has_text="Server Connection Error")
        page.add_locator_handler(lost, lambda: page.keyboard.press("Escape"))
        proxy.close()
        expect(panel(page)).to_contain_text("does not answer; trying again", timeout=QUICK)
        expect(page.get_by_test_id("heliostat-stale")).to_contain_text(
            re.compile(r"\d+ s old"), timeout=QUICK
        )
        expect(page.locator(".heliostat-Use")).to_have_attribute("data-stale", "true")
        picture(page, "away", artefacts)
        proxy.open()
        expect(page.get_by_test_id("heliostat-stale")).to_have_count(0, timeout=SLOW)
        expect(page.get_by_text("does not answer")).to_have_count(0)
        # Without a runtime nothing is said on the connection, so the proxy drops it: it comes back.
        panel(page).get_by_role("button", name="Stop", exact=True).click()
        page.get_by_role("dialog").get_by_role("button", name="Stop", exact=True).click()
        expect(page.get_by_test_id("heliostat-absent")).to_be_visible(timeout=QUICK)
        dropped = proxy.dropped_idle
        deadline = 120
        while proxy.dropped_idle == dropped and deadline:
            page.wait_for_timeout(250)
            deadline -= 1
        assert proxy.dropped_idle > dropped
        page.get_by_role("button", name="Start a runtime here").click()
        wait_until_ready(page)


def test_a_server_that_sleeps_and_one_that_is_restarted(page: Page, artefacts: Path) -> None:
    """Figures of a server that hangs go grey with their age; after a restart the panel finds its way."""
    home, port = Path(tempfile.mkdtemp(prefix="hl-")), free_port()
    with running_lab(home=home, port=port) as lab:
        lab.write_notebook("restart.ipynb", "heliostat", "1 + 1")
        page.goto(in_own_workspace(lab, "restart.ipynb"))
        show_panel(page)
        wait_until_ready(page)
        assert lab.process is not None
        lab.process.send_signal(signal.SIGSTOP)
        try:
            stale = page.get_by_test_id("heliostat-stale")
            expect(stale).to_contain_text(re.compile(r"These figures are \d+ s old"), timeout=15_000)
            expect(page.get_by_test_id("heliostat-status")).to_have_attribute("data-stale", "true")
            picture(page, "stale", artefacts)
        finally:
            lab.process.send_signal(signal.SIGCONT)
        expect(stale).to_have_count(0, timeout=QUICK)
    expect(panel(page)).to_contain_text("does not answer; trying again", timeout=QUICK)
    with running_lab(home=home, port=port) as lab:
        # Another server has another token; the page that was open has to log in again.
        page.goto(in_own_workspace(lab, "restart.ipynb"))
        expect(page.get_by_test_id("heliostat-status")).to_be_visible(timeout=SLOW)
        if not panel(page).is_visible():
            show_panel(page)
        wait_until_ready(page)
        picture(page, "restarted", artefacts)
