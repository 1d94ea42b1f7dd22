"""Starting, interrupting, restarting and ending kernels that have a runtime."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from typing import TYPE_CHECKING, Any

import pytest
from jupyter_client.restarter import KernelRestarter
from tests.kernel.support import Known, Place, StartedKernel, family, living, new_manager, wait_until

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.kernel.conftest import StartKernel

ON = {"HELIOSTAT_AUTOSTART": "1"}
GONE_SECONDS = 10.0
SUPERVISOR = "from heliostat import _handle; _handle.current().status().supervisor_pid"
READY = "import heliostat; s = heliostat.runtime().status(); (s.state.value, s.owner.pid)"
FIRST_TASK = "import ray; ray.get(ray.remote(lambda: 6 * 7).remote())"


def everything(kernel: StartedKernel) -> list[Known]:
    """The kernel, its supervisor and all below them."""
    supervisor = int(kernel.run(SUPERVISOR).text)
    return family(kernel.pid, supervisor)


def test_answers_while_the_runtime_boots(start_kernel: StartKernel) -> None:
    """Python cells run at once and kernel_info is answered, while the boot goes on behind."""
    kernel = start_kernel(**ON)
    slowest, booting = 0.0, 0
    for _ in range(200):
        outcome = kernel.run("1+1")
        assert outcome.text == "2"
        slowest = max(slowest, outcome.seconds)
        begun = time.monotonic()
        kernel.reply(kernel.client.kernel_info())
        slowest = max(slowest, time.monotonic() - begun)
        state = kernel.run("from heliostat import _handle; _handle.current().status().state.value").text
        if state != "'starting'":
            break
        booting += 1
    assert kernel.run(READY).text == f"('ready', {kernel.pid})"
    assert kernel.run(FIRST_TASK).text == "42"
    assert slowest < 1.0, f"{slowest:.2f} s during {booting} rounds"


@pytest.mark.parametrize("loop", ["import time; time.sleep(600)", "while True: pass"])
def test_interrupt_ends_a_cell(plain_kernel: StartedKernel, loop: str) -> None:
    """An interrupt ends sleep and loop at once, and the namespace stays."""
    plain_kernel.run("kept = 5")
    cell = plain_kernel.begin(loop)
    begun = time.monotonic()
    plain_kernel.manager.interrupt_kernel()
    reply = plain_kernel.reply(cell, timeout=10)["content"]
    assert reply["ename"] == "KeyboardInterrupt"
    assert time.monotonic() - begun < 3
    assert plain_kernel.run("kept").text == "5"


@pytest.mark.parametrize("cell", ["import ray", "import heliostat, ray\nheliostat.runtime()"])
def test_first_cell_may_be_ray(start_kernel: StartKernel, cell: str) -> None:
    """A first cell that imports Ray at once uses the runtime, and starts no cluster of its own."""
    for _ in range(3):
        kernel = start_kernel(**ON)
        used = kernel.run(f"{cell}\nray.get(ray.put(3)), ray.get_runtime_context().gcs_address", timeout=90)
        assert used.error == ""
        address = kernel.run("import heliostat\n3, heliostat.runtime().status().address").text
        assert used.text == address
        kernel.end()


def test_shutdown_leaves_no_process(start_kernel: StartKernel) -> None:
    """After a shutdown nothing of the kernel or its runtime runs, tasks included."""
    kernel = start_kernel(**ON)
    kernel.run(READY)
    kernel.run("import ray, time\n@ray.remote\ndef long(): time.sleep(600)\nref = long.remote()")
    assert kernel.run(FIRST_TASK).text == "42"
    processes = everything(kernel)
    assert len(processes) >= 4
    kernel.manager.shutdown_kernel()
    wait_until(lambda: not living(processes), GONE_SECONDS, f"all of {processes} end")


def test_restart_gives_a_new_runtime(start_kernel: StartKernel) -> None:
    """A restart forgets variables, ends the old runtime and boots another."""
    kernel = start_kernel(**ON)
    kernel.run(READY + "\nleft_over = 1")
    old = everything(kernel)
    kernel.manager.restart_kernel()
    kernel.reconnect()
    assert kernel.run("left_over").error.startswith("NameError")
    assert kernel.run(READY).text == f"('ready', {kernel.pid})"
    wait_until(lambda: not living(old), GONE_SECONDS, "the old runtime ends")


def test_comes_back_after_kill(start_kernel: StartKernel) -> None:
    """A killed kernel is restarted by Jupyter, its runtime ends, and the new one works."""
    kernel = start_kernel(**ON)
    kernel.run(READY)
    old = everything(kernel)
    restarter = KernelRestarter(kernel_manager=kernel.manager, stable_start_time=0)
    os.kill(kernel.pid, signal.SIGKILL)
    wait_until(lambda: not kernel.manager.is_alive(), 10, "the kernel is dead")
    restarter.poll()
    wait_until(lambda: bool(kernel.manager.is_alive()), 10, "the kernel is back")
    kernel.reconnect()
    assert kernel.run(READY).text == f"('ready', {kernel.pid})"
    wait_until(lambda: not living(old), GONE_SECONDS, "the old runtime ends")


def test_two_kernels_have_two_runtimes(start_kernel: StartKernel) -> None:
    """Kernels side by side share nothing."""
    one, two = start_kernel(**ON), start_kernel(**ON)
    show = "r = heliostat.runtime(); (r.runtime_id, r.status().address)"
    addresses = {kernel.run(READY + "\n" + show).text for kernel in (one, two)}
    assert len(addresses) == 2
    processes = everything(one)
    one.manager.shutdown_kernel()
    wait_until(lambda: not living(processes), GONE_SECONDS, "the first ends")
    assert two.run(FIRST_TASK).text == "42"


def test_runs_without_network(place: Place) -> None:
    """In a network namespace with loopback alone, kernel and runtime work."""
    probe = subprocess.run(["unshare", "--net", "true"], capture_output=True, check=False)
    if probe.returncode != 0:
        pytest.skip("this machine does not allow network namespaces")
    code = (
        "from tests.kernel.test_lifecycle import *\n"
        "place = Place()\n"
        "kernel = StartedKernel(new_manager(place), place.environment(**ON), place.path)\n"
        "print([kernel.run('1+1').text, kernel.run(FIRST_TASK).text])\n"
        "kernel.end(); place.remove()\n"
    )
    done = subprocess.run(
        ["unshare", "--net", "sh", "-c", 'ip link set lo up && exec "$0" -c "$1"', sys.executable, code],
        capture_output=True,
        text=True,
        env=place.environment(),
        timeout=120,
        check=False,
    )
    assert done.stdout.strip() == "['2', '42']", done.stderr


@pytest.fixture
def homeless(place: Place) -> Iterator[StartedKernel]:
    """A kernel for which no directory of its own can be made."""
    nowhere = "/proc/heliostat-has-no-home"
    environment = place.environment(
        **ON, HOME=nowhere, JUPYTER_RUNTIME_DIR=f"{nowhere}/run", IPYTHONDIR=f"{nowhere}/ipython"
    )
    environment |= {f"XDG_{name}_HOME": nowhere for name in ("CONFIG", "DATA", "CACHE", "STATE")}
    kernel = StartedKernel(new_manager(place), environment, place.path)
    yield kernel
    kernel.end()


def test_read_only_home(homeless: StartedKernel) -> None:
    """Without a place to write, the kernel is plain Python and says once, and on request, why."""
    first = homeless.run("1+1")
    assert first.text == "2"
    assert "cannot write to Jupyter's runtime directory" in first.stderr
    assert "JUPYTER_RUNTIME_DIR" in first.stderr
    assert homeless.run("2+2").stderr == ""
    shown: dict[str, Any] = homeless.run("%runtime").data[-1]
    assert "JUPYTER_RUNTIME_DIR" in shown["text/plain"]
    assert "JUPYTER_RUNTIME_DIR" in shown["text/html"]
    assert "ConfigurationError" in homeless.run("%runtime start").error


def test_lost_supervisor_is_told_once(start_kernel: StartKernel) -> None:
    """When the supervisor is killed, variables stay, the next cell says so, and a start mends it."""
    kernel = start_kernel(**ON)
    kernel.run(READY + "\nkept = 5")
    supervisor = int(kernel.run(SUPERVISOR).text)
    processes = family(supervisor)
    os.kill(supervisor, signal.SIGKILL)
    wait_until(lambda: not living(processes), GONE_SECONDS, "the runtime's processes end")
    told: list[str] = []

    def is_told() -> bool:
        outcome = kernel.run("kept")
        assert outcome.text == "5"
        told.append(outcome.stderr)
        return bool(outcome.stderr)

    wait_until(is_told, 10, "a cell tells that the runtime was lost")
    assert "untime" in told[-1]
    assert "Traceback" not in told[-1]
    assert kernel.run("kept").stderr == ""
    assert kernel.run("%runtime").text.startswith("Runtime lost")
    assert kernel.run("%runtime start").text.startswith("Runtime ready")
    assert kernel.run(FIRST_TASK).text == "42"
