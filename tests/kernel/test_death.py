"""Deaths that a notebook sees: of its server, of its Ray, while a cell waits for a task."""

from __future__ import annotations

import json
import os
import signal
from contextlib import closing
from typing import TYPE_CHECKING

import psutil
import pytest
from tests.kernel.server import Server, Tab
from tests.kernel.support import Place, family, living, wait_until

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from tests.kernel.conftest import StartKernel

ON = {"HELIOSTAT_AUTOSTART": "1"}
GONE_SECONDS = 10.0
SLEEPER = """
import heliostat, ray, time
heliostat.runtime()
reference = ray.remote(lambda: time.sleep(600)).remote()
"""


@pytest.fixture
def server() -> Iterator[Server]:
    """A server whose kernels boot a runtime."""
    place = Place()
    server = Server(place, **ON)
    yield server
    server.process.kill()
    server.process.wait()
    server.log.close()
    place.remove()


@pytest.mark.parametrize("how", [signal.SIGTERM, signal.SIGKILL])
def test_server_ends_while_a_task_runs(server: Server, tmp_path: Path, how: signal.Signals) -> None:
    """Closing or killing the server ends kernel, supervisor and workers, and cleans up."""
    kernel_id = server.call("POST", "kernels", {"name": "heliostat"})["id"]
    marker = tmp_path / "running.txt"
    tell = f"open({str(marker)!r}, 'w').write(str(heliostat.runtime().status().supervisor_pid) + '.')"
    tab = Tab(server, kernel_id)
    with closing(tab.socket):
        code = f"{SLEEPER}{tell}\nray.get(reference)"
        tab.send("shell", "execute_request", {"code": code, "silent": False})
        wait_until(lambda: marker.exists() and marker.read_text().endswith("."), 60, "the task runs")
    supervisor = int(marker.read_text().rstrip("."))
    processes = family(server.process.pid, supervisor)
    assert len(processes) >= 5
    server.process.send_signal(how)
    server.process.wait(30)
    wait_until(lambda: not living(processes), GONE_SECONDS, f"all of {processes} end")


def test_dead_gcs_frees_the_cell(start_kernel: StartKernel) -> None:
    """A cell that waits for a task is freed with a sentence; variables stay; a restart mends it."""
    kernel = start_kernel(**ON)
    kernel.run(SLEEPER + "kept = 5")
    supervisor = int(kernel.run("heliostat.runtime().status().supervisor_pid").text)
    gcs = next(p for p in psutil.Process(supervisor).children() if p.name() == "gcs_server")
    cell = kernel.begin("ray.get(reference)")
    os.kill(gcs.pid, signal.SIGKILL)
    said = kernel.iopub(lambda m: m["msg_type"] == "stream" and m["content"]["name"] == "stderr", cell)
    assert "GCS server was killed by SIGKILL" in said["content"]["text"]
    assert kernel.reply(cell, timeout=GONE_SECONDS)["content"]["ename"] == "KeyboardInterrupt"
    assert kernel.run("kept").text == "5"
    assert "failed" in kernel.run("%runtime").text
    kernel.run("%runtime restart", timeout=90)
    assert kernel.run("ray.get(ray.remote(lambda: kept + 1).remote())").text == "6"


def test_cells_have_accounts(start_kernel: StartKernel) -> None:
    """What a cell burns in the kernel and in Ray's workers is on its account, and on no other."""
    kernel = start_kernel(**ON)
    end = "end = time.process_time() + seconds"
    burn = f"def burn(seconds):\n    {end}\n    while time.process_time() < end: pass"
    kernel.run(f"import heliostat, ray, time\nheliostat.runtime()\n{burn}")
    kernel.run("ray.get(ray.remote(burn).remote(0.1))")
    kernel.run("since = time.time()")
    kernel.run("burn(0.7)\nray.get(ray.remote(burn).remote(0.8))")
    kernel.run("quiet = 1")
    after = "[a for a in heliostat.runtime().cells() if a.started_at > since][:2]"
    closed = f"[a.ended_at is not None for a in {after}]"
    wait_until(lambda: kernel.run(closed).text == "[True, True]", 30, "both accounts are closed")
    shown = kernel.run(f"import json\njson.dumps([a.cpu_seconds for a in {after}])").text
    burnt, quiet = json.loads(shown.strip("'"))
    assert 1.4 <= burnt < 4
    assert quiet < burnt / 3
