"""A training as the person at a notebook has it: a real Jupyter server, its kernel, the server's API."""

from __future__ import annotations

import json
import re
import urllib.request
from typing import TYPE_CHECKING, Any

import pytest
from jupyter_client.blocking.client import BlockingKernelClient
from tests.kernel.server import Server
from tests.kernel.support import Place, StartedKernel, wait_until

from heliostat import _calls as calls
from heliostat._client import SupervisorClient
from heliostat._messages.work import Work, WorkState

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

_DEFINITIONS = """
import threading, time
import torch, beside
import heliostat
from heliostat.modeling.distributors.pytorch import PyTorchDistributor, PyTorchScalingConfig, get_context

heliostat.init(cpus=2).wait()
WIDTH = 4
two = PyTorchScalingConfig(num_workers_per_node=2)

class Net(torch.nn.Module):
    def __init__(self):
        super().__init__()
        self.layer = torch.nn.Linear(WIDTH, 1)

    def forward(self, x):
        return self.layer(x)

def rows():
    return torch.ones(8, WIDTH)

def train(params):
    net = torch.nn.parallel.DistributedDataParallel(Net())
    optimizer = torch.optim.SGD(net.parameters(), beside.RATE)
    for step in range(params["steps"]):
        loss = net(rows()).square().mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        get_context().get_metrics_reporter().log_metrics({"loss": loss})
        time.sleep(0.01)
    print("learned")
    path = f"{get_context().get_model_dir()}/net.pt"
    if get_context().get_rank() == 0:
        torch.save(net.module, path)

def forever():
    PyTorchDistributor(train, two).run(hyper_params={"steps": 10**9})
"""


class Notebook(StartedKernel):
    """A kernel of a Jupyter server, and what the server's API says of it."""

    def __init__(self, server: Server, place: Path) -> None:
        self._server, self._replies = server, {}
        self.kernel_id: str = server.call("POST", "kernels", {"name": "heliostat"})["id"]
        facts = place / f"run/kernel-{self.kernel_id}.json"
        wait_until(facts.exists, 30, "the kernel has a connection file")
        self.client = BlockingKernelClient(connection_file=str(facts))
        self.client.load_connection_file()
        self._connect()

    def panel(self, method: str, path: str, body: Any = None) -> Any:
        """Call the panel's API."""
        request = urllib.request.Request(
            f"http://127.0.0.1:{self._server.port}/heliostat/api/{path}",
            data=None if body is None else json.dumps(body).encode(),
            headers={"Authorization": "token open", "Content-Type": "application/json"},
            method=method,
        )
        with urllib.request.urlopen(request, timeout=30) as reply:
            return json.loads(reply.read() or b"null")

    def training(self) -> Work | None:
        """The newest training, as the supervisor lists it."""
        (manifest,) = self.panel("GET", "runtimes")
        found = SupervisorClient(manifest["socket"]).ask(calls.work())
        return found[-1] if found else None

    def interrupt(self) -> None:
        """Interrupt the cell that runs, as the notebook's button does."""
        self._server.call("POST", f"kernels/{self.kernel_id}/interrupt")


@pytest.fixture(scope="module")
def notebook() -> Iterator[Notebook]:
    """A notebook whose cells have defined a model and a training; a module lies beside it."""
    place = Place()
    (place.path / "beside.py").write_text("RATE = 0.001\n")
    server = Server(place, '--ServerApp.jpserver_extensions={"heliostat_lab":True}')
    try:
        notebook = Notebook(server, place.path)
        ran = notebook.run(_DEFINITIONS, timeout=120)
        assert ran.status == "ok", ran.error
        yield notebook
        notebook.client.stop_channels()
    finally:
        server.end()
        place.remove()


def test_a_cell_trains_and_shows_how(notebook: Notebook) -> None:
    """Globals, classes of cells and modules beside the notebook travel; loss and speed are plotted."""
    messages: list[dict[str, Any]] = []
    reply = notebook.client.execute_interactive(
        "result = PyTorchDistributor(train, two).run(hyper_params={'steps': 300})",
        timeout=120,
        output_hook=messages.append,
        allow_stdin=False,
    )
    assert reply["content"]["status"] == "ok"
    updates = [m["content"]["data"] for m in messages if m["msg_type"] == "update_display_data"]
    pictures = [data for data in updates if "PyTorchDistributor(train)" in data.get("text/plain", "")]
    assert len(pictures) > 1
    for name in ("loss", "step_seconds", "steps_per_second"):
        assert name in pictures[-1]["text/plain"]
    assert "<polyline" in pictures[-1]["text/html"]
    assert "2 workers" in pictures[-1]["text/html"]
    said = "".join(m["content"]["text"] for m in messages if m["msg_type"] == "stream")
    assert "[rank 0] learned" in said
    assert "[rank 1] learned" in said
    loaded = notebook.run(
        "from heliostat._stages import open_location\n"
        "path = open_location(result.get_model_dir()).join('net.pt').local_path\n"
        "type(torch.load(path, weights_only=False)) is Net, result.get_metrics()['loss'] >= 0"
    )
    assert loaded.text == "(True, True)", loaded.error
    logged = notebook.run("%logs").stdout
    assert "[rank 1] learned" in logged
    assert "loss" in logged


def test_a_rank_that_raises_is_told_with_its_cell_and_line(notebook: Notebook) -> None:
    """The cell ends with the first real exception, its rank, and the line of the cell where it was raised."""
    notebook.run(
        "def fails():\n"
        "    if get_context().get_rank() == 1:\n"
        "        raise ValueError('no such row')\n"
        "    torch.distributed.barrier()\n"
    )
    error = notebook.run("PyTorchDistributor(fails, two).run()", timeout=60).error
    assert re.search(r"rank 1: ValueError: no such row \(Cell In\[\d+\], line 3\)", error), error
    assert "raise ValueError('no such row')" in error


@pytest.mark.parametrize("way", ["the cell's interrupt", "the panel", "%cancel"])
def test_a_training_is_cancelled_from_each_place(notebook: Notebook, way: str) -> None:
    """Wherever it is asked for, the training stops, is listed as cancelled, and the kernel goes on."""
    if way == "%cancel":
        notebook.run("beside_the_cell = threading.Thread(target=forever); beside_the_cell.start()")
        message_id = ""
    else:
        message_id = notebook.begin("forever()")
    wait_until(
        lambda: (
            (work := notebook.training()) is not None
            and work.state is WorkState.RUNNING
            and {"loss", "steps_per_second"} <= set(work.metrics)
        ),
        60,
        "the training is listed with its loss and speed",
    )
    work = notebook.training()
    assert work is not None
    assert [worker.rank for worker in work.workers] == [0, 1]
    assert (work.done > 0, work.unit) == (True, "steps")
    if way == "%cancel":
        assert "was asked to stop" in notebook.run("%cancel").stdout
        notebook.run("beside_the_cell.join(20)")
    else:
        tasks = f"runtimes/{notebook.kernel_id}/tasks/{work.task_id}"
        assert any("loss" in line for line in notebook.panel("GET", tasks)["lines"])
        if way == "the panel":
            notebook.panel("POST", f"runtimes/{notebook.kernel_id}/cancel-work", {"task_id": work.task_id})
        else:
            notebook.interrupt()
        content = notebook.reply(message_id, 20)["content"]
        assert content["ename"] == {"the panel": "TaskCancelledError"}.get(way, "KeyboardInterrupt")
    wait_until(
        lambda: (ended := notebook.training()) is not None and ended.state is WorkState.CANCELLED,
        10,
        "it is listed as cancelled",
    )
    assert notebook.run("1 + 1").text == "2"
