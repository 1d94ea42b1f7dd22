"""The kernel speaks Jupyter's protocol as IPython's own kernel does."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import jupyter_kernel_test
import pytest
from tests.kernel.support import Place, StartedKernel, new_manager

import heliostat

if TYPE_CHECKING:
    from collections.abc import Iterator


class TestConformance(jupyter_kernel_test.KernelTests):  # type: ignore[misc]
    """The protocol conformance kit."""

    kernel_name = "heliostat"
    language_name = "python"
    file_extension = ".py"
    code_hello_world = "print('hello, world')"
    code_stderr = "import sys; print('test', file=sys.stderr)"
    completion_samples = ({"text": "zi", "matches": {"zip"}},)
    complete_code_samples = ("1", "print('hello, world')", "def f(x):\n  return x*2\n\n\n")
    incomplete_code_samples = ("print('''hello", "def f(x):\n  x*2")
    invalid_code_samples = ("import = 7q",)
    code_page_something = "zip?"
    code_generate_error = "raise ValueError"
    code_execute_result = ({"code": "1+2+3", "result": "6"}, {"code": "[0] * 2", "result": "[0, 0]"})
    code_display_data = (
        {"code": "from IPython.display import HTML; display(HTML('<b>test</b>'))", "mime": "text/html"},
    )
    code_history_pattern = "1?2*"
    # IPython calls the present session 0 in ranges, which the kit does not expect.
    supported_history_operations = ("tail", "search")
    code_inspect_sample = "zip"
    code_clear_output = "from IPython.display import clear_output; clear_output()"

    @classmethod
    def setUpClass(cls) -> None:
        """Start the kernel in a place of its own."""
        cls.place = Place()
        cls.started = StartedKernel(new_manager(cls.place), cls.place.environment(), cls.place.path)
        cls.km, cls.kc = cls.started.manager, cls.started.client

    @classmethod
    def tearDownClass(cls) -> None:
        """End it."""
        cls.started.end()
        cls.place.remove()


def test_says_who_it_is(plain_kernel: StartedKernel) -> None:
    """kernel_info names Heliostat, its features and the links of the help menu."""
    info = plain_kernel.reply(plain_kernel.client.kernel_info())["content"]
    assert info["implementation"] == "heliostat"
    assert info["implementation_version"] == heliostat.__version__
    assert info["language_info"]["name"] == "python"
    assert {"kernel subshells", "debugger"} <= set(info["supported_features"])
    assert "Ray Reference" in [link["text"] for link in info["help_links"]]
    assert "%runtime" in info["banner"]


def test_completes_and_inspects(plain_kernel: StartedKernel) -> None:
    """Names of the session are completed and documented."""
    plain_kernel.run("heliostat_answer = 42")
    completed = plain_kernel.reply(plain_kernel.client.complete("heliostat_an"))["content"]
    assert completed["matches"] == ["heliostat_answer"]
    inspected = plain_kernel.reply(plain_kernel.client.inspect("heliostat_answer"))["content"]
    assert inspected["found"]
    assert "42" in inspected["data"]["text/plain"]


def test_debugger_answers(plain_kernel: StartedKernel) -> None:
    """The debugger starts and tells its capabilities."""
    request = {"seq": 1, "type": "request", "command": "initialize"}
    arguments = {"clientID": "test", "adapterID": "", "pathFormat": "path", "linesStartAt1": True}
    reply = plain_kernel.ask_control("debug_request", {**request, "arguments": arguments})["content"]
    assert reply["success"], reply
    assert reply["body"]["supportsConfigurationDoneRequest"]


def test_subshell_runs_beside_a_cell(plain_kernel: StartedKernel) -> None:
    """A subshell answers while the main shell is busy, and can be deleted."""
    created = plain_kernel.ask_control("create_subshell_request")["content"]
    assert created["status"] == "ok"
    plain_kernel.run("import threading; gate = threading.Event()")
    waiting = plain_kernel.begin("opened = gate.wait(30)")
    request = plain_kernel.client.session.msg("execute_request", {"code": "gate.set()", "silent": False})
    request["header"]["subshell_id"] = created["subshell_id"]
    plain_kernel.client.shell_channel.send(request)
    assert plain_kernel.reply(request["header"]["msg_id"])["content"]["status"] == "ok"
    assert plain_kernel.reply(waiting)["content"]["status"] == "ok"
    assert plain_kernel.run("opened").text == "True"
    deleted = plain_kernel.ask_control("delete_subshell_request", {"subshell_id": created["subshell_id"]})
    assert deleted["content"]["status"] == "ok"


def test_inline_figure(plain_kernel: StartedKernel) -> None:
    """Matplotlib shows its figures in the notebook."""
    pytest.importorskip("matplotlib")
    outcome = plain_kernel.run("%matplotlib inline\nimport matplotlib.pyplot as plt\nplt.plot([1, 2]);")
    assert [data for data in outcome.data if "image/png" in data], outcome


def test_widget_and_its_comm(plain_kernel: StartedKernel) -> None:
    """A widget is shown, and a value set by the front end arrives in it."""
    pytest.importorskip("ipywidgets")
    outcome = plain_kernel.run("import ipywidgets\nslider = ipywidgets.IntSlider(3)\nslider")
    assert "application/vnd.jupyter.widget-view+json" in outcome.data[-1]
    comm_id = plain_kernel.run("print(slider.comm.comm_id)").stdout.strip()
    content: dict[str, Any] = {"comm_id": comm_id, "data": {"method": "update", "state": {"value": 9}}}
    plain_kernel.client.shell_channel.send(plain_kernel.client.session.msg("comm_msg", content))
    assert plain_kernel.run("slider.value").text == "9"


def test_working_directory_cannot_shadow_packages(start_shadowed: StartedKernel) -> None:
    """A user's file called like a package that the kernel needs does not stop the kernel."""
    assert start_shadowed.run("1+1").text == "2"


@pytest.fixture
def start_shadowed(place: Place) -> Iterator[StartedKernel]:
    """A kernel in a directory with hostile file names."""
    directory = place.path / "shadowed"
    directory.mkdir()
    for name in ("heliostat", "ipykernel", "msgspec", "tornado"):
        (directory / f"{name}.py").write_text("raise RuntimeError('shadowed')\n")
    kernel = StartedKernel(new_manager(place), place.environment(), directory)
    yield kernel
    kernel.end()


def test_kernelspec_names_this_python(place: Place) -> None:
    """The spec that ``install`` writes works from any other environment."""
    import sys

    spec = json.loads((place.kernels / "heliostat/kernel.json").read_text())
    assert spec["argv"][0] == sys.executable
    assert spec["metadata"]["debugger"] is True
    assert spec["interrupt_mode"] == "signal"
