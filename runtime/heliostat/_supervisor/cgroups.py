"""Control groups, version 1 and 2: the limits that a container or a batch system sets on us.

A limit may sit on any level above a process, and a container may see its own group as the root
of the hierarchy, so every reader here walks from the process's group up to the mount.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator


@dataclass(frozen=True, slots=True)
class Roots:
    """Where the kernel shows its figures; tests lay out their own files."""

    proc: Path = Path("/proc")
    cgroup: Path = Path("/sys/fs/cgroup")
    shm: Path = Path("/dev/shm")  # noqa: S108 - the shared memory of the machine, not a scratch file


MACHINE = Roots()
"""The machine that we run on."""


@dataclass(frozen=True, slots=True)
class CpuQuota:
    """CPUs that a group may use, and the CPU-seconds that it has used so far, if it says."""

    cpus: float
    used_seconds: float | None


@dataclass(frozen=True, slots=True)
class MemoryQuota:
    """Bytes that a group may hold before it is killed, and those that it holds."""

    limit_bytes: int
    used_bytes: int


def cpu_quota(roots: Roots) -> CpuQuota | None:
    """Find the smallest CPU quota above this process; ``None`` where nothing limits it."""
    quotas = [found for level in _levels(roots, "") if (found := _cpu_v2(level))]
    quotas += [found for level in _levels(roots, "cpu") if (found := _cpu_v1(level, roots))]
    return min(quotas, key=lambda quota: quota.cpus, default=None)


def memory_quota(roots: Roots) -> MemoryQuota | None:
    """Find the smallest memory limit above this process, with the use of that same level.

    Use is what is charged to the group less ``inactive_file``: file cache that is given back
    before anything is killed. A limit too large to mean anything is still returned; the caller
    compares it with the machine.
    """
    quotas = [
        found
        for level in _levels(roots, "")
        if (found := _memory(level, "memory.max", "memory.current", "inactive_file"))
    ]
    quotas += [
        found
        for level in _levels(roots, "memory")
        if (found := _memory(level, "memory.limit_in_bytes", "memory.usage_in_bytes", "total_inactive_file"))
    ]
    return min(quotas, key=lambda quota: quota.limit_bytes, default=None)


def _levels(roots: Roots, controller: str) -> Iterator[Path]:
    """Yield this process's group and those above it; ``""`` means the version 2 hierarchy."""
    group = _group(roots, controller)
    if group is None:
        return
    for name in (controller, f"{controller},cpuacct", "unified") if controller else ("", "unified"):
        mount = roots.cgroup / name
        if not controller and not (mount / "cgroup.controllers").is_file():
            continue
        if mount.is_dir():
            for depth in range(len(group), -1, -1):
                level = mount.joinpath(*group[:depth])
                if level.is_dir():
                    yield level
            return


def _group(roots: Roots, controller: str) -> list[str] | None:
    """Path of this process's group below the mount, from ``/proc/self/cgroup``."""
    for line in (read_text(roots.proc / "self/cgroup") or "").splitlines():
        _, _, rest = line.partition(":")
        controllers, _, path = rest.partition(":")
        if controller in controllers.split(","):
            return [part for part in path.split("/") if part not in ("", ".", "..")]
    return None


def _cpu_v2(level: Path) -> CpuQuota | None:
    quota, _, period = (read_text(level / "cpu.max") or "").strip().partition(" ")
    if not quota.isdigit() or not period.isdigit() or int(period) == 0:
        return None
    used = _fields(level / "cpu.stat").get("usage_usec")
    return CpuQuota(int(quota) / int(period), None if used is None else used / 1e6)


def _cpu_v1(level: Path, roots: Roots) -> CpuQuota | None:
    quota = _integer(level / "cpu.cfs_quota_us")
    period = _integer(level / "cpu.cfs_period_us")
    if quota is None or quota <= 0 or not period:
        return None
    inside = level.relative_to(roots.cgroup).parts[1:]
    used = _integer(roots.cgroup.joinpath("cpuacct", *inside, "cpuacct.usage"))
    if used is None:
        used = _integer(level / "cpuacct.usage")
    return CpuQuota(quota / period, None if used is None else used / 1e9)


def _memory(level: Path, limit_file: str, used_file: str, cache: str) -> MemoryQuota | None:
    limit, used = _integer(level / limit_file), _integer(level / used_file)
    if limit is None or used is None:
        return None
    return MemoryQuota(limit, max(0, used - _fields(level / "memory.stat").get(cache, 0)))


def read_text(path: Path) -> str | None:
    """Contents of a small file; ``None`` if it is not there or not ours to read."""
    try:
        return path.read_text()
    except OSError:
        return None


def _integer(path: Path) -> int | None:
    text = (read_text(path) or "").strip()
    return int(text) if text.lstrip("-").isdigit() else None


def _fields(path: Path) -> dict[str, int]:
    pairs = (line.split() for line in (read_text(path) or "").splitlines())
    return {pair[0]: int(pair[1]) for pair in pairs if len(pair) == 2 and pair[1].isdigit()}
