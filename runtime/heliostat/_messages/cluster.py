"""The Ray cluster behind a runtime: what it has, and the most it may have."""

from __future__ import annotations

from enum import StrEnum

from heliostat._messages.base import Message


class Provider(StrEnum):
    """Who owns the Ray cluster behind a runtime."""

    LOCAL = "local"
    """The supervisor booted it and takes it down."""
    ATTACHED = "attached"
    """It existed before and outlives the runtime."""


class BootMode(StrEnum):
    """How the local cluster was booted."""

    SLIM = "slim"
    STOCK = "stock"


class Resources(Message, frozen=True, kw_only=True):
    """Totals over all nodes of a runtime."""

    cpus: float
    gpus: float
    memory_bytes: int
    object_store_bytes: int
    nodes: int


class Limits(Message, frozen=True, kw_only=True):
    """The most that may be asked for on this machine."""

    cpus: int
    gpus: int
    memory_bytes: int
    object_store_bytes: int
    nodes: int


class Node(Message, frozen=True, kw_only=True):
    """One Ray node of a runtime."""

    node_id: str
    name: str
    head: bool
    state: str
    """``alive``, ``draining`` or ``dead``."""
    address: str
    cpus: float
    gpus: float
    memory_bytes: int
    object_store_bytes: int
    cpus_used: float | None = None
    gpus_used: float | None = None
