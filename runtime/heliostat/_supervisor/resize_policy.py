"""What a resize means, decided without doing it.

``plan`` says what would happen, ``decide`` says what to do next on the way there. Both are pure:
the same cluster and the same totals give the same answer, so the preview and the real thing
cannot differ. ``wishes`` makes exact totals of what a user asks for.

The CPUs of a runtime are those of its head and one for each further node. Further nodes share
the machine; they exist where something must see a node.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from heliostat._messages.resizing import Losses, ResizeChange, ResizePlan
from heliostat._units import format_bytes

if TYPE_CHECKING:
    from heliostat._cluster.control import ClusterView, NodeView
    from heliostat._messages.cluster import Resources

SECONDS_BEFORE_PARKING = 1.0
"""A queue that leaves no CPU free for this long will not do so by itself."""
NODE_SECONDS = 0.2


@dataclass(frozen=True)
class HeadTotals:
    """Totals that the head's raylet should have."""

    cpus: float
    memory_bytes: int


def head_totals(wanted: Resources, view: ClusterView) -> HeadTotals:
    """What is left for the head when the other nodes have theirs."""
    others = [node for node in view.nodes if not node.head and node.state == "alive"]
    others_memory = sum(node.total.get("memory", 0.0) for node in others)
    return HeadTotals(
        cpus=max(1.0, wanted.cpus - (wanted.nodes - 1)),
        memory_bytes=int(max(0.0, wanted.memory_bytes - others_memory)),
    )


def nodes_to_drain(view: ClusterView, wanted: Resources) -> list[NodeView]:
    """Nodes that are too many: those first that hold the least."""
    others = [node for node in view.nodes if not node.head and node.state == "alive"]
    surplus = len(others) - (wanted.nodes - 1)
    idle_first = sorted(others, key=lambda node: (node.used("CPU"), node.used("object_store_memory")))
    return idle_first[: max(0, surplus)]


def plan(view: ClusterView, wanted: Resources, actors: dict[str, int] | None) -> ResizePlan:
    """Say what reaching ``wanted`` takes. ``actors``: living actors by node, if known."""
    current = view.resources()
    changes: list[ResizeChange] = []
    drained = nodes_to_drain(view, wanted)
    changes += [_change("drain_node", 1, node.node_id, f"drains node {node.node_id[:8]}") for node in drained]
    added = wanted.nodes - 1 - sum(not n.head and n.state == "alive" for n in view.nodes)
    if added > 0:
        text = f"adds {_count(added, 'node')} of 1 CPU on this machine"
        changes.append(_change("add_node", added, None, text))
    changes += _head_changes(view, wanted)
    changes += _gpu_changes(current, wanted)
    waits = _waits(view, wanted, drained)
    return ResizePlan(
        current=current,
        target=wanted,
        changes=changes,
        losses=_losses(drained, actors),
        waits_for=waits,
        warnings=_warnings(view, wanted),
        estimated_seconds=NODE_SECONDS * (1 + max(0, added) + len(drained)) if changes else 0.0,
        command=command(current, wanted),
    )


def command(current: Resources, wanted: Resources) -> str:
    """Write the magic that makes this change."""
    parts = []
    if wanted.cpus != current.cpus:
        parts.append(f"cpus={wanted.cpus:g}")
    if wanted.gpus != current.gpus:
        parts.append(f"gpus={wanted.gpus:g}")
    if wanted.memory_bytes != current.memory_bytes:
        parts.append(f"memory={wanted.memory_bytes}")
    if wanted.nodes != current.nodes:
        parts.append(f"nodes={wanted.nodes}")
    return " ".join(["%resize", *parts])


def _count(number: float, noun: str) -> str:
    return f"{number:g} {noun}" + ("" if number == 1 else "s")


def _change(kind: str, amount: float, node: str | None, text: str) -> ResizeChange:
    return ResizeChange(kind=kind, amount=amount, node=node, text=text)


def _head_changes(view: ClusterView, wanted: Resources) -> list[ResizeChange]:
    head, totals = view.head, head_totals(wanted, view)
    effective = head.total.get("CPU", 0.0) - view.parked.get("CPU", 0.0)
    changes = []
    if totals.cpus > effective:
        amount = totals.cpus - effective
        changes.append(_change("grow_cpus", amount, head.node_id, f"adds {_count(amount, 'CPU')}"))
    elif totals.cpus < effective:
        amount = effective - totals.cpus
        changes.append(_change("shrink_cpus", amount, head.node_id, f"takes away {_count(amount, 'CPU')}"))
    memory = int(head.total.get("memory", 0.0))
    if totals.memory_bytes != memory:
        kind, verb = (
            ("grow_memory", "raises") if totals.memory_bytes > memory else ("shrink_memory", "lowers")
        )
        text = f"{verb} memory from {format_bytes(memory)} to {format_bytes(totals.memory_bytes)}"
        changes.append(_change(kind, abs(totals.memory_bytes - memory), head.node_id, text))
    return changes


def _gpu_changes(current: Resources, wanted: Resources) -> list[ResizeChange]:
    amount = wanted.gpus - current.gpus
    if amount > 0:
        return [_change("unpark_gpus", amount, None, f"adds {_count(amount, 'GPU')}")]
    if amount < 0:
        return [_change("park_gpus", -amount, None, f"takes away {_count(-amount, 'GPU')}")]
    return []


def _waits(view: ClusterView, wanted: Resources, drained: list[NodeView]) -> list[str]:
    waits = []
    totals = head_totals(wanted, view)
    busy = view.head.used("CPU") - view.parked.get("CPU", 0.0)
    if busy > totals.cpus:
        waits.append(f"{_count(busy - totals.cpus, 'CPU')} in use on the head to become free")
    held = view.head.used("memory")
    if held > totals.memory_bytes:
        waits.append(f"{format_bytes(int(held - totals.memory_bytes))} of reserved memory to be given back")
    gpus_used = view.used("GPU")
    if gpus_used > wanted.gpus:
        waits.append(f"{_count(gpus_used - wanted.gpus, 'GPU')} in use to become free")
    waits += [
        f"work on node {node.node_id[:8]} to end ({_count(node.used('CPU'), 'CPU')} in use)"
        for node in drained
        if node.used("CPU") > 0
    ]
    return waits


def _losses(drained: list[NodeView], actors: dict[str, int] | None) -> Losses:
    stored = sum(int(node.used("object_store_memory")) for node in drained)
    lost = None if actors is None else sum(actors.get(node.node_id, 0) for node in drained)
    return Losses(actors=lost, running_tasks=0, object_bytes=stored)


def _warnings(view: ClusterView, wanted: Resources) -> list[str]:
    if wanted.nodes > view.resources().nodes:
        return ["Nodes added here share this machine: they add places for work, not computing power."]
    return []


@dataclass(frozen=True)
class Actions:
    """What to do now on the way to a size, and what is being waited for."""

    head: dict[str, float] | None = None
    """New totals to ask the head's raylet for, by Ray's names."""
    add_nodes: int = 0
    drain: tuple[str, ...] = ()
    kill: tuple[str, ...] = ()
    park_cpus: int = 0
    """How many CPUs parking actors should hold from now on."""
    park_gpus: int = 0
    waiting_for: tuple[str, ...] = ()
    reached: bool = False


@dataclass(frozen=True)
class Progress:
    """What the controller knows beside the cluster itself."""

    elapsed: float
    """Seconds since the resize began."""
    gpus_installed: int
    drain_deadline: float
    """Seconds after which a drained node is ended with what it still holds."""
    force: bool = False
    in_place: bool = True
    """Whether raylets can be resized while they run."""


def decide(view: ClusterView, wanted: Resources, progress: Progress) -> Actions:
    """Say what to do next. Called again and again until ``reached``."""
    drained = nodes_to_drain(view, wanted)
    draining = [node for node in view.nodes if node.state == "draining"]
    overdue = progress.force or progress.elapsed > progress.drain_deadline
    missing = wanted.nodes - 1 - sum(not n.head and n.state == "alive" for n in view.nodes)
    head, parked_cpus, head_reached = _decide_head(view, wanted, progress)
    gpus_reached = view.total("GPU") == wanted.gpus
    reached = head_reached and gpus_reached and not drained and not draining and missing <= 0
    return Actions(
        head=head,
        add_nodes=max(0, missing),
        drain=tuple(node.node_id for node in drained),
        kill=tuple(node.node_id for node in draining) if overdue else (),
        park_cpus=parked_cpus,
        park_gpus=max(0, progress.gpus_installed - int(wanted.gpus)),
        waiting_for=() if reached else tuple(_waits(view, wanted, [*drained, *draining])),
        reached=reached,
    )


def _decide_head(
    view: ClusterView, wanted: Resources, progress: Progress
) -> tuple[dict[str, float] | None, int, bool]:
    """Totals to ask for, CPUs to hold parked, and whether the head is as wanted.

    A total cannot fall below what is given out, and a queue takes each CPU again the moment it
    is free. Parking actors win there: they queue like any task, and keep what they are given.
    What they hold is turned into a true shrink once a CPU stays free.
    """
    if not progress.in_place:
        return None, 0, True
    totals, head = head_totals(wanted, view), view.head
    raw, parked = head.total.get("CPU", 0.0), view.parked.get("CPU", 0.0)
    free = head.available.get("CPU", 0.0)
    memory = int(head.total.get("memory", 0.0))
    ask: dict[str, float] = {}
    if memory != totals.memory_bytes:
        ask["memory"] = totals.memory_bytes
    hold = int(parked)
    if raw < totals.cpus:
        ask["CPU"], hold = totals.cpus, 0
    elif raw > totals.cpus:
        if free > 0:
            ask["CPU"] = max(totals.cpus, raw - free)
        surplus = raw - min(free, raw - totals.cpus) - totals.cpus
        hold = int(surplus) if progress.elapsed > SECONDS_BEFORE_PARKING or parked else 0
        if progress.force:
            hold = int(surplus)
    else:
        hold = 0
    reached = raw - parked == totals.cpus and memory == totals.memory_bytes
    return (ask or None), hold, reached
