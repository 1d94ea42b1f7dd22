"""Booting: it comes up quickly, says how, and says why when it does not."""

from __future__ import annotations

import socket
import stat
from typing import TYPE_CHECKING

import pytest
from tests.support.owner import Failed, Owner, wait_for

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.runtime.conftest import StartOwner


_MANIFEST = "from heliostat._supervisor.manifest import manifest_path; str(manifest_path(runtime.runtime_id))"


def test_boot_steps_and_resources(owner: Owner) -> None:
    """A booted runtime knows its steps in order, its size and how it was booted."""
    state, mode, steps, cpus, nodes = owner.run(
        "s = runtime.status()\n"
        "[s.state, s.boot_mode, [x.name for x in s.steps], s.resources.cpus, s.resources.nodes]"
    )
    assert (state, mode, cpus, nodes) == ("ready", "slim", 2.0, 1)
    assert steps == ["supervisor up", "GCS up", "raylet up"]
    elapsed = owner.run("[x.elapsed for x in s.steps]")
    assert elapsed == sorted(elapsed)


def test_owner_is_a_driver(owner: Owner) -> None:
    """The owner can run tasks as soon as it has the handle."""
    assert owner.run("ray.get(ray.remote(lambda: 40 + 2).remote())") == 42


def test_ray_init_means_this_runtime(owner: Owner) -> None:
    """A notebook that begins with ray.init() gets the runtime and no second cluster."""
    assert owner.run("ray.init().address_info['gcs_address']") == owner.address
    assert (
        owner.run("ray.init(num_cpus=64, ignore_reinit_error=True).address_info['gcs_address']")
        == owner.address
    )


def test_runtime_env_starts_its_agent_on_first_use(owner: Owner) -> None:
    """A task with a runtime environment works though the agent is not started at boot."""
    owner.run("environment = {'env_vars': {'SEEN': 'yes'}}")
    owner.run("task = ray.remote(lambda: os.environ['SEEN']).options(runtime_env=environment)")
    assert owner.run("ray.get(task.remote())") == "yes"


def test_early_ray_calls_wait_for_the_runtime(start_owner: StartOwner) -> None:
    """A Ray call during the boot waits and uses this runtime instead of starting a cluster."""
    owner = start_owner("wait=False")
    assert owner.run("ray.get(ray.put(7))") == 7
    assert owner.run("ray.get_runtime_context().gcs_address") == owner.run("runtime.status().address")


def test_private_files(owner: Owner) -> None:
    """Directory, socket, token and manifest are readable by their owner alone."""
    modes = {
        path.name: stat.S_IMODE(path.stat().st_mode) for path in owner.directory.iterdir() if path.is_file()
    }
    assert stat.S_IMODE(owner.directory.stat().st_mode) == 0o700
    assert stat.S_IMODE((owner.directory / "supervisor.sock").stat().st_mode) == 0o600
    assert (
        modes["token"] == modes["manifest.json"] == modes["config.json"] == modes["supervisor.log"] == 0o600
    )
    manifest = owner.run(_MANIFEST)
    mode = owner.run(f"oct(os.stat({manifest!r}).st_mode & 0o777)")
    assert mode == "0o600"


def test_stock_boot_is_the_fallback(start_owner: StartOwner) -> None:
    """Where the slim boot cannot be used, Ray's own boot serves, and the status says so."""
    owner = start_owner("cpus=1", HELIOSTAT_BOOT="stock")
    assert owner.run("str(runtime.status().boot_mode)") == "stock"
    assert owner.run("ray.get(ray.put(1))") == 1


@pytest.fixture(scope="module")
def bare(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Owner]:
    """One process without a runtime, for tests that get none."""
    owner = Owner(tmp_path_factory.mktemp("bare"), "none", {})
    yield owner
    owner.run("_handle.shutdown()")
    owner.end()


@pytest.mark.parametrize(
    ("call", "says"),
    [
        ("cpus='four'", "not a whole number"),
        ("memory='lots'", "not a size"),
        ("address='nowhere'", "host:port"),
        ("address='ray://a:1'", "host:port"),
    ],
)
def test_bad_arguments_start_nothing(bare: Owner, call: str, says: str) -> None:
    """An argument that cannot be used is refused by name before a process is started."""
    bare.run("_handle.shutdown()")
    with pytest.raises(Failed) as failed:
        bare.run(f"_handle.init({call})")
    assert failed.value.name == "ConfigurationError"
    assert says in failed.value.message
    assert bare.run("_handle.current() is None")


@pytest.mark.parametrize(
    ("call", "environment", "says"),
    [
        ("cpus=0", {}, "the least is 1"),
        ("cpus=-3", {}, "the least is 1"),
        ("cpus=4096", {}, "CPUs were asked for"),
        ("gpus=9", {"HELIOSTAT_GPUS": "2"}, "this machine has 2"),
        ("memory='900TiB'", {}, "can be had here"),
        ("object_store_memory='900TiB'", {}, "/dev/shm has"),
        ("", {"HELIOSTAT_LEAST_DISK": "900TiB"}, "is full"),
        ("", {"HELIOSTAT_MAX_CPUS": "many"}, "HELIOSTAT_MAX_CPUS"),
    ],
)
def test_impossible_boots_say_why(bare: Owner, call: str, environment: dict[str, str], says: str) -> None:
    """A size that cannot be had, or a full disk, fails the boot with a sentence and no process."""
    bare.run(f"_handle.shutdown(); os.environ.update({environment!r})")
    with pytest.raises(Failed) as failed:
        bare.run(f"_handle.init({call})")
    assert failed.value.name == "BootError"
    assert says in failed.value.message
    assert bare.run("str(_handle.current().status().state)") == "failed"
    bare.run(f"for name in {list(environment)!r}: del os.environ[name]")


def test_a_failed_boot_can_be_tried_again(start_owner: StartOwner) -> None:
    """After a boot that failed for its size, a restart with another size works."""
    owner = start_owner("none")
    with pytest.raises(Failed):
        owner.run("_handle.init(cpus=4096)")
    owner.run("_handle.current().restart(make_target(cpus=1))")
    assert owner.run("import ray; ray.cluster_resources()['CPU']") == 1.0


def test_dead_address(start_owner: StartOwner) -> None:
    """Attaching where nothing listens says so at once."""
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        port = unused.getsockname()[1]
    owner = start_owner("none")
    with pytest.raises(Failed) as failed:
        owner.run(f"_handle.init(address='127.0.0.1:{port}')")
    assert failed.value.name == "BootError"
    assert "No Ray cluster can be reached" in failed.value.message


def test_restart_with_another_size_keeps_variables(start_owner: StartOwner) -> None:
    """A restart boots Ray with the new size; the owner's variables stay."""
    owner = start_owner("cpus=1")
    owner.run("kept = 5")
    owner.run("runtime.restart(make_target(cpus=2, object_store_memory='200MiB'))")
    assert owner.run("ray.cluster_resources()['CPU']") == 2.0
    assert owner.run("runtime.status().resources.object_store_bytes") == 200 << 20
    assert owner.run("kept + ray.get(ray.put(1))") == 6


def test_impossible_restart_leaves_the_runtime_alone(owner: Owner) -> None:
    """A restart with a size that cannot be had is refused before anything is taken down."""
    before = owner.run("runtime.status().address")
    with pytest.raises(Failed) as failed:
        owner.run("runtime.restart(make_target(cpus=4096))")
    assert failed.value.name == "ResizeError"
    assert owner.run("runtime.status().address") == before
    assert owner.run("ray.get(ray.put(1))") == 1


def test_stop_leaves_nothing(start_owner: StartOwner) -> None:
    """After stop() there is no process, no directory and no manifest, and a new start works."""
    owner = start_owner("cpus=1")
    left = owner.supervised()
    manifest = owner.run(_MANIFEST)
    owner.run("runtime.stop()")
    wait_for(lambda: not any(process.alive() for process in left), 2)
    assert not owner.directory.exists()
    assert not owner.run(f"os.path.exists({manifest!r})")
    assert owner.run("runtime = _handle.init(cpus=1); ray.get(ray.put(3))") == 3


def test_output_of_tasks_and_actors_is_shown(start_owner: StartOwner) -> None:
    """What tasks and actors print appears in the owner with their names, none of it lost."""
    owner = start_owner("cpus=1")
    owner.run("def talk(i):\n    print('line', i)\n    print('trouble', i, file=sys.stderr)")
    owner.run("class Talker:\n    def say(self): print('spoken')")
    owner.run("talk = ray.remote(talk); ray.get([talk.remote(i) for i in range(50)])")
    owner.run("ray.get(ray.remote(Talker).remote().say.remote())")
    owner.run("runtime.stop()")
    said = owner.said()
    assert [said.count(f"line {i}\n") for i in range(50)] == [1] * 50
    assert [said.count(f"trouble {i}\n") for i in range(50)] == [1] * 50
    assert "(talk pid=" in said
    assert "(Talker pid=" in said
    assert "nothing pid=" not in said
