"""What trainings ask the runtime: whether it is there, its nodes, a resize under way."""

from __future__ import annotations

import contextlib
import sys
from dataclasses import dataclass
from typing import TYPE_CHECKING

from heliostat.exceptions import ConfigurationError, HeliostatError, ResizeError

if TYPE_CHECKING:
    from collections.abc import Collection, Iterator

    from heliostat._messages.resizing import ResizeOperation
    from heliostat._messages.runtime import RuntimeStatus


@dataclass(frozen=True)
class NodeSize:
    """What a node has in all, free or not."""

    cpus: int
    gpus: int


def connect() -> str | None:
    """Make sure that Ray is connected; returns the runtime's own directory, if it is a local one."""
    from heliostat import _handle
    from heliostat._messages.cluster import Provider

    if _handle.current() is None and connected():
        # The caller's own cluster; a second one beside it would only take its CPUs.
        return None
    status = _handle.init().wait()
    return status.session_dir if status.provider is Provider.LOCAL else None


def connected() -> bool:
    """Whether there is a runtime to use, without starting one."""
    ray = sys.modules.get("ray")
    return ray is not None and bool(ray.is_initialized())


def is_local() -> bool:
    """Whether all of the runtime is on this machine."""
    from heliostat._messages.cluster import Provider

    known = _known()
    return known is not None and known.provider is Provider.LOCAL


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


def latest_resize() -> ResizeOperation | None:
    """The latest resize, running or ended."""
    known = _known()
    return None if known is None else known.resize


def resize_under_way() -> ResizeOperation | None:
    """The resize that has not ended yet."""
    latest = latest_resize()
    return None if latest is None or latest.state.finished else latest


def resize_target() -> int | None:
    """CPUs that a resize under way leads to; ``None`` when there is none."""
    under_way = resize_under_way()
    return None if under_way is None else int(under_way.plan.target.cpus)


@contextlib.contextmanager
def honest_advice() -> Iterator[None]:
    """Have an error whose ``resize`` is what it advises say so where the runtime cannot grow to that."""
    from heliostat import _handle

    try:
        yield
    except ConfigurationError as error:
        runtime, sizes = _handle.current(), error.fields.get("resize")
        if runtime is not None and sizes:
            try:
                runtime.plan(**sizes)
            except ResizeError as refused:
                error.action = f"It cannot grow to that: {refused}"
            except HeliostatError:
                # The runtime does not answer just now; the advice may be right.
                pass
        raise


def _known() -> RuntimeStatus | None:
    from heliostat import _handle

    runtime = _handle.current()
    return None if runtime is None else runtime.known
