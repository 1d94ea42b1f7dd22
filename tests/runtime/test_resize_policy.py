"""What a resize means, on clusters that obey it to the letter: tables, and sweeps over many sizes."""

from __future__ import annotations

import itertools
from dataclasses import dataclass, field
from typing import Any

import pytest

from heliostat._cluster.control import ClusterView, NodeView
from heliostat._messages.cluster import Resources
from heliostat._supervisor.resize_policy import (
    Actions,
    Progress,
    decide,
    plan,
)

GIB = 1 << 30
NODE_MEMORY = 256 << 20
_ENDLESS = 10**6
"""Steps of a queue that outlasts every test."""


@dataclass
class Cluster:
    """A cluster in memory that does what it is told, with work that holds on to some of it.

    Like Ray, it never takes a total below what is given out, a task takes any CPU that is free
    at once, and a drained node stays until its work has ended. Each step is 50 ms.
    """

    cpus: float
    nodes: int = 1
    memory: int = 16 * GIB
    gpus: int = 0
    held: float = 0
    """CPUs that actors hold for ever."""
    queue: int = 0
    """Steps for which a queue takes every free CPU; each of its tasks runs for 4."""
    stubborn: bool = False
    """Whether drained nodes keep their work until they are ended."""
    parked: float = 0
    parked_gpus: int = 0
    elapsed: float = 0
    running: list[int] = field(default_factory=list)
    others: dict[str, str] = field(default_factory=dict)
    serial: itertools.count[int] = field(default_factory=itertools.count)
    turn: int = 0
    trace: list[float] = field(default_factory=list, repr=False)
    """CPUs of the head after each step."""

    def __post_init__(self) -> None:
        for _ in range(self.nodes - 1):
            self._add()
        if self.queue:
            # A queue that was there before: every CPU is taken, and some is given back at each step.
            self.running = [1 + index % 4 for index in range(int(self.free))]

    def _add(self) -> None:
        self.others[f"node-{next(self.serial)}"] = "alive"

    @property
    def free(self) -> float:
        """CPUs of the head that nobody has."""
        return self.cpus - self.held - len(self.running) - self.parked

    def view(self) -> ClusterView:
        """The cluster as Ray would show it."""
        total = {"CPU": self.cpus, "memory": float(self.memory), "GPU": float(self.gpus)}
        available = {**total, "CPU": self.free, "GPU": float(self.gpus - self.parked_gpus)}
        head = NodeView("head", True, "alive", "127.0.0.1", total, available)
        each = {"CPU": 1.0, "memory": float(NODE_MEMORY)}
        busy = {**each, "CPU": 0.0 if self.stubborn else 1.0}
        rest = [NodeView(n, False, state, "127.0.0.1", each, busy) for n, state in self.others.items()]
        return ClusterView((head, *rest), (), parked={"CPU": self.parked, "GPU": float(self.parked_gpus)})

    def obey(self, actions: Actions) -> None:
        """Carry out one decision, then let 50 ms pass."""
        if actions.head and "CPU" in actions.head:
            self.cpus = max(actions.head["CPU"], self.cpus - self.free)
        if actions.head and "memory" in actions.head:
            self.memory = int(actions.head["memory"])
        self.parked = min(self.parked, actions.park_cpus)
        self.parked_gpus = actions.park_gpus
        for _ in range(actions.add_nodes):
            self._add()
        for name in actions.drain:
            self.others[name] = "draining"
        for name in actions.kill:
            del self.others[name]
        self._pass_time(actions.park_cpus)

    def _pass_time(self, wanted_parked: int) -> None:
        self.elapsed += 0.05
        self.queue -= 1
        self.running = [left - 1 for left in self.running if left > 1]
        # Parking actors stand in the same queue as tasks; here each second free CPU is theirs.
        while self.free >= 1 and (self.parked < wanted_parked or self.queue > 0):
            self.turn += 1
            if self.parked < wanted_parked and (self.queue <= 0 or self.turn % 2):
                self.parked += 1
            else:
                self.running.append(4)
        self.trace.append(self.cpus)
        if not self.stubborn:
            self.others = {name: state for name, state in self.others.items() if state == "alive"}


def _reach(cluster: Cluster, wanted: Resources, **progress: Any) -> int:
    """Let the cluster obey until the size is reached; returns how many decisions it took."""
    installed = cluster.gpus
    for step in range(400):
        state = Progress(cluster.elapsed, installed, drain_deadline=progress.get("drain_deadline", 300.0))
        state = Progress(**{**vars(state), **progress})
        actions = decide(cluster.view(), wanted, state)
        assert "head" not in (*actions.drain, *actions.kill), "the head is never drained or ended"
        assert actions.add_nodes == 0 or not actions.drain, "never both adds and drains"
        assert actions.park_cpus >= 0
        cluster.obey(actions)
        if actions.reached:
            return step
    message = f"{wanted} is never reached; {cluster}"
    raise AssertionError(message)


def _wanted(cpus: int, nodes: int, memory: int = 16 * GIB, gpus: int = 0) -> Resources:
    return Resources(cpus=cpus, gpus=gpus, memory_bytes=memory, object_store_bytes=GIB, nodes=nodes)


@pytest.mark.parametrize("queue", [0, 30, _ENDLESS])
def test_every_size_is_reached_from_every_other(queue: int) -> None:
    """From each size to each other, idle or with a full queue, it ends, and totals go one way only."""
    sizes = [(cpus, nodes) for nodes in (1, 2, 3, 4) for cpus in (nodes, nodes + 1, nodes + 7)]
    for (cpus, nodes), (to_cpus, to_nodes) in itertools.product(sizes, sizes):
        head, to_head = cpus - nodes + 1, to_cpus - to_nodes + 1
        cluster = Cluster(head, nodes, queue=queue, gpus=2)
        _reach(cluster, _wanted(to_cpus, to_nodes, gpus=1))
        seen = cluster.view().resources()
        assert (seen.cpus, seen.nodes, seen.gpus) == (to_cpus, to_nodes, 1)
        assert seen.memory_bytes == 16 * GIB
        low, high = sorted((head, to_head))
        assert all(low <= total <= high for total in cluster.trace)
        assert cluster.trace == sorted(cluster.trace, reverse=to_head < head)


def test_what_is_parked_becomes_a_true_shrink() -> None:
    """Once the queue is empty, the raw total itself is what was wanted and nothing is parked."""
    for cpus, to_cpus in itertools.product(range(2, 9), range(1, 8)):
        if to_cpus >= cpus:
            continue
        cluster = Cluster(cpus, queue=_ENDLESS)
        _reach(cluster, _wanted(to_cpus, 1))
        cluster.queue, cluster.running = 0, []
        for _ in range(20):
            cluster.obey(decide(cluster.view(), _wanted(to_cpus, 1), Progress(0.0, 0, 300.0)))
        assert (cluster.cpus, cluster.parked) == (to_cpus, 0)


def test_held_cpus_are_waited_for_and_named() -> None:
    """Below what actors hold, nothing more is taken, the wait is said, and it ends when they do."""
    for cpus, held, to_cpus in itertools.product(range(2, 9), range(2, 9), range(1, 8)):
        if not to_cpus < held <= cpus:
            continue
        cluster = Cluster(cpus, held=held)
        wanted = _wanted(to_cpus, 1)
        for _ in range(60):
            actions = decide(cluster.view(), wanted, Progress(cluster.elapsed, 0, 300.0))
            assert not actions.reached
            cluster.obey(actions)
            assert cluster.cpus >= held
        (said,) = actions.waiting_for
        assert said.startswith(f"{held - to_cpus} CPU")
        cluster.held = 0
        _reach(cluster, wanted)
        assert cluster.view().resources().cpus == to_cpus


def test_drained_nodes_keep_their_work_until_the_deadline() -> None:
    """A node with work is drained and waited for; ended only when overdue or by force."""
    cluster = Cluster(1, nodes=3, stubborn=True)
    for _ in range(50):
        actions = decide(cluster.view(), _wanted(1, 1), Progress(cluster.elapsed, 0, 300.0))
        assert not actions.kill
        assert not actions.reached
        cluster.obey(actions)
    assert sorted(cluster.others.values()) == ["draining", "draining"]
    assert len(actions.waiting_for) == 2
    overdue = decide(cluster.view(), _wanted(1, 1), Progress(301.0, 0, 300.0))
    forced = decide(cluster.view(), _wanted(1, 1), Progress(0.0, 0, 300.0, force=True))
    assert sorted(overdue.kill) == sorted(forced.kill) == sorted(cluster.others)
    _reach(cluster, _wanted(1, 1), force=True)
    assert cluster.others == {}


def test_a_plan_is_empty_exactly_where_the_size_is_reached() -> None:
    """The preview and the real thing agree: no change is planned if and only if none is needed."""
    for cpus, nodes, to_cpus, to_nodes in itertools.product((1, 3, 8), (1, 3), (3, 4, 8), (1, 2, 3)):
        view = Cluster(cpus, nodes).view()
        wanted = _wanted(to_cpus, to_nodes, memory=int(view.total("memory")))
        reached = decide(view, wanted, Progress(0.0, 0, 300.0)).reached
        found = plan(view, wanted, {"node-0": 2})
        assert found.empty == reached
        assert (found.estimated_seconds == 0) == found.empty
        drained = [change.node for change in found.changes if change.kind == "drain_node"]
        assert found.losses.actors == (2 if "node-0" in drained else 0)
        assert "head" not in drained


def test_nodes_that_hold_least_go_first() -> None:
    """Of several nodes those without work are drained, whatever their order."""
    view = Cluster(1, nodes=4).view()
    busy = NodeView("busy", False, "alive", "127.0.0.1", {"CPU": 1.0}, {"CPU": 0.0})
    crowded = ClusterView((view.head, busy, *view.nodes[1:3]))
    actions = decide(crowded, _wanted(2, 2), Progress(0.0, 0, 300.0))
    assert actions.drain == ("node-0", "node-1")
    assert plan(crowded, _wanted(1, 1), None).losses.actors is None, "unknown is not none"
