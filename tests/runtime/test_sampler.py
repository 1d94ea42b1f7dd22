"""The sampler on real processes: whose they are, what they use, and what becomes of them."""

from __future__ import annotations

import os
import time
from typing import TYPE_CHECKING

import psutil
import pytest
from tests.support.messages import sample
from tests.support.nvml import NoGpus
from tests.support.owner import wait_for
from tests.support.puppet import Puppet, wait_until_done

from heliostat._messages.runtime import Owner
from heliostat._messages.usage import ProcessUse, RayUse
from heliostat._supervisor.ring import KEPT, Ring
from heliostat._supervisor.sampler import Sampler

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

MIB = 2**20


class Family:
    """An owner, a supervisor with a daemon and two workers below it, and a sampler that watches them."""

    def __init__(self, owner: Puppet, supervisor: Puppet, directory: Path) -> None:
        self.owner, self.supervisor = owner, supervisor
        self.daemon, self.first, self.second = supervisor.run(
            "children += [start('raylet', SLEEP), start('ray::IDLE', SLEEP), start('ray::train', SLEEP)]\n"
            "result = [child.pid for child in children]"
        )
        self.sampler = self.watch(owner.owner, directory)

    def watch(self, owner: Owner, directory: Path) -> Sampler:
        """Start a sampler for ``owner``."""
        return Sampler(owner, self.supervisor.pid, directory, ray_use=lambda: None, gpus=NoGpus())

    def by_pid(self) -> dict[int, ProcessUse]:
        """Sample now; processes by pid."""
        return {process.pid: process for process in self.sampler.sample(time.time()).processes}

    def owner_use(self) -> ProcessUse:
        """Sample now; the owner's tree."""
        return self.by_pid()[self.owner.pid]


@pytest.fixture
def family(tmp_path: Path) -> Iterator[Family]:
    """Processes of a runtime, and its sampler."""
    with Puppet() as owner, Puppet() as supervisor:
        yield Family(owner, supervisor, tmp_path)


def test_roles_come_from_descent(family: Family) -> None:
    """Owner, supervisor, daemons and workers are found below the pids given, and named."""
    with Puppet() as stranger:
        stranger.run("children.append(start('ray::IDLE', SLEEP))")
        found = [(p.pid, p.role) for p in family.sampler.sample(time.time()).processes]
        titles = {pid: use.name for pid, use in family.by_pid().items()}
    assert found == [
        (family.owner.pid, "owner"),
        (family.supervisor.pid, "supervisor"),
        (family.daemon, "ray"),
        *sorted([(family.first, "worker"), (family.second, "worker")]),
    ]
    assert titles[family.second] == "ray::train"


def test_supervisor_below_its_owner_is_not_the_owners(tmp_path: Path) -> None:
    """A supervisor started by its owner, and what it starts, stay out of the owner's sum."""
    with Puppet() as owner:
        supervisor, helper = owner.run(
            "children += [start('supervisor', SLEEP), start('helper', SLEEP)]\n"
            "result = [child.pid for child in children]"
        )
        sampler = Sampler(owner.owner, supervisor, tmp_path, ray_use=lambda: None, gpus=NoGpus())
        found = {p.pid: p for p in sampler.sample(time.time()).processes}
        assert found.keys() == {owner.pid, supervisor}
        private = [psutil.Process(pid).memory_info() for pid in (owner.pid, helper)]
        expected = sum(memory.rss - memory.shared for memory in private)
        assert found[owner.pid].memory_bytes == pytest.approx(expected, rel=0.1)


def test_raylet_that_names_the_worker_script_is_no_worker(family: Family, tmp_path: Path) -> None:
    """Ray passes the script to the raylet in an option; only a process that runs it is a worker."""
    script = tmp_path / "default_worker.py"
    script.write_text("import time; time.sleep(600)")
    raylet, worker = family.supervisor.run(
        f"option = '--python_worker_command=python {script}'\n"
        "raylet = subprocess.Popen([sys.executable, '-c', 'import time; time.sleep(600)', option])\n"
        f"worker = subprocess.Popen([sys.executable, {str(script)!r}])\n"
        "children += [raylet, worker]\n"
        "result = [raylet.pid, worker.pid]"
    )
    # A process that has just begun its program has no arguments yet.
    wait_for(lambda: family.by_pid()[worker].role == "worker", 20)
    assert family.by_pid()[raylet].role == "ray"


def test_agents_of_a_stock_boot_are_no_workers(family: Family) -> None:
    """Ray titles its agents like workers; they are daemons all the same."""
    agents = family.supervisor.run(
        "children += [start('ray::DashboardAgent', SLEEP), start('ray::RuntimeEnvAgent', SLEEP)]\n"
        "result = [child.pid for child in children[-2:]]"
    )
    found = family.by_pid()
    assert [found[pid].role for pid in agents] == ["ray", "ray"]


def test_reused_pid_is_not_the_owner(family: Family, tmp_path: Path) -> None:
    """A process with the owner's pid and another start time is somebody else."""
    other = Owner(pid=family.owner.pid, started_at=family.owner.owner.started_at - 60)
    found = family.watch(other, tmp_path).sample(time.time()).processes
    assert "owner" not in {process.role for process in found}


def test_cpu_seconds_are_those_used(family: Family) -> None:
    """Half a second of work in the owner is half a second in its figure."""
    before = family.owner_use().cpu_seconds
    family.owner.run("burn(0.5)")
    assert family.owner_use().cpu_seconds - before == pytest.approx(0.5, abs=0.06)


def test_cpu_percent_is_the_rate_between_samples(family: Family) -> None:
    """Percent times the time between two samples is the CPU used; a new process has none yet."""
    first = time.monotonic()
    before = family.owner_use()
    second = time.monotonic()
    family.owner.run("burn(0.3)")
    third = time.monotonic()
    after = family.owner_use()
    fourth = time.monotonic()
    assert after.cpu_percent is not None
    used = 100 * (after.cpu_seconds - before.cpu_seconds)
    # The samples were taken at some time within the calls, however long these were held up.
    assert used / (fourth - first) - 0.1 <= after.cpu_percent <= used / (third - second) + 0.1
    newcomer = family.supervisor.run("children.append(start('ray::new', SLEEP))\nresult = children[-1].pid")
    assert family.by_pid()[newcomer].cpu_percent is None


@pytest.mark.parametrize("ending", ["child.wait()", "signal.signal(signal.SIGCHLD, signal.SIG_IGN)"])
def test_children_that_came_and_went_stay_counted(family: Family, ending: str) -> None:
    """The owner's CPU never falls, whether an ended child was waited for or not."""
    before = family.owner_use().cpu_seconds
    child = family.owner.run("child = start('helper', BURN.format(0.3) + SLEEP)\nresult = child.pid")
    wait_until_done(child, 0.3)
    during = family.owner_use().cpu_seconds
    assert during - before >= 0.3
    family.owner.run("child.kill()\n" + ending)
    wait_gone(child)
    after = family.owner_use().cpu_seconds
    assert during <= after <= during + 0.05


def test_child_between_two_samples_is_counted(family: Family) -> None:
    """A child that no sample ever saw is in the owner's figure once it was waited for."""
    before = family.owner_use().cpu_seconds
    family.owner.run("start('helper', BURN.format(0.3)).wait()")
    assert family.owner_use().cpu_seconds - before >= 0.3


def test_orphan_of_the_owner_stays_the_owners(family: Family) -> None:
    """A process that was seen below the owner is still counted when its parent dies."""
    middle = family.owner.run(
        "middle = start('middle', 'import subprocess; subprocess.run([\"sleep\", \"600\"])')\n"
        "result = middle.pid"
    )
    deadline = time.monotonic() + 20
    while not (children := psutil.Process(middle).children()):
        assert time.monotonic() < deadline
    family.owner_use()
    family.owner.run("middle.kill(); middle.wait()")
    family.owner_use()
    try:
        assert children[0].pid in family.sampler._tree.members
    finally:
        children[0].kill()


def test_memory_is_what_a_process_holds_alone(family: Family) -> None:
    """200 MiB of its own are seen; 200 MiB of shared memory are not the process's."""
    before = family.owner_use().memory_bytes
    family.owner.run("own = bytearray(b'x') * (200 * 2**20)")
    assert (family.owner_use().memory_bytes - before) / MIB == pytest.approx(200, abs=8)
    family.owner.run("shared = mmap.mmap(-1, 200 * 2**20); shared.write(b'x' * len(shared))")
    grown = (family.owner_use().memory_bytes - before) / MIB
    assert grown == pytest.approx(200, abs=8)


def test_children_of_a_worker_are_summed_into_it(family: Family) -> None:
    """What a worker starts belongs to that worker."""
    hold = "x = bytearray(b'x') * (100 << 20); import time; time.sleep(600)"
    code = f"import subprocess; subprocess.run([os.readlink('/proc/self/exe'), '-c', {hold!r}])"
    worker = family.supervisor.run(
        f"children.append(start('ray::load', {code!r}))\nresult = children[-1].pid"
    )
    deadline = time.monotonic() + 20
    while family.by_pid()[worker].memory_bytes < 100 * MIB:
        assert time.monotonic() < deadline
    below = psutil.Process(worker).children()
    assert below[0].pid not in family.by_pid()
    below[0].kill()


def test_processes_that_vanish_are_left_out(family: Family) -> None:
    """A worker that is killed and collected is gone from the next sample, the others are not."""
    family.supervisor.run("children[1].kill(); children[1].wait()")
    found = family.by_pid()
    assert family.first not in found
    assert family.second in found


def test_zombie_does_not_disturb(family: Family) -> None:
    """A worker that is dead and not collected keeps its role and holds no memory."""
    assert family.by_pid()[family.first].role == "worker"
    family.supervisor.run("children[1].kill()")
    deadline = time.monotonic() + 20
    while psutil.Process(family.first).status() != psutil.STATUS_ZOMBIE:
        assert time.monotonic() < deadline
    dead = family.by_pid()[family.first]
    assert (dead.role, dead.memory_bytes) == ("worker", 0)


def test_readings_know_the_peak(family: Family) -> None:
    """A reading for an account has the most that a process ever held, even if it gave it back."""
    family.owner.run("own = bytearray(b'x') * (300 * 2**20); del own")
    owner = next(group for group in family.sampler.readings() if group.role == "owner")
    assert owner.peak_bytes is not None
    assert owner.peak_bytes > 300 * MIB > owner.memory_bytes


def test_sample_has_host_and_what_ray_says(tmp_path: Path) -> None:
    """Host figures are within their limits, and Ray's figures are passed on with the time given."""
    said = RayUse(
        cpus=2,
        cpus_used=1,
        gpus=0,
        gpus_used=0,
        memory_bytes=10,
        memory_used_bytes=1,
        object_store_bytes=10,
        object_store_used_bytes=2,
        pending=["needs 4 CPUs"],
    )
    owner = Owner(pid=os.getpid(), started_at=psutil.Process().create_time())
    sampler = Sampler(owner, os.getppid(), tmp_path, ray_use=lambda: said, gpus=NoGpus())
    taken = sampler.sample(1234.5)
    assert (taken.at, taken.ray, taken.gpus) == (1234.5, said, None)
    host = taken.host
    assert 0 < host.cpus <= len(os.sched_getaffinity(0))
    assert 0 <= host.cpu_percent <= 100 * host.cpus
    assert 0 < host.memory_used_bytes < host.memory_limit_bytes
    assert host.disk_used_bytes is not None
    assert host.disk_limit_bytes is not None
    assert host.disk_used_bytes < host.disk_limit_bytes
    assert sampler.ring.latest is taken


def test_host_cpu_percent_sees_work(family: Family) -> None:
    """While a process burns CPU, the host's figure is at least that process's share."""
    family.by_pid()
    family.owner.run("burn(0.4)")
    taken = family.sampler.sample(time.time())
    owner = next(process for process in taken.processes if process.role == "owner")
    assert owner.cpu_percent is not None
    assert taken.host.cpu_percent >= 0.85 * owner.cpu_percent - 5


def test_ring_keeps_fifteen_minutes() -> None:
    """The ring keeps the last 900 samples, and gives those after a time, oldest first."""
    ring = Ring()
    assert ring.latest is None
    for at in range(1000):
        ring.add(sample(float(at)))
    kept = [each.at for each in ring.since(0)]
    assert (len(kept), kept[0], kept[-1]) == (KEPT, 100.0, 999.0)
    assert [each.at for each in ring.since(997)] == [998.0, 999.0]
    assert ring.since(999) == []


def wait_gone(pid: int) -> None:
    """Wait until there is no process ``pid``, or only its remains."""
    deadline = time.monotonic() + 20
    while time.monotonic() < deadline:
        try:
            if psutil.Process(pid).status() == psutil.STATUS_ZOMBIE:
                return
        except psutil.NoSuchProcess:
            return
    pytest.fail(f"process {pid} did not end")
