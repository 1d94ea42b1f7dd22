"""Long work and ranks of the owner: what is told of them, and what is asked of them."""

from __future__ import annotations

from enum import StrEnum

import msgspec

from heliostat._messages.base import Message


class WorkState(StrEnum):
    """What became of a piece of long work."""

    RUNNING = "running"
    DONE = "done"
    FAILED = "failed"
    CANCELLED = "cancelled"


class WorkWorker(Message, frozen=True, kw_only=True):
    """One process that does a piece of work. ``None``: not known."""

    rank: int
    pid: int | None = None
    node: str | None = None
    rows: int | None = None
    memory_bytes: int | None = None
    message: str = ""


class Work(Message, frozen=True, kw_only=True):
    """A piece of long work of the owner: a training, a distributed cell, a query."""

    task_id: str
    kind: str
    name: str
    unit: str
    """What ``done`` and ``total`` count, such as ``rounds``."""
    state: WorkState
    started_at: float
    updated_at: float
    ended_at: float | None = None
    done: float = 0.0
    total: float | None = None
    metrics: dict[str, float] = msgspec.field(default_factory=dict)
    """The latest value of each metric."""
    workers: list[WorkWorker] = msgspec.field(default_factory=list)
    message: str = ""
    log_path: str | None = None
    cell_id: str | None = None
    """The cell that began it, where one did."""
    pid: int | None = None
    """The process that does it: the owner, or a script that the owner started."""
    cancel_requested: bool = False


class Rank(Message, frozen=True, kw_only=True):
    """One of the processes behind ``%%distribute``."""

    rank: int
    state: str
    """``starting``, ``idle``, ``busy`` or ``dead``."""
    pid: int | None = None
    node: str | None = None
    """Id of its Ray node."""
    doing: str = ""
    """First line of the cell that it runs; empty if it runs none."""
    stop_requested: bool = False


class WorkReport(Message, frozen=True, kw_only=True):
    """Body of ``POST /v1/tasks``: pieces of work that are new or have changed."""

    work: list[Work] = msgspec.field(default_factory=list)
    ranks: list[Rank] | None = None
    """All ranks that there are; ``None``: as in the report before."""
    by_owner: bool = True
    """Whether the owner of the runtime sends it, or a script that it started, which has no ranks."""


class WorkOrders(Message, frozen=True, kw_only=True):
    """Answer of ``POST /v1/tasks``: what somebody wants of the owner's work."""

    cancel: list[str]
    """Ids of pieces that shall stop."""
    stop_ranks: list[int] = msgspec.field(default_factory=list)
    """Ranks that shall stop what they run."""


class WorkChoice(Message, frozen=True, kw_only=True):
    """Body of ``POST /v1/tasks/cancel``."""

    task_id: str


class RankChoice(Message, frozen=True, kw_only=True):
    """Body of ``POST /v1/ranks/stop``."""

    rank: int
