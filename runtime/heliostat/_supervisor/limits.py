"""What this process may use, and how much of it is used.

Limits are those that hold: the control group's quota where there is one, the CPUs that this
process is bound to, the machine otherwise. Every reader takes its figures from files below
``Roots`` and changes nothing. One reading takes well under a millisecond; only ``disk_use`` can
block longer, on a network file system that does not answer.
"""

from __future__ import annotations

import os
from dataclasses import dataclass
from typing import TYPE_CHECKING

from heliostat._messages.cluster import Limits
from heliostat._supervisor.cgroups import MACHINE, Roots, cpu_quota, memory_quota, read_text
from heliostat._units import parse_bytes
from heliostat.exceptions import ConfigurationError

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

DEFAULT_NODES = 8


@dataclass(frozen=True, slots=True)
class CpuUse:
    """CPUs usable here, and the CPU-seconds used by all who share them."""

    cpus: float
    used_seconds: float
    """Grows with time; the rate between two readings is the use."""


@dataclass(frozen=True, slots=True)
class SpaceUse:
    """Bytes used of a limit: memory, shared memory or disk."""

    limit_bytes: int
    used_bytes: int


def cpu_use(roots: Roots = MACHINE) -> CpuUse:
    """Read usable CPUs and their use on the same basis.

    The basis is the control group whose quota binds, else the CPUs that this process may run on.
    """
    allowed = os.sched_getaffinity(0)
    busy = _busy_seconds(roots, allowed)
    quota = cpu_quota(roots)
    if quota is None or quota.cpus >= len(allowed):
        return CpuUse(float(len(allowed)), busy)
    return CpuUse(quota.cpus, busy if quota.used_seconds is None else quota.used_seconds)


def _busy_seconds(roots: Roots, allowed: set[int]) -> float:
    """CPU-seconds in which one of the ``allowed`` CPUs was not idle, since the machine started."""
    ticks = 0
    for line in (read_text(roots.proc / "stat") or "").splitlines():
        name, *columns = line.split()
        if not name.startswith("cpu"):
            break
        if name != "cpu" and int(name[3:]) in allowed:
            # user nice system idle iowait irq softirq steal; guest time is in user already
            user, nice, system, _idle, _wait, irq, softirq, *_ = map(int, columns)
            ticks += user + nice + system + irq + softirq
    return ticks / os.sysconf("SC_CLK_TCK")


def memory_use(roots: Roots = MACHINE) -> SpaceUse:
    """Read the memory limit that kills when it is reached, and the use on the same basis.

    The basis is the control group with the smallest limit, or the machine if that is smaller.
    """
    total, available = 0, 0
    for line in (read_text(roots.proc / "meminfo") or "").splitlines():
        name, _, rest = line.partition(":")
        if name == "MemTotal":
            total = int(rest.split()[0]) * 1024
        elif name == "MemAvailable":
            available = int(rest.split()[0]) * 1024
    quota = memory_quota(roots)
    if quota is not None and (quota.limit_bytes < total or not total):
        return SpaceUse(quota.limit_bytes, quota.used_bytes)
    return SpaceUse(total, total - available)


def shm_use(roots: Roots = MACHINE) -> SpaceUse | None:
    """Size and use of ``/dev/shm``, where Ray keeps objects; ``None`` where there is none."""
    return _space(roots.shm)


def disk_use(directory: Path) -> SpaceUse | None:
    """Size and use of the disk that ``directory`` is on, or will be once it is made.

    What only root may fill does not count. ``None`` if it cannot be read.
    """
    while not directory.exists() and directory != directory.parent:
        directory = directory.parent
    return _space(directory)


def _space(path: Path) -> SpaceUse | None:
    try:
        figures = os.statvfs(path)
    except OSError:
        return None
    used = (figures.f_blocks - figures.f_bfree) * figures.f_frsize
    return SpaceUse(used + figures.f_bavail * figures.f_frsize, used)


def machine_limits(
    gpu_count: int,
    directory: Path,
    roots: Roots = MACHINE,
    environ: Mapping[str, str] | None = None,
) -> Limits:
    """Tell the most that a user may ask for on this machine.

    Parameters
    ----------
    gpu_count:
        GPUs that Ray is given at most, see ``heliostat._supervisor.gpu.gpu_count``.
    directory:
        Where objects go on a machine without ``/dev/shm``.
    environ:
        An administrator's word: ``HELIOSTAT_MAX_CPUS`` and ``HELIOSTAT_MAX_NODES`` replace what
        was found (Ray counts CPUs, it does not need as many), ``HELIOSTAT_MAX_GPUS`` and
        ``HELIOSTAT_MAX_MEMORY`` can only lower it.

    Raises
    ------
    ConfigurationError
        One of these variables cannot be used; the message names it.
    """
    environ = os.environ if environ is None else environ
    memory = memory_use(roots).limit_bytes
    if (most := environ.get("HELIOSTAT_MAX_MEMORY")) is not None:
        memory = min(memory, _positive("HELIOSTAT_MAX_MEMORY", parse_bytes(most, "HELIOSTAT_MAX_MEMORY")))
    store = shm_use(roots) or disk_use(directory)
    return Limits(
        cpus=read_count("HELIOSTAT_MAX_CPUS", environ, 1) or max(1, int(cpu_use(roots).cpus)),
        gpus=min(gpu_count, _or(read_count("HELIOSTAT_MAX_GPUS", environ, 0), gpu_count)),
        memory_bytes=memory,
        object_store_bytes=min(memory, store.limit_bytes) if store else memory,
        nodes=read_count("HELIOSTAT_MAX_NODES", environ, 1) or DEFAULT_NODES,
    )


def read_count(variable: str, environ: Mapping[str, str], least: int) -> int | None:
    """Read a whole number from an environment variable; ``None`` if it is not set.

    Raises ConfigurationError, naming the variable, for anything else or less than ``least``.
    """
    text = environ.get(variable)
    if text is None:
        return None
    if not (text.isascii() and text.isdigit()) or int(text) < least:
        msg = f"{variable} is {text!r}, which is not a whole number of {least} or more."
        raise ConfigurationError(
            msg,
            f"Correct or unset {variable}, then start the runtime again.",
        )
    return int(text)


def _positive(variable: str, size: int) -> int:
    if size == 0:
        msg = f"{variable} is 0, which leaves nothing to run in."
        raise ConfigurationError(
            msg,
            f'Set it to a size such as "16GiB", or unset {variable}.',
        )
    return size


def _or(value: int | None, default: int) -> int:
    return default if value is None else value
