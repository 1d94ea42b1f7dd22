"""Decides how many ranks there are, where, and what each of them reserves. Pure."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

from heliostat.exceptions import ConfigurationError

if TYPE_CHECKING:
    from collections.abc import Sequence

__all__ = ["GroupPlan", "NodeRoom", "Wish", "plan"]

MOST_RANKS = 1024


@dataclass(frozen=True)
class NodeRoom:
    """What a node has in all."""

    node_id: str
    cpus: float
    gpus: float


@dataclass(frozen=True)
class Wish:
    """What was asked for. ``None``: as suits the runtime. CPUs, GPUs and bytes are for each rank."""

    ranks: int | None = None
    cpus: float | None = None
    gpus: float | None = None
    memory_bytes: int | None = None


@dataclass(frozen=True)
class GroupPlan:
    """What will be started."""

    nodes: tuple[str, ...]
    """Where each rank goes, where nothing is reserved; else Ray finds a place."""
    count: int
    reserved: tuple[tuple[str, float], ...]
    """Resources of each rank; empty: it shares what is there with everything else."""
    threads: int


def plan(nodes: Sequence[NodeRoom], wish: Wish) -> GroupPlan:
    """Make as many ranks as there are GPUs, or else CPUs, unless told otherwise.

    Each rank reserves its GPU. CPUs are shared, unless they are asked for: a group lives as long
    as the notebook, and would keep every training and task of the same notebook waiting.

    Raises
    ------
    ConfigurationError
        The runtime is too small for it, whatever else runs.
    """
    total_cpus, total_gpus = sum(node.cpus for node in nodes), sum(node.gpus for node in nodes)
    if wish.ranks is not None and not 1 <= wish.ranks <= MOST_RANKS:
        message = f"{wish.ranks} is not a number of ranks."
        raise ConfigurationError(message, f"Give 1 to {MOST_RANKS}.")
    count = wish.ranks or _natural_count(total_cpus, total_gpus, wish)
    gpus = wish.gpus
    if gpus is None:
        gpus = 1.0 if total_gpus and count <= total_gpus else 0.0
    for name, each, total in (("cpus", wish.cpus or 0, total_cpus), ("gpus", gpus, total_gpus)):
        if each * count > total + 1e-6:
            what = f"{count} ranks with {each:g} {name.upper()[:-1]}s each need {each * count:g}"
            message = f"{what}; the runtime has {total:g}."
            action = f"Ask for fewer ranks, or grow it with %resize {name}={math.ceil(each * count)}."
            raise ConfigurationError(message, action, required=each * count, available=total)
    reserved = {"GPU": gpus, "CPU": wish.cpus or 0.0, "memory": float(wish.memory_bytes or 0)}
    where = _spread(nodes, count, by_gpu=gpus > 0)
    share = max(1, int(total_cpus // count)) if not wish.cpus else max(1, int(wish.cpus))
    return GroupPlan(
        where, count, tuple((name, amount) for name, amount in reserved.items() if amount), share
    )


def _natural_count(cpus: float, gpus: float, wish: Wish) -> int:
    if wish.gpus:
        return max(1, int(gpus // wish.gpus))
    if gpus and wish.gpus is None:
        return max(1, int(gpus))
    return max(1, int(cpus // (wish.cpus or 1)))


def _spread(nodes: Sequence[NodeRoom], count: int, *, by_gpu: bool) -> tuple[str, ...]:
    """Fill node after node in proportion to what it has; neighbours in rank share a node."""
    room = [(node.node_id, max(node.gpus if by_gpu else node.cpus, 0.0)) for node in nodes]
    total = sum(size for _, size in room) or 1.0
    placed: list[str] = []
    passed = 0.0
    for node_id, size in room:
        passed += size
        placed += [node_id] * (round(count * passed / total) - len(placed))
    return tuple([*placed, *[room[-1][0]] * (count - len(placed))][:count]) if room else ()
