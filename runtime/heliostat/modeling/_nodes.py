"""What nodes the runtime has, as trainings plan on them."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class NodeSize:
    """What a node has in all, free or not."""

    cpus: int
    gpus: int


def nodes() -> list[NodeSize]:
    """Sizes of the nodes that are alive, as they are now: Ray's own list does not follow a resize."""
    from heliostat import _handle

    runtime = _handle.current()
    if runtime is not None and runtime.alive:
        return [NodeSize(int(node.cpus), int(node.gpus)) for node in runtime.nodes() if node.state == "alive"]
    import ray

    return [
        NodeSize(int(node["Resources"].get("CPU", 0)), int(node["Resources"].get("GPU", 0)))
        for node in ray.nodes()
        if node["Alive"]
    ]
