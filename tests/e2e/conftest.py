"""A real JupyterLab with a home of its own, and the system's Chromium."""

from __future__ import annotations

import contextlib
import json
import os
import secrets
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.request
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from playwright.sync_api import sync_playwright

from .pages import in_own_workspace, show_panel

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

    from playwright.sync_api import Browser, Page

    Open = Callable[..., Page]

ROOT = Path(__file__).resolve().parents[2]
ARTEFACTS = ROOT / "tests/artefacts"
SECONDS_TO_START = 90.0
STEPS = """
window.heliostatSteps = new Set();
new MutationObserver(() => {
  for (const step of document.querySelectorAll('.heliostat-Steps li')) {
    window.heliostatSteps.add(step.firstChild.textContent.trim());
  }
}).observe(document, { childList: true, subtree: true, characterData: true });
"""


@dataclass(frozen=True)
class Lab:
    """A running server."""

    url: str
    token: str
    notebooks: Path
    process: subprocess.Popen[bytes] | None = None

    def get(self, path: str) -> Any:
        """Fetch JSON with the server's credentials."""
        credentials = {"Authorization": f"token {self.token}"}
        request = urllib.request.Request(f"{self.url}/{path}", headers=credentials)
        with urllib.request.urlopen(request, timeout=10) as response:
            return json.load(response)

    def set(self, plugin: str, **settings: Any) -> None:
        """Choose settings of a plugin, as the settings editor does; those left out are the defaults."""
        body = json.dumps({"raw": json.dumps(settings)}).encode()
        self._send("PUT", f"lab/api/settings/{plugin}", body)

    def end_kernels(self) -> None:
        """End all kernels, and the runtimes behind them."""
        for kernel in self.get("api/kernels"):
            self._send("DELETE", f"api/kernels/{kernel['id']}")

    def _send(self, method: str, path: str, body: bytes | None = None) -> None:
        headers = {"Authorization": f"token {self.token}"}
        request = urllib.request.Request(f"{self.url}/{path}", body, headers, method=method)
        with urllib.request.urlopen(request, timeout=30):
            pass

    def page(self, path: str) -> str:
        """Address of a page, with the credentials in it."""
        return f"{self.url}/{path}?token={self.token}"

    def write_notebook(self, name: str, kernel: str, *cells: str) -> None:
        """Write a notebook for ``kernel`` where the server sees it."""
        empty: dict[str, Any] = {"cell_type": "code", "metadata": {}, "outputs": [], "execution_count": None}
        code = [{**empty, "id": f"c{index}", "source": source} for index, source in enumerate(cells)]
        spec = {"name": kernel, "display_name": kernel, "language": "python"}
        content = {"cells": code, "metadata": {"kernelspec": spec}, "nbformat": 4, "nbformat_minor": 5}
        self.notebooks.joinpath(name).write_text(json.dumps(content))


def free_port() -> int:
    """A port that nobody listens on."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def _wait_until_up(lab: Lab, server: subprocess.Popen[bytes], log: Path) -> None:
    deadline = time.monotonic() + SECONDS_TO_START
    while time.monotonic() < deadline and server.poll() is None:
        try:
            lab.get("api/status")
        except (urllib.error.URLError, OSError):
            time.sleep(0.1)
        else:
            return
    pytest.fail(f"JupyterLab did not start:\n{log.read_text()[-3000:]}")


def as_seen_from_elsewhere(home: Path) -> dict[str, str]:
    """Environment in which a JupyterLab without Heliostat finds the one of this environment."""
    from heliostat_kernel.install import install

    install(prefix=str(home))
    extensions = home / "share/jupyter/labextensions"
    extensions.mkdir(parents=True, exist_ok=True)
    if not (extensions / "heliostat").is_symlink():
        (extensions / "heliostat").symlink_to(ROOT / "labextension/dist")
    path = os.pathsep.join(str(ROOT / part) for part in ("runtime", "kernel", "magics", "labextension"))
    return {"JUPYTER_PATH": str(home / "share/jupyter"), "PYTHONPATH": path}


@contextlib.contextmanager
def running_lab(
    base_url: str = "/",
    *,
    home: Path | None = None,
    port: int | None = None,
    arguments: tuple[str, ...] = (),
    environment: Mapping[str, str] | None = None,
) -> Iterator[Lab]:
    """A JupyterLab with the extension, in a home of its own; ended with all its kernels.

    ``home`` and ``port`` let a second server follow a first one; the home is then kept.
    HELIOSTAT_LAB_PYTHON names the Python of another environment, whose JupyterLab is taken.
    """
    own_home = home is None
    home = home or Path(tempfile.mkdtemp(prefix="hl-"))
    notebooks, settings, log = home / "notebooks", home / "settings", home / "log"
    notebooks.mkdir(exist_ok=True)
    quiet = {"fetchNews": "false", "checkForUpdates": False}
    folder = settings / "@jupyterlab" / "apputils-extension"
    folder.mkdir(parents=True, exist_ok=True)
    folder.joinpath("notification.jupyterlab-settings").write_text(json.dumps(quiet))
    port = port or free_port()
    lab = Lab(f"http://127.0.0.1:{port}{base_url}".rstrip("/"), secrets.token_hex(8), notebooks)
    options = {
        "ServerApp.base_url": base_url,
        "ServerApp.port": port,
        "IdentityProvider.token": lab.token,
        "ServerApp.root_dir": str(notebooks),
        "LabApp.user_settings_dir": str(settings),
        "LabApp.workspaces_dir": str(home / "workspaces"),
    }
    environment = dict(environment or {})
    other = os.environ.get("HELIOSTAT_LAB_PYTHON")
    if other:
        arguments += ("--ServerApp.jpserver_extensions=heliostat_lab=True",)
        environment = {**as_seen_from_elsewhere(home), **environment}
    command = [other or sys.executable, "-m", "jupyterlab", "--no-browser", "--allow-root"]
    command += [f"--{name}={value}" for name, value in options.items()]
    command += arguments
    private = {"HOME": "", "IPYTHONDIR": "i", "JUPYTER_CONFIG_DIR": "c", "JUPYTER_DATA_DIR": "d"}
    private["JUPYTER_RUNTIME_DIR"] = "r"
    own = {name: str(home / part) for name, part in private.items()}
    with log.open("wb") as output:
        server = subprocess.Popen(
            command,
            cwd=home,
            env={**os.environ, **own, **environment},
            stdout=output,
            stderr=output,
            start_new_session=True,
        )
        try:
            _wait_until_up(lab, server, log)
            yield replace(lab, process=server)
        finally:
            # Asked like this the server ends its kernels, and these their runtimes.
            server.send_signal(signal.SIGTERM)
            try:
                server.wait(30)
            except subprocess.TimeoutExpired:
                server.kill()
                server.wait()
            if own_home:
                shutil.rmtree(home, ignore_errors=True)


@pytest.fixture(scope="session")
def lab() -> Iterator[Lab]:
    """The server of most tests."""
    with running_lab(arguments=("--LabApp.expose_app_in_browser=True",)) as lab:
        yield lab


@pytest.fixture(autouse=True)
def _no_kernel_is_left(request: pytest.FixtureRequest) -> Iterator[None]:
    """End the kernels of each test, so that none costs time during the next."""
    lab: Lab | None = request.getfixturevalue("lab") if "lab" in request.fixturenames else None
    yield
    if lab is not None:
        lab.end_kernels()


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    """The system's Chromium.

    Playwright keeps an event loop running while it is there, so it ends with the module:
    the tests of others need a loop of their own.
    """
    with sync_playwright() as playwright:
        launched = playwright.chromium.launch(executable_path=shutil.which("chromium"))
        yield launched
        launched.close()


@pytest.fixture
def page(browser: Browser) -> Iterator[Page]:
    """A page with storage and cookies of its own."""
    with browser.new_context(viewport={"width": 1280, "height": 720}) as context:
        yield context.new_page()


@pytest.fixture
def open_notebook(page: Page, lab: Lab) -> Open:
    """Open a new notebook on our kernel, with the panel shown: ``open_notebook(name, *cells)``."""

    def open_it(name: str, *cells: str, on_page: Callable[[Page], object] | None = None) -> Page:
        lab.write_notebook(name, "heliostat", *cells)
        if on_page is not None:
            on_page(page)
        page.add_init_script(STEPS)
        page.goto(in_own_workspace(lab, name))
        show_panel(page)
        return page

    return open_it


@pytest.fixture
def artefacts() -> Path:
    """Where screenshots are kept."""
    ARTEFACTS.mkdir(exist_ok=True)
    return ARTEFACTS
