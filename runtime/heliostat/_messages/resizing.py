"""Changing the size of a runtime: the wish, the plan, the operation."""

from __future__ import annotations

from enum import StrEnum

from heliostat._messages.base import Message
from heliostat._messages.cluster import Resources


class ResizeTarget(Message, frozen=True, kw_only=True):
    """A wish: the totals that a runtime should have. ``None`` leaves a total as it is."""

    cpus: int | None = None
    gpus: int | None = None
    memory_bytes: int | None = None
    object_store_bytes: int | None = None
    nodes: int | None = None


class ResizeChange(Message, frozen=True, kw_only=True):
    """One change of a plan, in order of execution."""

    kind: str
    """``grow_cpus shrink_cpus grow_memory shrink_memory add_node drain_node park_gpus unpark_gpus``."""
    amount: float
    node: str | None
    text: str


class Losses(Message, frozen=True, kw_only=True):
    """What a plan takes away from work that is there now. ``None``: not known."""

    actors: int | None = None
    running_tasks: int | None = None
    object_bytes: int | None = None


class ResizePlan(Message, frozen=True, kw_only=True):
    """What a resize would do. Nothing has been changed when a plan is returned."""

    current: Resources
    target: Resources
    changes: list[ResizeChange]
    losses: Losses
    waits_for: list[str]
    """Sentences: what has to end before the plan can be completed."""
    warnings: list[str]
    estimated_seconds: float
    command: str
    """The line of code that does the same."""

    @property
    def empty(self) -> bool:
        """Whether the runtime already is what was asked for."""
        return not self.changes


class ResizeState(StrEnum):
    """Progress of a resize."""

    RUNNING = "running"
    WAITING = "waiting"
    DONE = "done"
    ROLLED_BACK = "rolled_back"
    CANCELLED = "cancelled"
    FAILED = "failed"

    @property
    def finished(self) -> bool:
        """Whether nothing more will happen."""
        return self not in (ResizeState.RUNNING, ResizeState.WAITING)


class ResizeRequest(Message, frozen=True, kw_only=True):
    """Body of ``POST /v1/resize``."""

    target: ResizeTarget
    rollback_after_seconds: float = 720.0
    force: bool = False
    """Shrink at once, ending what is in the way, instead of draining."""


class ResizeOperation(Message, frozen=True, kw_only=True):
    """A resize that was asked for."""

    operation_id: str
    state: ResizeState
    plan: ResizePlan
    started_at: float
    ended_at: float | None
    current: Resources
    waiting_for: list[str]
    message: str
