"""Whatever is killed, nothing is left, the owner lives, and somebody says what happened.

Each test has a task running whose user code started a daemon that left its session and its
parent: the hardest kind of orphan.
"""

from __future__ import annotations

import os
import subprocess
import sys
from typing import TYPE_CHECKING

import pytest
from tests.support.owner import wait_for

from heliostat._supervisor.processes import Identity, descendants

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from tests.runtime.conftest import StartOwner
    from tests.support.owner import Owner

_SECONDS = 10.0
_TASK = """
def stubborn():
    if os.fork() == 0:
        os.setsid()
        if os.fork() == 0:
            time.sleep(600)
        os._exit(0)
    time.sleep(600)
reference = ray.remote(stubborn).remote()
kept = 11
"""


def _busy(owner: Owner) -> list[Identity]:
    """Start the task and return every process of the runtime once its daemon is there."""
    owner.run(_TASK)
    wait_for(lambda: len(_daemons(owner)) == 1, 30)
    return owner.supervised()


def _daemons(owner: Owner) -> list[Identity]:
    return [process for process in owner.supervised() if _is_daemon(process)]


def _is_daemon(process: Identity) -> bool:
    """It leads no session of its own, and its session's leader is gone."""
    try:
        session = os.getsid(process.pid)
    except ProcessLookupError:
        return False
    return session != process.pid and Identity.of(session) is None


def _all_gone(processes: list[Identity]) -> Callable[[], bool]:
    return lambda: not any(process.alive() for process in processes)


def test_killed_owner(start_owner: StartOwner) -> None:
    """Kill -9 of the kernel: every process, the directory and the manifest are gone."""
    owner = start_owner("cpus=1")
    processes = _busy(owner)
    owner.kill()
    wait_for(_all_gone(processes), _SECONDS)
    wait_for(lambda: not owner.directory.exists(), _SECONDS)
    assert not list(owner.directory.parent.glob(f"*/{owner.runtime_id}*"))


@pytest.mark.parametrize(
    ("victim", "says"),
    [
        ("gcs_server", "Ray's GCS server was killed by SIGKILL"),
        ("raylet", "Ray's raylet of the head was killed by SIGKILL"),
    ],
)
def test_killed_ray_frees_the_cell_and_keeps_variables(
    start_owner: StartOwner, victim: str, says: str
) -> None:
    """A dead GCS or raylet: a cell that waits in Ray is freed, told why, and nothing is lost."""
    owner = start_owner("cpus=1")
    processes = [p for p in _busy(owner) if p.pid != owner.supervisor_pid]
    owner.send("try:\n    ray.get(reference)\nexcept KeyboardInterrupt:\n    freed = True")
    owner.process_named(victim).kill()
    assert owner.answer(_SECONDS) is None
    wait_for(_all_gone(processes), _SECONDS)
    assert says in owner.said()
    assert "Your variables are safe" in owner.said()
    assert owner.run("[freed, kept, str(runtime.status().state)]") == [True, 11, "failed"]
    owner.run("runtime.restart()", seconds=90)
    assert owner.run("kept + ray.get(ray.remote(lambda: 1).remote())", seconds=90) == 12


def test_a_cell_that_comes_to_wait_later_is_freed_too(start_owner: StartOwner) -> None:
    """Code that calls ray.get only after the runtime failed is freed like code that waited before."""
    owner = start_owner("cpus=1")
    owner.run(_TASK)
    owner.process_named("gcs_server").kill()
    wait_for(lambda: owner.run("str(runtime.status().state)") == "failed", _SECONDS)
    owner.send("try:\n    ray.get(reference)\nexcept KeyboardInterrupt:\n    late = True")
    assert owner.answer(_SECONDS) is None
    assert owner.run("late") is True


def test_killed_ray_is_told_at_the_next_cell(start_owner: StartOwner) -> None:
    """When no cell waits in Ray, the news waits for the next cell and Ray calls then fail at once."""
    owner = start_owner("cpus=1")
    owner.process_named("gcs_server").kill()
    wait_for(lambda: owner.run("str(runtime.status().state)") == "failed", _SECONDS)
    assert "GCS server was killed" in owner.run("runtime.notice()")
    assert owner.run("runtime.notice() is None")
    owner.run("runtime.let_go_if_dead()")
    assert owner.run("ray.is_initialized()") is False


def test_killed_supervisor(start_owner: StartOwner) -> None:
    """Kill -9 of the supervisor: all of it is gone, the owner lives, and a new start is clean."""
    owner = start_owner("cpus=1")
    processes = _busy(owner)
    owner.send("try:\n    ray.get(reference)\nexcept KeyboardInterrupt:\n    freed = True")
    supervisor = Identity.of(owner.supervisor_pid)
    assert supervisor is not None
    supervisor.kill()
    assert owner.answer(_SECONDS) is None
    wait_for(_all_gone(processes), _SECONDS)
    wait_for(lambda: not owner.directory.exists(), _SECONDS)
    assert "supervisor was killed" in owner.said()
    assert owner.run("runtime = _handle.init(cpus=1); kept + ray.get(ray.put(1))", seconds=90) == 12


def test_killed_owner_and_supervisor_are_cleaned_at_the_next_start(start_owner: StartOwner) -> None:
    """With both killed nobody could clean up; the next runtime does, or heliostat reap."""
    first, second = start_owner("cpus=1"), start_owner("none")
    processes = _busy(first)
    os.kill(first.process.pid, 19)  # stopped, it cannot clean up either
    supervisor = Identity.of(first.supervisor_pid)
    assert supervisor is not None
    supervisor.kill()
    first.kill()
    sentences = second.run("from heliostat._supervisor.reaper import reap; reap()")
    assert any(first.runtime_id in sentence for sentence in sentences)
    wait_for(_all_gone(processes), _SECONDS)
    assert not first.directory.exists()


def test_reap_leaves_the_living_alone(start_owner: StartOwner) -> None:
    """Cleaning up never touches a runtime whose supervisor lives, nor a file it does not know."""
    owner = start_owner("cpus=1")
    owner.run(
        "from heliostat._paths import manifest_directory; foreign = manifest_directory() / 'notes.json'"
    )
    owner.run('foreign.write_text(\'{"not": "a manifest"}\')')
    sentences = owner.run("from heliostat._supervisor.reaper import reap; reap()")
    assert not any(owner.runtime_id in sentence for sentence in sentences)
    assert owner.run("[foreign.exists(), ray.get(ray.put(2))]") == [True, 2]


def test_a_forged_manifest_removes_nothing_outside(start_owner: StartOwner, tmp_path: Path) -> None:
    """A manifest that names somebody's directory does not get it removed."""
    precious = tmp_path / "precious"
    precious.mkdir()
    owner = start_owner("none")
    owner.run("import msgspec; from heliostat._messages.cluster import Provider")
    owner.run("from heliostat._messages.runtime import Manifest, Owner")
    owner.run("from heliostat._paths import manifest_directory, write_private")
    owner.run("from heliostat._supervisor.processes import machine_id")
    owner.run(
        "dead = Owner(pid=1, started_at=1.0)\n"
        "forged = Manifest(runtime_id='forged', version=1, owner=dead, supervisor=dead, socket='', "
        f"machine=machine_id(), directory={str(precious)!r}, provider=Provider.LOCAL, created_at=0.0)\n"
        "write_private(manifest_directory() / 'forged.json', msgspec.json.encode(forged))"
    )
    owner.run("from heliostat._supervisor.reaper import reap; reap()")
    assert precious.is_dir()
    assert owner.run("(manifest_directory() / 'forged.json').exists()") is False


@pytest.mark.timeout(600)
def test_twenty_cycles_leave_nothing(start_owner: StartOwner) -> None:
    """Four starts and stops, and twenty more on a crowded machine, all come up and leak nothing.

    That is no process, file, shared memory or port.
    """
    spin = "import time\nend = time.time() + 300\nwhile time.time() < end: pass"
    load: list[subprocess.Popen[bytes]] = []
    try:
        owner = start_owner("none")
        cycle = (
            "runtime = _handle.init(cpus=1); import ray\nassert ray.get(ray.put(1)) == 1\n_handle.shutdown()"
        )
        owner.run(cycle, seconds=120)
        before = _footprint(owner)
        for number in range(24):
            if number == 4:
                load += [subprocess.Popen([sys.executable, "-c", spin]) for _ in range(4)]
            owner.run(cycle, seconds=120)
        wait_for(lambda: not descendants(owner.process.pid), _SECONDS)
        after = _footprint(owner)
        assert after["shm"] <= before["shm"]
        assert after["listening"] <= before["listening"]
        assert after["directories"] <= before["directories"]
        # Ray's own client keeps a socket now and then; a leak of ours would be one a cycle.
        assert after["descriptors"] < before["descriptors"] + 20
    finally:
        for process in load:
            process.kill()
            process.wait()


def _footprint(owner: Owner) -> dict[str, int]:
    found: dict[str, int] = owner.run(
        "import psutil, pathlib, heliostat._paths as p\n"
        "me = psutil.Process()\n"
        "dict(shm=sum('plasma' in f.name for f in pathlib.Path('/dev/shm').iterdir()),"
        " listening=sum(c.status == 'LISTEN' for c in me.net_connections()),"
        " directories=len([d for d in p.base_directory().iterdir() if (d / 'config.json').exists()"
        " and str(me.pid) in (d / 'config.json').read_text()]),"
        " descriptors=me.num_fds())"
    )
    return found
