"""Room for ranks: what the nodes have, and what a group reserves of it."""

from __future__ import annotations

import os
import sys
import time
from typing import Any

from heliostat._ranks._facts import RankFacts
from heliostat._ranks._plan import GroupPlan, NodeRoom
from heliostat.exceptions import ConfigurationError

__all__ = ["facts", "options_for", "reserve", "rooms"]

_POLL_SECONDS = 0.1


def rooms() -> list[NodeRoom]:
    """What each node of the runtime of this process has; the runtime is started if it must be."""
    import ray

    from heliostat import _handle

    known = {node.node_id: node for node in _handle.init().nodes()}
    order = list(known)
    # Ray's list of nodes does not follow a resize in place; the runtime's own does.
    return [
        NodeRoom(node["NodeID"], known[node["NodeID"]].cpus, known[node["NodeID"]].gpus)
        if node["NodeID"] in known
        else NodeRoom(node["NodeID"], node["Resources"].get("CPU", 0), node["Resources"].get("GPU", 0))
        # Nor has it an order; with the head first, rank 0 is on the notebook's machine.
        for node in sorted(
            ray.nodes(),
            key=lambda each: order.index(each["NodeID"]) if each["NodeID"] in known else len(order),
        )
        if node["Alive"]
    ]


def facts(threads: int) -> RankFacts:
    """What ranks have in common with the notebook."""
    own = tuple(entry for entry in sys.path if entry and not entry.startswith(sys.prefix))
    return RankFacts(os.getcwd(), own, threads)  # noqa: PTH109 - a plain string travels


def reserve(plan: GroupPlan, timeout: float) -> Any:
    """Return a placement group with a place for each rank; ``None`` where the plan reserves nothing.

    Raises
    ------
    ConfigurationError
        What is needed stayed in use.
    """
    if not plan.reserved:
        return None
    import ray
    from ray.util.placement_group import placement_group

    reservation = placement_group([dict(plan.reserved)] * plan.count, strategy="PACK")
    deadline = time.monotonic() + timeout
    try:
        while not (ready := reservation.wait(_POLL_SECONDS)) and time.monotonic() < deadline:
            pass
        if ready:
            return reservation
        free = ray.available_resources()
    except BaseException:
        _give_back(reservation)
        raise
    _give_back(reservation)
    raise _in_use(plan, free, timeout)


def _give_back(reservation: Any) -> None:
    from heliostat._cluster.cleanup import remove_reservation

    remove_reservation(reservation)


def _in_use(plan: GroupPlan, free: dict[str, float], timeout: float) -> ConfigurationError:
    wants = ", ".join(
        f"{amount * plan.count:g} {name} ({free.get(name, 0):g} free)" for name, amount in plan.reserved
    )
    message = f"{plan.count} ranks need {wants}; the rest stayed in use for {timeout:g} s."
    return ConfigurationError(message, "End what uses it, ask for fewer, or grow with %resize.")


def options_for(plan: GroupPlan, reservation: Any, slot: int, node: str | None) -> dict[str, Any]:
    """Options of the actor in a place: what it takes, and on which node it starts; ``None`` for any."""
    if reservation is not None:
        from ray.util.scheduling_strategies import PlacementGroupSchedulingStrategy

        taken = dict(plan.reserved)
        options: dict[str, Any] = {"num_cpus": taken.get("CPU", 0), "num_gpus": taken.get("GPU", 0)}
        if "memory" in taken:
            options["memory"] = int(taken["memory"])
        options["scheduling_strategy"] = PlacementGroupSchedulingStrategy(reservation, slot)
        return options
    options = {"num_cpus": 0, "num_gpus": 0}
    if node is not None:
        from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

        # Ray does not heed a soft wish of an actor that takes nothing.
        options["scheduling_strategy"] = NodeAffinitySchedulingStrategy(node, soft=False)
    return options
