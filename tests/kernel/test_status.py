"""A kernel that runs a cell says so, whatever else it is asked meanwhile.

The server tests use a real Jupyter server that culls kernels after six idle seconds. All of
their kernels run at once, since each cell is silent for two and a half times as long.
"""

from __future__ import annotations

import time
import uuid
from contextlib import closing
from typing import TYPE_CHECKING, Any

import pytest
from tests.kernel.server import Server, Tab
from tests.kernel.support import Place, wait_until

from heliostat_kernel import status
from heliostat_kernel.status import RunningCells

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from tests.kernel.support import StartedKernel

SILENT_SECONDS = 15
CULLED_AFTER = 6
MAIN, CONTROL, SUBSHELL = 1, 2, 3


def request(kind: str) -> dict[str, Any]:
    """A request as the kernel sees it."""
    return {"header": {"msg_type": kind, "msg_id": uuid.uuid4().hex}}


class TestRunningCells:
    """The decision, apart from threads and sockets."""

    def test_idle_of_another_request_asks_for_busy(self) -> None:
        """While a cell runs, every other idle is followed by the cell's busy."""
        cells, cell, usage = RunningCells(), request("execute_request"), request("usage_request")
        assert cells.observe("busy", MAIN, cell) is None
        assert cells.observe("busy", CONTROL, usage) is None
        assert cells.observe("idle", CONTROL, usage) is cell

    def test_own_idle_ends_it(self) -> None:
        """The cell's own idle is the last word."""
        cells, cell, usage = RunningCells(), request("execute_request"), request("usage_request")
        cells.observe("busy", MAIN, cell)
        assert cells.observe("idle", MAIN, cell) is None
        assert cells.observe("idle", CONTROL, usage) is None

    def test_idle_kernel_stays_idle(self) -> None:
        """Without a cell nothing is added."""
        cells, completion = RunningCells(), request("complete_request")
        assert cells.observe("busy", MAIN, completion) is None
        assert cells.observe("idle", MAIN, completion) is None

    def test_cell_of_a_subshell_counts(self) -> None:
        """The main shell's idle does not hide a cell that runs in a subshell."""
        cells, cell, other = RunningCells(), request("execute_request"), request("execute_request")
        cells.observe("busy", SUBSHELL, cell)
        cells.observe("busy", MAIN, other)
        assert cells.observe("idle", MAIN, other) is cell

    def test_cell_without_idle_is_forgotten(self) -> None:
        """A cell whose idle was lost does not keep the kernel busy for ever."""
        cells, lost, info = RunningCells(), request("execute_request"), request("kernel_info_request")
        cells.observe("busy", MAIN, lost)
        cells.observe("busy", MAIN, info)
        assert cells.observe("idle", MAIN, info) is None


def test_hook_is_known() -> None:
    """The installed ipykernel publishes status the way this module expects."""
    assert status.SUPPORTED


def test_last_word_is_busy_then_idle(plain_kernel: StartedKernel) -> None:
    """Hundreds of control requests around the end of cells never leave a wrong last status."""
    client, asked = plain_kernel.client, set()
    for _ in range(40):
        cell = client.execute("import time; time.sleep(0.02)")
        for _ in range(8):
            usage = client.session.msg("usage_request", {})
            client.control_channel.send(usage)
            asked.add(usage["header"]["msg_id"])
        plain_kernel.reply(cell)
    asked.add(client.execute(""))
    statuses = []
    while asked:
        message = client.get_iopub_msg(timeout=30)
        if message["msg_type"] == "status":
            statuses.append(message["content"]["execution_state"])
            if statuses[-1] == "idle":
                asked.discard(message["parent_header"]["msg_id"])
    statuses += plain_kernel.statuses(0.5)
    assert statuses[-1] == "idle"


class SilentCell:
    """A cell that says nothing for long, then writes a file; its tab is closed at once."""

    def __init__(self, server: Server, place: Place, kernel: str, disturbance: str | None) -> None:
        self.written: Path = place.path / f"{uuid.uuid4().hex}.txt"
        self.kernel_id: str = server.call("POST", "kernels", {"name": kernel})["id"]
        code = f"import time; time.sleep({SILENT_SECONDS}); open({str(self.written)!r}, 'w').write('done')"
        tab = Tab(server, self.kernel_id)
        with closing(tab.socket):
            cell = tab.send("shell", "execute_request", {"code": code, "silent": False})
            tab.wait_for("execute_input", cell)
            if disturbance is not None:
                tab.wait_for("status", tab.send("control", disturbance, {}))
                time.sleep(0.5)  # the reply's idle has to reach the server before the tab is gone
        self.begun = time.monotonic()

    def check(self, server: Server) -> None:
        """The kernel is kept busy to the end, and the cell's result is there."""
        while not self.written.exists():
            assert self.kernel_id in server.kernels(), f"culled after {time.monotonic() - self.begun:.0f} s"
            assert time.monotonic() - self.begun < SILENT_SECONDS + 20
            time.sleep(0.5)
        wait_until(lambda: self.written.read_text() == "done", 5, "the result is written")


@pytest.fixture(scope="module")
def culling_server() -> Iterator[tuple[Server, dict[str | None, SilentCell]]]:
    """A culling server with three silent cells running on it."""
    place = Place()
    culling = f"--MappingKernelManager.cull_idle_timeout={CULLED_AFTER}"
    server = Server(place, culling, "--MappingKernelManager.cull_interval=2")
    cells: dict[str | None, SilentCell] = {
        disturbance: SilentCell(server, place, "heliostat", disturbance)
        for disturbance in (None, "usage_request", "create_subshell_request")
    }
    yield server, cells
    server.end()
    place.remove()


CullingServer = tuple[Server, dict[str | None, SilentCell]]


@pytest.mark.parametrize("disturbance", [None, "usage_request", "create_subshell_request"])
def test_running_cell_survives_culling(culling_server: CullingServer, disturbance: str | None) -> None:
    """A silent cell outlives a closed tab, also when something was asked while it ran."""
    server, cells = culling_server
    cells[disturbance].check(server)


def test_idle_kernel_is_still_culled(culling_server: CullingServer) -> None:
    """Once their cells are done and their tabs closed, the kernels are culled as ever."""
    server, _cells = culling_server
    idle = server.call("POST", "kernels", {"name": "heliostat"})["id"]
    wait_until(lambda: idle not in server.kernels(), CULLED_AFTER + 15, "the idle kernel is culled")
    wait_until(lambda: not server.kernels(), SILENT_SECONDS + 30, "all kernels are culled")
