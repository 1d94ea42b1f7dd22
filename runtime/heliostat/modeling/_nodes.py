"""What nodes the runtime has, as trainings plan on them."""

from __future__ import annotations

import contextlib
from dataclasses import dataclass
from typing import TYPE_CHECKING

from heliostat.exceptions import ConfigurationError, HeliostatError, ResizeError

if TYPE_CHECKING:
    from collections.abc import Iterator


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
