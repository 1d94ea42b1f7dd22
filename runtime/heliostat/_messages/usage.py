"""What is used: by the machine, its processes and GPUs, by Ray, by each cell."""

from __future__ import annotations

import msgspec

from heliostat._messages.base import Message


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
    holders: list[str] = msgspec.field(default_factory=list)
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
