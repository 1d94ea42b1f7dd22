"""What a training asks the runtime."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING

from heliostat.modeling._nodes import NodeSize

if TYPE_CHECKING:
    from collections.abc import Collection


def connect() -> None:
    """Make sure that Ray is connected."""
    from heliostat import _handle

    ray = sys.modules.get("ray")
    if _handle.current() is None and ray is not None and ray.is_initialized():
        # The caller's own cluster; a second one beside it would only take its CPUs.
        return
    _handle.init().wait()


def nodes(without: Collection[str] = ()) -> list[NodeSize]:
    """Sizes of the nodes that are alive, but for those of the ids ``without``."""
    from heliostat import _handle

    runtime = _handle.current()
    if runtime is not None and runtime.alive:
        # Ray's own list keeps the sizes that nodes were started with.
        known = [node for node in runtime.nodes() if node.state == "alive" and node.node_id not in without]
        return [NodeSize(int(node.cpus), int(node.gpus)) for node in known]
    import ray

    return [
        NodeSize(int(node["Resources"].get("CPU", 0)), int(node["Resources"].get("GPU", 0)))
        for node in ray.nodes()
        if node["Alive"] and node["NodeID"] not in without
    ]


def is_local() -> bool:
    """Whether all of the runtime is on this machine."""
    from heliostat import _handle
    from heliostat._messages.cluster import Provider

    runtime = _handle.current()
    known = runtime.known if runtime is not None else None
    return known is not None and known.provider is Provider.LOCAL


def resize_target() -> int | None:
    """CPUs that a resize under way leads to; ``None`` when there is none."""
    from heliostat import _handle

    runtime = _handle.current()
    known = runtime.known if runtime is not None else None
    if known is None or known.resize is None or known.resize.state.finished:
        return None
    return int(known.resize.plan.target.cpus)
