"""Who holds what others wait for: as words, and on a real runtime."""

from __future__ import annotations

from typing import TYPE_CHECKING

from tests.support.owner import wait_for

from heliostat import _calls as calls
from heliostat._client import SupervisorClient
from heliostat._cluster.control import ActorView, ClusterView, NodeView
from heliostat._supervisor.config import SOCKET
from heliostat._supervisor.holding import describe_holders

if TYPE_CHECKING:
    from tests.support.owner import Owner

NODE = NodeView("n", True, "alive", "", {"CPU": 8.0, "GPU": 2.0}, {"CPU": 0.0, "GPU": 0.0})


def actor(class_name: str, pid: int, cpus: float, gpus: float = 0.0) -> ActorView:
    """Return a living actor."""
    return ActorView("n", class_name, pid, cpus, gpus)


def test_holders_are_named_the_largest_first() -> None:
    """A process with a name has it, actors are counted by class, what is left is tasks."""
    actors = (
        actor("RankActor", 1, 1, 2),
        actor("Counter", 2, 2),
        actor("Counter", 3, 2),
        actor("Free", 4, 0),
    )
    view = ClusterView((NODE,), ("1 x 4 CPU",), actors)
    assert describe_holders(view, {1: "rank 0"}) == [
        "2 actors Counter (4 CPUs)",
        "rank 0 (1 CPU and 2 GPUs)",
        "running tasks and reservations (3 CPUs)",
    ]


def test_nobody_is_named_while_nobody_waits() -> None:
    """Without a demand that waits there is nothing to explain."""
    assert describe_holders(ClusterView((NODE,), (), (actor("Counter", 2, 2),)), {}) == []


def test_a_task_that_waits_is_told_who_holds_its_cpus(owner: Owner) -> None:
    """On a real runtime of two CPUs an actor with one of them is named to the task that needs both."""
    owner.run(
        "import ray\nruntime = heliostat.init()\n"
        "class Counter:\n    def ready(self): return 1\n"
        "counter = ray.remote(num_cpus=1)(Counter).remote()\nray.get(counter.ready.remote())\n"
        "waiting = ray.remote(num_cpus=2)(lambda: 1).remote()"
    )
    client = SupervisorClient(owner.directory / SOCKET)

    def holders() -> list[str]:
        ray = client.ask(calls.samples(0))[-1].ray
        return [] if ray is None else ray.holders

    wait_for(lambda: holders() == ["actor Counter (1 CPU)"], 15)
    owner.run("ray.kill(counter)")
    assert owner.run("ray.get(waiting, timeout=20)") == 1
    wait_for(lambda: holders() == [], 5)
