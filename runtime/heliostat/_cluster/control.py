"""What the supervisor asks of a running Ray cluster: look, resize, drain.

Everything goes through Ray's ``GcsClient``, which needs no driver: a look costs a quarter of a
millisecond and works while every worker is busy. The client and the protobuf types are not
public; ``compat.check`` tests for each name used here.
"""

from __future__ import annotations

import time
from collections import Counter
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from heliostat._cluster.fast_import import import_ray
from heliostat._messages.cluster import Node, Resources
from heliostat._messages.usage import RayUse

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

_PREEMPTION = 2
"""Ray's drain reason that a busy node cannot refuse."""
PARKING_NAMESPACE = "heliostat-parking"
"""Ray namespace of the actors that hold what a resize took away."""
_STATES = {1: "alive", 2: "dead", 3: "alive", 4: "draining"}


@dataclass(frozen=True)
class NodeView:
    """One node as the GCS sees it; resources by Ray's names."""

    node_id: str
    head: bool
    state: str
    address: str
    total: Mapping[str, float]
    available: Mapping[str, float]
    activity: tuple[str, ...] = ()

    def used(self, resource: str) -> float:
        """How much of ``resource`` is given out."""
        return self.total.get(resource, 0.0) - self.available.get(resource, 0.0)


@dataclass(frozen=True)
class ActorView:
    """A living actor with what it holds for as long as it lives; ours for parking are left out."""

    node_id: str
    class_name: str
    pid: int
    cpus: float
    gpus: float


@dataclass(frozen=True)
class ClusterView:
    """All living nodes, head first, and the demands that wait for resources."""

    nodes: tuple[NodeView, ...]
    pending: tuple[str, ...] = ()
    actors: tuple[ActorView, ...] = ()
    """Read only while something is pending: they may be what it waits for."""
    parked: Mapping[str, float] = field(default_factory=dict)
    """Resources held by our own parking actors: given out, but not usable."""

    @property
    def head(self) -> NodeView:
        """The node that the runtime's owner is connected to."""
        return self.nodes[0]

    def total(self, resource: str) -> float:
        """Sum over all nodes that are not being drained, less what is parked."""
        held = sum(n.total.get(resource, 0.0) for n in self.nodes if n.state == "alive")
        return held - self.parked.get(resource, 0.0)

    def used(self, resource: str) -> float:
        """Sum of what is given out, parked resources not counted."""
        return sum(n.used(resource) for n in self.nodes) - self.parked.get(resource, 0.0)

    def resources(self) -> Resources:
        """Totals as the rest of Heliostat speaks of them."""
        return Resources(
            cpus=self.total("CPU"),
            gpus=self.total("GPU"),
            memory_bytes=int(self.total("memory")),
            object_store_bytes=int(self.total("object_store_memory")),
            nodes=sum(n.state == "alive" for n in self.nodes),
        )

    def use(self) -> RayUse:
        """What Ray has given out."""
        return RayUse(
            cpus=self.total("CPU"),
            cpus_used=self.used("CPU"),
            gpus=self.total("GPU"),
            gpus_used=self.used("GPU"),
            memory_bytes=int(self.total("memory")),
            memory_used_bytes=int(self.used("memory")),
            object_store_bytes=int(self.total("object_store_memory")),
            object_store_used_bytes=int(self.used("object_store_memory")),
            pending=list(self.pending),
        )

    def node_messages(self) -> list[Node]:
        """One message for each node."""
        return [
            Node(
                node_id=n.node_id,
                name="head" if n.head else f"node-{index}",
                head=n.head,
                state=n.state,
                address=n.address,
                cpus=n.total.get("CPU", 0.0),
                gpus=n.total.get("GPU", 0.0),
                memory_bytes=int(n.total.get("memory", 0)),
                object_store_bytes=int(n.total.get("object_store_memory", 0)),
                cpus_used=n.used("CPU"),
                gpus_used=n.used("GPU"),
            )
            for index, n in enumerate(self.nodes)
        ]


def describe_demand(bundle: Mapping[str, float]) -> str:
    """Resources of a waiting task or actor in words: ``2 CPU, 1 GPU``."""
    named = [f"{amount:g} {name}" for name, amount in sorted(bundle.items()) if amount]
    return ", ".join(named) or "nothing"


def count_demands(bundles: Sequence[tuple[Mapping[str, float], int]]) -> tuple[str, ...]:
    """Fold equal demands: ``("3 x 2 CPU",)``."""
    counted: Counter[str] = Counter()
    for bundle, count in bundles:
        counted[describe_demand(bundle)] += count
    return tuple(f"{count} x {text}" for text, count in counted.items())


class ClusterControl:
    """A client of one cluster's GCS. Every call may block for up to ``timeout`` seconds."""

    def __init__(self, address: str, timeout: float = 5.0) -> None:
        import_ray()
        from ray._raylet import GcsClient

        self.address = address
        self._timeout = timeout
        self._client: Any = GcsClient(address=address)

    def view(self) -> ClusterView:
        """Read nodes, resources and waiting demands."""
        from ray.core.generated import autoscaler_pb2

        reply = autoscaler_pb2.GetClusterResourceStateReply()
        reply.ParseFromString(self._client.get_cluster_resource_state(self._timeout))
        state = reply.cluster_resource_state
        nodes = [
            NodeView(
                node_id=node.node_id.hex(),
                head="node:__internal_head__" in node.total_resources,
                state=_STATES.get(node.status, "dead"),
                address=node.node_ip_address,
                total=dict(node.total_resources),
                available=dict(node.available_resources),
                activity=tuple(node.node_activity),
            )
            for node in state.node_states
        ]
        living = sorted((n for n in nodes if n.state != "dead"), key=lambda n: not n.head)
        bundles = [(dict(r.request.resources_bundle), int(r.count)) for r in state.pending_resource_requests]
        for gang in state.pending_gang_resource_requests:
            bundles += [(dict(r.resources_bundle), 1) for r in gang.requests]
        actors = tuple(self.actors()) if bundles else ()
        return ClusterView(tuple(living), count_demands(bundles), actors)

    def resize(self, node_id: str, resources: Mapping[str, float]) -> dict[str, float]:
        """Ask the raylet for new totals; returns what it has now.

        A total never falls below what is given out, and the wish is not remembered: ask again.
        """
        reply = self._client.resize_raylet_resource_instances(node_id, dict(resources))
        return {str(name): float(total) for name, total in reply.items()}

    def drain(self, node_id: str, reason: str, deadline_seconds: float) -> None:
        """Give the node no more work; its raylet exits when the last task and object are gone."""
        deadline = int((time.time() + deadline_seconds) * 1000)
        accepted, why = self._client.drain_node(node_id, _PREEMPTION, reason, deadline)
        if not accepted:
            message = f"Ray refused to drain node {node_id[:8]}: {why}"
            raise RuntimeError(message)

    def actors_by_node(self) -> Counter[str]:
        """How many living actors each node holds."""
        return Counter(actor.node_id for actor in self.actors())

    def actors(self) -> list[ActorView]:
        """Every living actor."""
        from ray._raylet import GcsClientOptions, GlobalStateAccessor
        from ray.core.generated.gcs_pb2 import ActorTableData

        options = GcsClientOptions.create(
            self.address, None, allow_cluster_id_nil=True, fetch_cluster_id_if_nil=True
        )
        accessor = GlobalStateAccessor(options)
        if not accessor.connect():
            return []
        found = [ActorTableData.FromString(row) for row in accessor.get_actor_table(None, "ALIVE")]
        return [
            ActorView(
                node_id=actor.address.node_id.hex(),
                class_name=actor.class_name.rpartition(".")[2],
                pid=actor.pid,
                cpus=_held(actor.required_resources, "CPU"),
                gpus=_held(actor.required_resources, "GPU"),
            )
            for actor in found
            if actor.ray_namespace != PARKING_NAMESPACE
        ]


def _held(resources: Mapping[str, float], name: str) -> float:
    """Amount of a resource; inside a placement group it is called ``CPU_group_ID``."""
    amounts = [
        amount
        for key, amount in resources.items()
        if key == name or (key.startswith(f"{name}_group_") and key.count("_") == 2)
    ]
    return max(amounts, default=0.0)
