"""A runtime and its owner: state, status, manifest."""

from __future__ import annotations

from enum import StrEnum

import msgspec

from heliostat._messages.base import Message
from heliostat._messages.cluster import BootMode, Limits, Provider, Resources
from heliostat._messages.resizing import ResizeOperation, ResizeTarget


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


class Failure(Message, frozen=True, kw_only=True):
    """Why a runtime failed, and what to do."""

    what: str
    action: str
    log_tail: list[str] = msgspec.field(default_factory=list)
    error: str = "BootError"
    """Name of the exception class in ``heliostat.exceptions``."""


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


class RestartRequest(Message, frozen=True, kw_only=True):
    """Body of ``POST /v1/runtime/restart``."""

    target: ResizeTarget = ResizeTarget()
    """Sizes to boot with; what is ``None`` stays as it was."""
    check_only: bool = False
    """Say whether it could be done, and do nothing."""


class DriverEvent(Message, frozen=True, kw_only=True):
    """Body of ``POST /v1/driver``: the owner holds a connection to Ray, or holds none any more."""

    connected: bool


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
