"""Decisions about the workers of a training: how many, where, and what after a loss.

Pure: everything here is computed from its arguments, so each decision can be tested alone.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from typing import TYPE_CHECKING

from heliostat.exceptions import ConfigurationError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from heliostat.modeling._runtime import NodeSize
    from heliostat.modeling.distributors.pytorch.scaling_config import PyTorchScalingConfig


@dataclass(frozen=True)
class Placement:
    """The workers of one attempt."""

    workers: int
    cpus: int
    """CPUs of each."""
    gpus: int
    """GPUs of each."""
    strategy: str = "PACK"
    """Ray's name for how they lie on nodes."""


@dataclass(frozen=True)
class Position:
    """Where one rank sits among the others."""

    rank: int
    size: int
    local_rank: int
    local_size: int
    node_rank: int


def plan_placement(
    config: PyTorchScalingConfig | None, nodes: Sequence[NodeSize], target_cpus: int | None = None
) -> Placement:
    """Decide on the workers of a training.

    Without a ``config`` each GPU gets a worker, and each node one where there are no GPUs; they
    share out all CPUs.

    Parameters
    ----------
    config:
        What was asked for.
    nodes:
        What the runtime has.
    target_cpus:
        CPUs in all that a resize under way leads to; ``None`` when there is none.

    Raises
    ------
    ConfigurationError
        The runtime has less than what was asked for; ``required`` and ``available`` say how much.
    """
    if config is None:
        return _fill(nodes)
    each = config.resource_requirements_per_worker
    workers = wanted_workers(config, nodes, target_cpus)
    if room_for(nodes, each.num_cpus, each.num_gpus) < workers:
        raise _too_small(workers, each.num_cpus, each.num_gpus, nodes)
    if not config.elastic and len(nodes) < config.num_nodes:
        message = f"Training asks for {_count(config.num_nodes, 'node')}; the runtime has {len(nodes)}."
        action = f"Grow it with  %resize nodes={config.num_nodes}  or ask for fewer in PyTorchScalingConfig."
        raise ConfigurationError(message, action, required=config.num_nodes, available=len(nodes))
    spread = config.num_nodes > 1 and config.num_workers_per_node == 1 and not config.elastic
    return Placement(workers, each.num_cpus, each.num_gpus, "STRICT_SPREAD" if spread else "PACK")


def room_for(nodes: Sequence[NodeSize], cpus: int, gpus: int) -> int:
    """How many workers of a size fit; no worker spans two nodes."""
    return sum(
        min([*([node.cpus // cpus] if cpus else []), *([node.gpus // gpus] if gpus else [])])
        for node in nodes
    )


def wanted_workers(config: PyTorchScalingConfig, nodes: Sequence[NodeSize], target_cpus: int | None) -> int:
    """How many workers a training should have now; arguments as of ``plan_placement``."""
    each = config.resource_requirements_per_worker
    room = room_for(nodes, each.num_cpus, each.num_gpus)
    if target_cpus is not None and each.num_cpus:
        # What is asked for and not there yet cannot be used yet; what will go is given up ahead.
        room = min(room, target_cpus // each.num_cpus)
    return min(max(room, config.least), config.most)


def positions(node_ids: Sequence[str]) -> list[Position]:
    """Say for each rank where it sits; ``node_ids[rank]`` is the node that it runs on."""
    sizes = Counter(node_ids)
    order = {node: index for index, node in enumerate(dict.fromkeys(node_ids))}
    seen: Counter[str] = Counter()
    found = []
    for rank, node in enumerate(node_ids):
        found.append(Position(rank, len(node_ids), seen[node], sizes[node], order[node]))
        seen[node] += 1
    return found


def shared_devices(visible: Sequence[Sequence[str]], nodes: Sequence[int]) -> list[str]:
    """``CUDA_VISIBLE_DEVICES`` of each rank: the devices of all ranks of its node, in their order.

    So rank with local rank ``n`` and one GPU finds its own at ``cuda:n``, as programs that were
    written for torchrun expect, and NCCL reaches its neighbours directly.
    """
    by_node: dict[int, list[str]] = {}
    for devices, node in zip(visible, nodes, strict=True):
        by_node.setdefault(node, []).extend(devices)
    return [",".join(dict.fromkeys(by_node[node])) for node in nodes]


def own_cpus(position: Position, cpus: int, usable: Sequence[int]) -> Sequence[int]:
    """CPUs that a rank of ``cpus`` CPUs has for itself, of those that it may use.

    None where the ranks of its machine leave some over: then others may be on those that would be
    chosen, while those that are left idle.
    """
    if not cpus or position.local_size < 2 or position.local_size * cpus != len(usable):
        return []
    return usable[position.local_rank * cpus : (position.local_rank + 1) * cpus]


def may_restart(lost: int, config: PyTorchScalingConfig) -> bool:
    """Whether a training that lost processes ``lost`` times starts again."""
    return lost <= config.max_failures


def _fill(nodes: Sequence[NodeSize]) -> Placement:
    gpus = sum(node.gpus for node in nodes)
    if gpus:
        with_gpus = [node for node in nodes if node.gpus]
        return Placement(gpus, min(node.cpus // node.gpus for node in with_gpus), 1)
    with_cpus = [node.cpus for node in nodes if node.cpus] or [1]
    return Placement(len(with_cpus), min(with_cpus), 0)


def _too_small(workers: int, cpus: int, gpus: int, nodes: Sequence[NodeSize]) -> ConfigurationError:
    have_cpus, have_gpus = sum(node.cpus for node in nodes), sum(node.gpus for node in nodes)
    each = " and ".join([*([_count(cpus, "CPU")] if cpus else []), *([_count(gpus, "GPU")] if gpus else [])])
    short = workers * gpus > have_gpus
    noun = "GPU" if short else "CPU"
    required, available = (workers * gpus, have_gpus) if short else (workers * cpus, have_cpus)
    message = (
        f"Training asks for {_count(workers, 'worker')} with {each} each, "
        f"{_count(required, noun)} in all; the runtime has {available}"
    )
    message += "." if available < required else " on nodes that do not fit that many workers."
    action = f"Grow it with  %resize {noun.lower()}s={required}  or ask for less in PyTorchScalingConfig."
    resize = {f"{noun.lower()}s": required}
    return ConfigurationError(message, action, required=required, available=available, resize=resize)


def _count(number: int, noun: str) -> str:
    return f"{number} {noun}" + ("" if number == 1 else "s")
