"""Resizing a live runtime: plans, growth, shrinking under load, nodes, GPUs, and going back."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from tests.support.owner import Failed, wait_for

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.runtime.conftest import StartOwner
    from tests.support.owner import Owner


@pytest.fixture(scope="module")
def owner(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Owner]:
    """A runtime on a machine that may share CPUs among tasks, with 3 logical GPUs."""
    from tests.support.owner import Owner

    environment = {"HELIOSTAT_MAX_CPUS": "4", "HELIOSTAT_GPUS": "3"}
    owner = Owner(tmp_path_factory.mktemp("owner"), "cpus=1, gpus=3", environment)
    owner.run("size = lambda name: ray.cluster_resources().get(name, 0)")
    owner.run("resize = lambda **wish: runtime.resize(**wish)")
    owner.run("remote = lambda f, **o: ray.remote(**o)(f) if o else ray.remote(f)")
    yield owner
    owner.end()


@pytest.fixture(autouse=True)
def small_again(owner: Owner) -> Iterator[None]:
    """Bring the shared runtime back to 1 CPU, 3 GPUs and one node."""
    yield
    owner.run("resize(cpus=1, gpus=3, nodes=1)", seconds=120)


def _hold_two_cpus(owner: Owner) -> None:
    """Have an actor called ``held`` take 2 CPUs."""
    owner.run("class Held:\n    def ok(self): return 1")
    owner.run("held = remote(Held, num_cpus=2).remote(); ray.get(held.ok.remote())")


def test_growing_runs_pending_tasks(owner: Owner) -> None:
    """A task that needs 2 CPUs waits on 1 and starts after the resize."""
    owner.run("pending = remote(lambda: 'ran', num_cpus=2).remote()")
    assert owner.run("ray.wait([pending], timeout=0.5)[0]") == []
    owner.run("resize(cpus=2)")
    assert owner.run("ray.get(pending, timeout=20)") == "ran"
    assert owner.run("size('CPU')") == 2


def test_plan_changes_nothing_and_says_what_would_happen(owner: Owner) -> None:
    """A plan names the changes and the command, and leaves the runtime as it was."""
    kinds, command, texts = owner.run(
        "p = runtime.plan(cpus=4, nodes=2, gpus=1)\n"
        "[[c.kind for c in p.changes], p.command, [c.text for c in p.changes]]"
    )
    assert kinds == ["add_node", "grow_cpus", "park_gpus"]
    assert command == "%resize cpus=4 gpus=1 nodes=2"
    assert texts[1:] == ["adds 2 CPUs", "takes away 2 GPUs"]
    assert owner.run("[size('CPU'), len(runtime.nodes())]") == [1, 1]


def test_workers_are_kept_to_the_cpus_granted(owner: Owner) -> None:
    """On 1 CPU a worker may run on one processor of the machine; after growing on more."""
    affinity = "len(ray.get(remote(lambda: os.sched_getaffinity(0)).remote()))"
    assert owner.run(affinity) == 1
    owner.run("resize(cpus=2)")
    assert owner.run(affinity) == min(2, owner.run("os.cpu_count()"))


def test_shrinking_waits_for_what_is_in_use(owner: Owner) -> None:
    """Shrinking below what an actor holds waits, says for what, and ends when it is free."""
    owner.run("resize(cpus=2)")
    _hold_two_cpus(owner)
    owner.run("runtime.resize(cpus=1, wait=False)")
    state = "[str(runtime.status().resize.state), runtime.status().resize.waiting_for]"
    wait_for(lambda: owner.run(state) == ["waiting", ["1 CPU in use on the head to become free"]], 5)
    owner.run("ray.kill(held)")
    wait_for(lambda: owner.run(state)[0] == "done", 10)
    assert owner.run("runtime.status().resources.cpus") == 1


def test_shrinking_a_saturated_queue_loses_no_task(owner: Owner) -> None:
    """With a queue that takes every free CPU at once, the size is reached and all tasks end."""
    owner.run("resize(cpus=4)")
    owner.run("short = remote(lambda i: (time.sleep(0.2), i)[1])")
    owner.run("refs = [short.remote(i) for i in range(200)]")
    owner.run("ray.get(refs[:8])")
    owner.run("resize(cpus=1)", seconds=30)
    assert owner.run("runtime.status().resources.cpus") == 1
    assert owner.run("len(ray.wait(refs, num_returns=len(refs), timeout=0)[0]) < len(refs)")
    owner.run("resize(cpus=4)")
    assert owner.run("ray.get(refs) == list(range(200))", seconds=90)


def test_parked_cpus_become_a_true_shrink(owner: Owner) -> None:
    """What had to be parked to win against a queue is given up once the queue is empty."""
    owner.run("resize(cpus=2)")
    owner.run("short = remote(lambda: time.sleep(0.2))")
    owner.run("refs = [short.remote() for _ in range(40)]; ray.get(refs[:4])")
    owner.run("resize(cpus=1)", seconds=30)
    owner.run("ray.get(refs)")
    wait_for(lambda: owner.run("size('CPU')") == 1, 15)


def test_timeout_rolls_back(owner: Owner) -> None:
    """A size that is not reached in time is given up, and the former size is there again."""
    owner.run("resize(cpus=2)")
    _hold_two_cpus(owner)
    with pytest.raises(Failed) as failed:
        owner.run("runtime.resize(cpus=1, rollback_after_seconds=1)")
    assert failed.value.name == "ResizeTimeoutError"
    assert "1 CPU in use" in failed.value.message
    assert owner.run("[size('CPU'), str(runtime.status().state)]") == [2, "ready"]
    owner.run("ray.kill(held)")


def test_cancel_goes_back(owner: Owner) -> None:
    """A resize that is cancelled leaves the former size; a second one is refused meanwhile."""
    owner.run("resize(cpus=2)")
    _hold_two_cpus(owner)
    owner.run("runtime.resize(cpus=1, wait=False)")
    with pytest.raises(Failed, match="A resize is running already"):
        owner.run("resize(cpus=2)")
    assert owner.run("str(runtime.cancel_resize().state)") == "cancelled"
    assert owner.run("[size('CPU'), str(runtime.status().state)]") == [2, "ready"]
    owner.run("ray.kill(held)")


def test_memory_is_changed_in_place(owner: Owner) -> None:
    """The memory that tasks may reserve follows the resize."""
    owner.run("before = runtime.status().resources.memory_bytes")
    owner.run("resize(memory='1GiB')")
    assert owner.run("size('memory')") == 1 << 30
    assert owner.run("ray.get(remote(lambda: 1, memory=900 << 20).remote(), timeout=20)") == 1
    owner.run("resize(memory=before)")


def test_nodes_are_added_and_drained(owner: Owner) -> None:
    """Nodes appear with a CPU each; a drained node ends its task before it goes."""
    owner.run("resize(nodes=3)")
    assert owner.run("[sum(n['Alive'] for n in ray.nodes()), size('CPU')]") == [3, 3]
    owner.run(
        "busy = [remote(lambda: (time.sleep(2), ray.get_runtime_context().get_node_id())[1],"
        " scheduling_strategy='SPREAD').remote() for _ in range(3)]"
    )
    wait_for(lambda: owner.run("sum(n.cpus_used for n in runtime.nodes())") == 3, 20)
    owner.run("resize(nodes=1)", seconds=60)
    assert owner.run("len(set(ray.get(busy, timeout=20)))") == 3
    assert owner.run("[len(runtime.nodes()), str(runtime.status().state)]") == [1, "ready"]


def test_a_lost_node_degrades_and_can_be_replaced(owner: Owner) -> None:
    """A node that dies is reported, and asking for the number again brings it back."""
    owner.run("resize(nodes=2)")
    owner.run(
        "import psutil; raylets = [p for p in psutil.Process(runtime.status().supervisor_pid).children()"
        " if p.name() == 'raylet']; max(raylets, key=lambda p: p.create_time()).kill()"
    )
    wait_for(lambda: owner.run("str(runtime.status().state)") == "degraded", 5)
    assert "was killed by SIGKILL" in owner.run("runtime.status().reason")
    wait_for(lambda: owner.run("len(runtime.nodes())") == 1, 20)
    owner.run("resize(nodes=2)")
    assert owner.run("[len(runtime.nodes()), str(runtime.status().state)]") == [2, "ready"]


def test_gpus_are_parked_and_come_back(owner: Owner) -> None:
    """Fewer GPUs: a task that needs one more waits; with them back it gets a device of its own."""
    owner.run("resize(gpus=1)")
    assert owner.run("runtime.status().resources.gpus") == 1
    owner.run("ids = lambda: ray.get_gpu_ids()")
    owner.run("class Holds:\n    def ids(self): return ray.get_gpu_ids()")
    owner.run("first = remote(Holds, num_gpus=1, num_cpus=0).remote()")
    owner.run("second = remote(Holds, num_gpus=1, num_cpus=0).remote()")
    assert len(owner.run("ray.get(first.ids.remote(), timeout=20)")) == 1
    assert owner.run("ray.wait([second.ids.remote()], timeout=1)[0]") == []
    owner.run("resize(gpus=3)")
    held = owner.run("ray.get([first.ids.remote(), second.ids.remote()], timeout=20)")
    assert held[0] != held[1]
    owner.run("ray.kill(first); ray.kill(second)")


@pytest.mark.parametrize(
    ("wish", "error", "says"),
    [
        ("cpus=0", "ResizeError", "the least is 1"),
        ("cpus=-1", "ResizeError", "the least is 1"),
        ("cpus=400", "ResizeError", "this machine has 4"),
        ("cpus='x'", "ConfigurationError", "not a whole number"),
        ("cpus=1.5", "ConfigurationError", "not a whole number"),
        ("gpus=4", "ResizeError", "this machine has 3"),
        ("gpus=-1", "ResizeError", "the least is 0"),
        ("nodes=0", "ResizeError", "the least is 1"),
        ("nodes=99", "ResizeError", "Ask for at most 8"),
        ("cpus=1, nodes=2", "ResizeError", "each needs one"),
        ("memory='1KiB'", "ResizeError", "too little"),
        ("memory='-1'", "ConfigurationError", "not a size"),
        ("memory='900TiB'", "ResizeError", "can be had here"),
    ],
)
def test_impossible_sizes_change_nothing(owner: Owner, wish: str, error: str, says: str) -> None:
    """A size that cannot be had is refused with what can, and the runtime is as it was."""
    before = owner.run("[runtime.status().resources, str(runtime.status().state)]")
    with pytest.raises(Failed) as failed:
        owner.run(f"resize({wish})")
    assert failed.value.name == error
    assert says in failed.value.message
    assert owner.run("[runtime.status().resources, str(runtime.status().state)]") == before


def test_scale_cluster_and_its_questions(owner: Owner) -> None:
    """The cluster manager's names do what they do in Snowflake's runtime."""
    owner.run("from heliostat.runtime_cluster import cluster_manager as m, get_nodes, scale_cluster")
    assert owner.run("scale_cluster(2)") is True
    assert owner.run("get_nodes()") == [
        {"name": "head", "cpus": 1.0, "gpus": 3.0},
        {"name": "node-1", "cpus": 1.0, "gpus": 0.0},
    ]
    assert owner.run("[m.get_cluster_size(), m.get_available_cpu(), m.get_available_gpu()]") == [2, 2, 3]
    assert owner.run("[m.get_num_cpus_per_node(), m.get_ray_dashboard_url()]") == [1, None]
    assert owner.run("scale_cluster('notebook', 1)") is True
    assert owner.run("m.get_cluster_size()") == 1
    assert owner.run("scale_cluster(3, options={'block_until_min_cluster_size': 2})") is True
    assert owner.run("m.get_cluster_size()") >= 2
    wait_for(lambda: owner.run("str(runtime.status().state)") == "ready", 10)
    assert owner.run("scale_cluster(1, is_async=True)") is True
    wait_for(lambda: owner.run("m.get_cluster_size()") == 1, 20)
    wait_for(lambda: owner.run("str(runtime.status().state)") == "ready", 20)


@pytest.mark.parametrize(
    "call",
    [
        "scale_cluster(0)",
        "scale_cluster('2')",
        "scale_cluster(2.0)",
        "scale_cluster(True)",
        "scale_cluster(2, 3)",
        "scale_cluster(2, options={'rollback': 3})",
        "scale_cluster(2, options={'rollback_after_seconds': 0})",
        "scale_cluster(2, options={'block_until_min_cluster_size': 3})",
    ],
)
def test_scale_cluster_refuses_bad_arguments(owner: Owner, call: str) -> None:
    """Bad arguments are refused by name before anything is changed."""
    owner.run("from heliostat.runtime_cluster import scale_cluster")
    with pytest.raises(Failed) as failed:
        owner.run(call)
    assert failed.value.name == "ConfigurationError"
    assert owner.run("len(runtime.nodes())") == 1


def test_without_in_place_resize_nodes_take_its_place(start_owner: StartOwner) -> None:
    """A Ray that cannot resize a raylet gets its CPUs from added and drained nodes."""
    owner = start_owner("cpus=1", HELIOSTAT_MAX_CPUS="4", HELIOSTAT_IN_PLACE="0")
    plan = owner.run("[c.kind for c in runtime.plan(cpus=3).changes]")
    assert plan == ["add_node"]
    owner.run("class Holds:\n    def node(self): return ray.get_runtime_context().get_node_id()")
    owner.run("holders = [ray.remote(num_cpus=1)(Holds).remote() for _ in range(3)]")
    owner.run("runtime.resize(cpus=3)")
    assert owner.run("ray.cluster_resources()['CPU']") == 3
    assert owner.run("len(set(ray.get([h.node.remote() for h in holders], timeout=30)))") == 3
    owner.run("[ray.kill(h) for h in holders]")
    owner.run("runtime.resize(cpus=1)", seconds=60)
    assert owner.run("[len(runtime.nodes()), runtime.status().resources.cpus]") == [1, 1]
