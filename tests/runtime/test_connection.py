"""The owner's connection: what the user does with Ray beside it, and what refusals leave alone."""

from __future__ import annotations

import os
import subprocess
import sys
from typing import TYPE_CHECKING

import pytest
from tests.support.owner import Failed, wait_for

if TYPE_CHECKING:
    from tests.runtime.conftest import StartOwner
    from tests.support.owner import Owner

# For what only somebody else's client does.
_ASK = "from heliostat import _calls as calls; from heliostat._messages.runtime import RestartRequest"


def test_refused_restart_keeps_references(owner: Owner) -> None:
    """A restart that is refused leaves the driver connected, with its objects."""
    owner.run("kept = ray.put('here')")
    with pytest.raises(Failed) as failed:
        owner.run("runtime.restart(make_target(cpus=4096))")
    assert failed.value.name == "ResizeError"
    assert owner.run("ray.get(kept)") == "here"
    assert owner.run("ray.get_runtime_context().gcs_address") == owner.address


def test_shutdown_and_init_come_back_to_the_runtime(owner: Owner) -> None:
    """ray.shutdown() and ray.init() connect to the runtime again, and output is shown again."""
    owner.run("ray.shutdown(); ray.init(); None")
    assert owner.run("ray.get_runtime_context().gcs_address") == owner.address
    owner.run("def tell(): print('after coming back')")
    owner.run("ray.get(ray.remote(tell).remote())")
    wait_for(lambda: "after coming back" in owner.said(), 10)


def test_two_resizes_at_once_are_one(owner: Owner) -> None:
    """Of two resizes that are asked for together, one is refused by name."""
    owner.run("from concurrent.futures import ThreadPoolExecutor")
    owner.run(
        "def ask(cpus):\n"
        "    try: return str(runtime.resize(cpus=cpus, nodes=2, wait=False).operation_id)\n"
        "    except Exception as error: return str(error)"
    )
    answers = owner.run("list(ThreadPoolExecutor(2).map(ask, (2, 3)))")
    assert sorted("running already" in answer for answer in answers) == [False, True]
    wait_for(lambda: owner.run("runtime.status().resize.state.finished"), 30)
    owner.run("runtime.resize(cpus=2, nodes=1)")


def test_a_busy_supervisor_is_not_a_dead_one(owner: Owner) -> None:
    """A supervisor that does not answer for a while is asked on, and the runtime stays."""
    os.kill(owner.supervisor_pid, 19)
    owner.run("import socket; from heliostat import _client; real = _client._UnixConnection.connect")
    owner.run("def refused(self): raise OSError(24, 'Too many open files')")
    owner.run("_client._UnixConnection.connect = refused")
    os.kill(owner.supervisor_pid, 18)
    owner.run("time.sleep(1.5); _client._UnixConnection.connect = real")
    assert owner.run("[runtime.alive, str(runtime.status().state), ray.get(ray.put(4))]") == [
        True,
        "ready",
        4,
    ]


def test_plain_ray_works_after_the_runtime(start_owner: StartOwner) -> None:
    """After shutdown() the environment is as before, and ray.init() starts a cluster of its own."""
    owner = start_owner("cpus=1", RAY_ADDRESS="")
    owner.run("_handle.shutdown()")
    left = owner.run("sorted(k for k in os.environ if k.startswith('RAY_AUTH') or k == 'RAY_ADDRESS')")
    assert left == ["RAY_ADDRESS"]
    started = "ray.init(num_cpus=1, include_dashboard=False, logging_level='ERROR') and ray.get(ray.put(5))"
    assert owner.run(started, seconds=90) == 5
    owner.run("ray.shutdown()", seconds=30)


def test_init_after_a_failed_boot_boots_anew(start_owner: StartOwner) -> None:
    """A second init() with sizes that can be had works, though the first failed."""
    owner = start_owner("none")
    with pytest.raises(Failed):
        owner.run("_handle.init(cpus=4096)")
    assert owner.run("str(_handle.init(cpus=1).status().state)") == "ready"


def test_a_stop_from_outside_is_told_as_one(start_owner: StartOwner) -> None:
    """A runtime that somebody else stopped is not said to have crashed."""
    owner = start_owner("cpus=1")
    owner.run(_ASK)
    owner.run("runtime._client.ask(calls.stop())")
    owner.run("told = None")
    wait_for(lambda: owner.run("told = told or runtime.notice(); told is not None"), 10)
    assert "was stopped by somebody else" in owner.run("told")
    assert owner.run("runtime.alive") is False


def test_a_forked_child_owns_nothing(owner: Owner) -> None:
    """shutdown() in a forked child leaves the parent's runtime alone."""
    owner.run("child = os.fork() or (_handle.shutdown(), os._exit(0)); os.waitpid(child, 0)")
    assert owner.run("[_handle.current() is runtime, str(runtime.status().state)]") == [True, "ready"]


def _can_unshare() -> bool:
    command = ["unshare", "--pid", "--fork", "--mount-proc", "true"]
    try:
        return subprocess.run(command, capture_output=True, check=False).returncode == 0
    except FileNotFoundError:
        return False


@pytest.mark.skipif(not _can_unshare(), reason="needs the right to make a pid namespace")
def test_another_pid_namespace_reaps_nothing(owner: Owner) -> None:
    """A container that shares our directories cannot take a living runtime for a dead one."""
    command = ["unshare", "--pid", "--fork", "--mount-proc", sys.executable, "-m", "heliostat", "reap"]
    subprocess.run(command, env=owner.environment, check=True, capture_output=True)
    assert owner.directory.exists()
    assert owner.run("str(runtime.status().state)") == "ready"


def test_a_restart_by_somebody_else_is_quick_and_followed(owner: Owner) -> None:
    """The supervisor lets the owner let go before it takes Ray down; the owner is connected again."""
    before = owner.run("runtime.status().address")
    owner.run(f"{_ASK}; kept = 5")
    owner.run("runtime._client.ask(calls.restart(RestartRequest()))", seconds=90)
    assert owner.run("kept + ray.get(ray.put(1)) if heliostat.runtime() else None", seconds=90) == 6
    steps = owner.run("{step.name: step.elapsed for step in runtime.status().steps}")
    # The supervisor waits for 5 s for an owner that does not let go; the boot itself may take long.
    assert steps["former runtime gone"] < 5, "the owner did not let go before its cluster was gone"
    assert owner.run("runtime.status().address") != before


def test_a_restart_while_the_owner_connects_does_not_hang_it(start_owner: StartOwner) -> None:
    """Restarting right when the runtime is ready, in the middle of the owner's connecting."""
    owner = start_owner("none")
    owner.run(_ASK)
    owner.run("runtime = heliostat.init(cpus=1, wait=False)")
    owner.run("while not runtime.status().state.usable: time.sleep(0.002)", seconds=90)
    owner.run("runtime._client.ask(calls.restart(RestartRequest())).version", seconds=90)
    owner.run("import ray; heliostat.runtime(); None", seconds=60)
    assert owner.run("ray.get(ray.put(1))") == 1
    owner.run("heliostat.shutdown()")


def test_a_cell_that_waits_in_ray_is_freed_by_a_restart(owner: Owner) -> None:
    """Somebody else's restart frees a ray.get with its reason, and variables stay."""
    owner.run(f"{_ASK}; import threading")
    owner.run("reference = ray.remote(lambda: time.sleep(600)).remote(); kept = 3")
    owner.run(
        "def restart():\n    time.sleep(0.5)\n    runtime._client.ask(calls.restart(RestartRequest()))\n"
        "thread = threading.Thread(target=restart); thread.start()"
    )
    owner.run("try:\n    ray.get(reference)\nexcept KeyboardInterrupt:\n    freed = True", seconds=30)
    assert owner.run("freed") is True
    assert "is being restarted" in owner.said()
    assert owner.run("thread.join(); heliostat.runtime(); kept + ray.get(ray.put(1))", seconds=60) == 4
