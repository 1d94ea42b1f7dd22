"""Turn a wish for a size into exact totals, or refuse it before anything is changed. Pure."""

from __future__ import annotations

from typing import TYPE_CHECKING

import msgspec

from heliostat._messages.cluster import Limits, Resources
from heliostat._units import format_bytes
from heliostat.exceptions import ResizeError

if TYPE_CHECKING:
    from heliostat._cluster.control import ClusterView
    from heliostat._messages.resizing import ResizeTarget

SMALLEST_MEMORY = 64 << 20
"""Bytes: less than this cannot hold a worker."""


def complete(current: Resources, target: ResizeTarget, limits: Limits) -> Resources:
    """Turn a wish into exact totals.

    Raises
    ------
    ResizeError
        It cannot be had here; ``required`` and ``available`` say why. Nothing was changed.
    """
    _check_range("nodes", target.nodes, 1, limits.nodes)
    _check_range("CPUs", target.cpus, 1, max(limits.cpus + limits.nodes, target.cpus or 0))
    _check_range("GPUs", target.gpus, 0, limits.gpus)
    _check_bytes("memory", target.memory_bytes, limits.memory_bytes)
    _check_bytes("object store memory", target.object_store_bytes, limits.object_store_bytes)
    nodes = current.nodes if target.nodes is None else target.nodes
    cpus = target.cpus
    if cpus is None:
        cpus = max(nodes, int(current.cpus) + nodes - current.nodes)
    _check_cpus(cpus, nodes, limits)
    return Resources(
        cpus=cpus,
        gpus=current.gpus if target.gpus is None else target.gpus,
        memory_bytes=_or_default(target.memory_bytes, current.memory_bytes),
        object_store_bytes=_or_default(target.object_store_bytes, current.object_store_bytes),
        nodes=nodes,
    )


def refuse_object_store_change(current: Resources, target: ResizeTarget) -> None:
    """Ray maps the object store once, at boot; a running one keeps its size."""
    asked = target.object_store_bytes
    if asked is not None and asked != current.object_store_bytes:
        message = "Ray cannot change the size of a running object store."
        action = f"Boot with the new size: %runtime restart --object-store-memory {asked}."
        raise ResizeError(message, action, required=asked, available=current.object_store_bytes)


def _or_default(value: int | None, default: int) -> int:
    return default if value is None else value


def _check_range(what: str, value: int | None, least: int, most: int) -> None:
    if value is None or least <= value <= most:
        return
    if value < least:
        message = f"{value} {what} cannot be had: the least is {least}."
        raise ResizeError(message, f"Ask for {least} or more.", required=value, available=most)
    message = f"{value} {what} were asked for and this machine has {most}."
    action = f"Ask for at most {most}." if most > least else f"Leave {what} out."
    raise ResizeError(message, action, required=value, available=most)


def _check_bytes(what: str, value: int | None, most: int) -> None:
    if value is None:
        return
    if value < SMALLEST_MEMORY:
        message = (
            f"{format_bytes(value)} of {what} is too little: the least is {format_bytes(SMALLEST_MEMORY)}."
        )
        raise ResizeError(message, "Sizes are bytes or text such as 4GiB.", required=value, available=most)
    if value > most:
        message = f"{format_bytes(value)} of {what} was asked for and {format_bytes(most)} can be had here."
        raise ResizeError(message, f"Ask for at most {format_bytes(most)}.", required=value, available=most)


def _check_cpus(cpus: int, nodes: int, limits: Limits) -> None:
    if cpus < nodes:
        message = f"{cpus} CPUs cannot be spread over {nodes} nodes: each needs one."
        raise ResizeError(message, f"Ask for at least {nodes} CPUs.", required=nodes, available=cpus)
    head = cpus - (nodes - 1)
    if head > limits.cpus:
        message = f"{cpus} CPUs were asked for and this machine has {limits.cpus}."
        action = (
            f"Ask for at most {limits.cpus + nodes - 1}, or set HELIOSTAT_MAX_CPUS to share CPUs among tasks."
        )
        raise ResizeError(message, action, required=cpus, available=limits.cpus)


def without_in_place(view: ClusterView, target: ResizeTarget) -> ResizeTarget:
    """Say the wish in nodes, for a Ray whose raylets keep the size they were started with.

    Raises
    ------
    ResizeError
        It cannot be had by adding and draining nodes of one CPU.
    """
    head = int(view.head.total.get("CPU", 0.0))
    action = "This Ray cannot resize a running node: use %runtime restart with the size you want."
    if target.memory_bytes is not None:
        message = "The memory of a running runtime cannot be changed."
        raise ResizeError(message, action, required=target.memory_bytes)
    if target.cpus is None:
        return target
    nodes = 1 + target.cpus - head
    if nodes < 1 or target.nodes not in (None, nodes):
        message = (
            f"{target.cpus} CPUs cannot be had: the head keeps its {head}, and each further node has one."
        )
        raise ResizeError(message, action, required=target.cpus, available=head)
    return msgspec.structs.replace(target, nodes=nodes)
