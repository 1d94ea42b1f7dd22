"""Every typed message between the parts of Heliostat, defined once.

The supervisor serves these as JSON on its Unix socket; the kernel, the magics and the
Jupyter server extension decode them with the same classes; the TypeScript types of the
lab extension and the OpenAPI document are generated from them (``make types``).

Conventions: times are Unix seconds, sizes are bytes, durations are seconds. An unknown
value is ``None``, never zero. Every struct is frozen and refuses unknown fields, so a
malformed message is an error at the border and not a surprise later.
"""

from __future__ import annotations

from enum import StrEnum
from typing import Any

import msgspec

API_VERSION = "v1"
"""First path segment of every supervisor URL; raised when a message changes shape."""


class RuntimeState(StrEnum):
    """What a runtime is doing.

    ``starting -> ready -> resizing -> ready``; ``degraded`` works with less than it should
    (a node was lost); ``stopping -> stopped``; ``failed`` keeps its reason until a restart.
    """

    STARTING = "starting"
    READY = "ready"
    RESIZING = "resizing"
    DEGRADED = "degraded"
    STOPPING = "stopping"
    STOPPED = "stopped"
    FAILED = "failed"

    @property
    def usable(self) -> bool:
        """Whether work can be submitted in this state."""
        return self in (RuntimeState.READY, RuntimeState.RESIZING, RuntimeState.DEGRADED)

    @property
    def settled(self) -> bool:
        """Whether the state stays as it is until somebody asks for a change."""
        return self not in (RuntimeState.STARTING, RuntimeState.STOPPING, RuntimeState.RESIZING)


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


class Message(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """Base of all messages: immutable, strict, keyword-only."""


class Step(Message, frozen=True, kw_only=True):
    """One finished step of a boot."""

    name: str
    at: float
    elapsed: float
    """Seconds since the boot began."""


class Transition(Message, frozen=True, kw_only=True):
    """One change of state, with its reason in a sentence."""

    state: RuntimeState
    at: float
    reason: str


class Owner(Message, frozen=True, kw_only=True):
    """The process that a runtime belongs to; the runtime ends when it does."""

    pid: int
    started_at: float
    """Start time of the process: a pid alone may be reused."""
    kernel_id: str | None = None
    """Jupyter's id of the kernel, where the owner is one."""


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


class Failure(Message, frozen=True, kw_only=True):
    """Why a runtime failed, and what to do."""

    what: str
    action: str
    log_tail: list[str] = []
    error: str = "BootError"
    """Name of the exception class in ``heliostat.exceptions``."""


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


class RestartRequest(Message, frozen=True, kw_only=True):
    """Body of ``POST /v1/runtime/restart``."""

    target: ResizeTarget = ResizeTarget()
    """Sizes to boot with; what is ``None`` stays as it was."""
    check_only: bool = False
    """Say whether it could be done, and do nothing."""


class RuntimeStatus(Message, frozen=True, kw_only=True):
    """Everything about a runtime that changes seldom. ``version`` grows with each change."""

    runtime_id: str
    version: int
    state: RuntimeState
    reason: str
    since: float
    started_at: float
    provider: Provider
    boot_mode: BootMode | None
    owner: Owner
    supervisor_pid: int
    steps: list[Step]
    transitions: list[Transition]
    address: str | None
    """Ray's ``host:port``; ``None`` until it is up."""
    token_path: str | None
    """File (mode 0600) with the token that Ray asks for."""
    session_dir: str
    log_dir: str
    resources: Resources | None
    limits: Limits | None
    failure: Failure | None
    resize: ResizeOperation | None
    """The latest resize, running or ended."""


class HostUse(Message, frozen=True, kw_only=True):
    """What the machine (or the container that limits us) uses."""

    cpu_percent: float
    """0..100 x CPUs usable here."""
    cpus: float
    """CPUs usable here: cgroup quota and affinity counted in."""
    memory_used_bytes: int
    memory_limit_bytes: int
    """What kills us when it is reached: the cgroup's limit or the machine's memory."""
    shm_used_bytes: int | None
    shm_limit_bytes: int | None
    disk_used_bytes: int | None
    disk_limit_bytes: int | None
    """The disk that Ray spills to."""


class ProcessUse(Message, frozen=True, kw_only=True):
    """One process, or a tree of them summed up."""

    pid: int
    name: str
    role: str
    """``owner``, ``supervisor``, ``ray`` or ``worker``."""
    cpu_seconds: float
    cpu_percent: float | None
    memory_bytes: int
    """Resident memory less what is shared with others."""


class GpuProcess(Message, frozen=True, kw_only=True):
    """A process on a GPU."""

    pid: int
    memory_bytes: int | None
    role: str | None
    """Role in this runtime; ``None`` for somebody else's process."""
    name: str | None
    kernel_id: str | None = None
    """Kernel whose runtime it belongs to, where that is another one of this user."""


class Gpu(Message, frozen=True, kw_only=True):
    """One GPU or MIG slice as NVML sees it."""

    index: int
    uuid: str
    name: str
    mig: bool
    utilization_percent: float | None
    memory_used_bytes: int | None
    memory_limit_bytes: int | None
    temperature_celsius: float | None
    power_watts: float | None
    power_limit_watts: float | None
    processes: list[GpuProcess] | None
    """``None``: the driver does not say who is on it."""


class RayUse(Message, frozen=True, kw_only=True):
    """What Ray has given out."""

    cpus: float
    cpus_used: float
    gpus: float
    gpus_used: float
    memory_bytes: int
    memory_used_bytes: int
    object_store_bytes: int
    object_store_used_bytes: int
    pending: list[str]
    """Demands that wait for resources, in words."""
    holders: list[str] = []
    """Who holds CPUs and GPUs while something waits for them, in words."""


class Sample(Message, frozen=True, kw_only=True):
    """One reading of everything, taken at ``at``."""

    at: float
    host: HostUse
    processes: list[ProcessUse]
    gpus: list[Gpu] | None
    """``None``: no NVML here. ``[]``: NVML sees no GPU."""
    ray: RayUse | None
    """``None`` while Ray is not up."""


class DriverEvent(Message, frozen=True, kw_only=True):
    """Body of ``POST /v1/driver``: the owner holds a connection to Ray, or holds none any more."""

    connected: bool


class CellEvent(Message, frozen=True, kw_only=True):
    """Body of ``POST /v1/cells``: a cell began or ended."""

    cell_id: str
    phase: str
    """``start`` or ``end``."""
    at: float


class CellAccount(Message, frozen=True, kw_only=True):
    """What a cell used, the kernel and Ray's workers together."""

    cell_id: str
    started_at: float
    ended_at: float | None
    cpu_seconds: float
    gpu_seconds: float | None
    peak_memory_bytes: int | None
    peak_gpu_memory_bytes: int | None


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
    metrics: dict[str, float] = {}
    """The latest value of each metric."""
    workers: list[WorkWorker] = []
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

    work: list[Work] = []
    ranks: list[Rank] | None = None
    """All ranks that there are; ``None``: as in the report before."""
    by_owner: bool = True
    """Whether the owner of the runtime sends it, or a script that it started, which has no ranks."""


class WorkOrders(Message, frozen=True, kw_only=True):
    """Answer of ``POST /v1/tasks``: what somebody wants of the owner's work."""

    cancel: list[str]
    """Ids of pieces that shall stop."""
    stop_ranks: list[int] = []
    """Ranks that shall stop what they run."""


class WorkChoice(Message, frozen=True, kw_only=True):
    """Body of ``POST /v1/tasks/cancel``."""

    task_id: str


class RankChoice(Message, frozen=True, kw_only=True):
    """Body of ``POST /v1/ranks/stop``."""

    rank: int


class Manifest(Message, frozen=True, kw_only=True):
    """File that tells others about a runtime, and the next start what to clean."""

    runtime_id: str
    version: int
    owner: Owner
    supervisor: Owner
    socket: str
    directory: str
    provider: Provider
    created_at: float
    machine: str
    """Where the pids mean something: host, boot and pid namespace."""


class ErrorBody(Message, frozen=True, kw_only=True):
    """Every answer of the supervisor with a status of 400 or more."""

    error: str
    """Name of the exception class in ``heliostat.exceptions``."""
    message: str
    action: str = ""
    fields: dict[str, Any] = {}


PUBLIC_MESSAGES: tuple[type[Message], ...] = (
    CellAccount,
    CellEvent,
    DriverEvent,
    ErrorBody,
    Manifest,
    Node,
    Rank,
    RankChoice,
    ResizeOperation,
    ResizePlan,
    ResizeRequest,
    ResizeTarget,
    RestartRequest,
    RuntimeStatus,
    Sample,
    Work,
    WorkChoice,
    WorkOrders,
    WorkReport,
)
"""Roots from which schemas and TypeScript types are generated."""
