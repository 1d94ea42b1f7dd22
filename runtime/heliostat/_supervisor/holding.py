"""Say who holds the CPUs and GPUs that somebody waits for. Pure."""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Mapping

    from heliostat._cluster.control import ClusterView

_MOST_NAMED = 5


def describe_holders(view: ClusterView, names: Mapping[int, str]) -> list[str]:
    """Return ``["rank 0 (1 CPU)", "2 actors Counter (2 CPUs)", "tasks (1 CPU)"]``; the largest first.

    ``names`` has what processes are called, by pid, where they have a name of their own.
    """
    if not view.pending:
        return []
    held: dict[str, tuple[float, float]] = {}
    count: Counter[str] = Counter()
    for actor in view.actors:
        if actor.cpus or actor.gpus:
            who = names.get(actor.pid, f"actors {actor.class_name}")
            cpus, gpus = held.get(who, (0.0, 0.0))
            held[who] = cpus + actor.cpus, gpus + actor.gpus
            count[who] += 1
    rest = [
        max(view.used(name) - sum(amounts[index] for amounts in held.values()), 0.0)
        for index, name in enumerate(("CPU", "GPU"))
    ]
    said = {_who(who, count[who]): amounts for who, amounts in held.items()}
    if any(amount > 1e-3 for amount in rest):
        said["running tasks and reservations"] = rest[0], rest[1]
    ranked = sorted(said, key=lambda who: sum(said[who]), reverse=True)
    return [f"{who} ({_amounts(*said[who])})" for who in ranked[:_MOST_NAMED]]


def _who(who: str, count: int) -> str:
    if not who.startswith("actors "):
        return who
    return who.replace("actors", "actor", 1) if count == 1 else f"{count} {who}"


def _amounts(cpus: float, gpus: float) -> str:
    parts = [
        f"{amount:g} {name}" if amount == 1 else f"{amount:g} {name}s"
        for amount, name in ((round(cpus, 3), "CPU"), (round(gpus, 3), "GPU"))
        if amount
    ]
    return " and ".join(parts)
