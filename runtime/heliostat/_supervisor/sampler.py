"""One reading of everything, taken outside the kernel and without its help."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

from heliostat._messages.usage import HostUse, ProcessUse, RayUse, Sample
from heliostat._supervisor.cgroups import MACHINE, Roots
from heliostat._supervisor.gpu import GpuReader, OurProcess
from heliostat._supervisor.limits import CpuUse, cpu_use, disk_use, memory_use, shm_use
from heliostat._supervisor.ring import Ring
from heliostat._supervisor.tree import Group, ProcessTree

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from pathlib import Path

    from heliostat._messages.runtime import Owner

_ROLE_ORDER = ("owner", "supervisor", "ray", "worker")


class Sampler:
    """Reads host, processes, GPUs and Ray, and keeps the last 15 minutes.

    It has no thread: the supervisor's loop calls ``sample`` once a second, and nothing here may
    be called from two threads. With ten processes of ours a sample takes 1-2 ms. What may hold it
    longer: a spill disk on a network file system that does not answer, an NVIDIA driver that
    resets a GPU (some 100 ms), and ``ray_use``, which must keep its own deadline.

    Parameters
    ----------
    owner:
        The process that the runtime belongs to.
    supervisor_pid:
        This process; what descends from it is Ray.
    directory:
        On the disk that Ray spills to.
    ray_use:
        What Ray has given out; ``None`` while Ray is not up.
    gpus:
        Reader of this machine's GPUs.
    names:
        What processes are called, by pid, where that is known better than from the process.
    roots:
        Where the kernel shows its figures.
    """

    def __init__(
        self,
        owner: Owner,
        supervisor_pid: int,
        directory: Path,
        *,
        ray_use: Callable[[], RayUse | None],
        gpus: GpuReader | None = None,
        names: Callable[[], Mapping[int, str]] = dict,
        roots: Roots = MACHINE,
    ) -> None:
        self.ring = Ring()
        self._tree = ProcessTree(owner, supervisor_pid, roots.proc)
        self._directory = directory
        self._ray_use = ray_use
        self._gpus = gpus or GpuReader()
        self._names = names
        self._roots = roots
        # Rates need a reading to start from; the first sample is then as good as any.
        self._clock = time.monotonic()
        self._cpu = cpu_use(roots)
        self._seconds = {group.pid: group.cpu_seconds for group in self._tree.read()}

    def sample(self, now: float) -> Sample:
        """Read everything, add it to the ring, and return it. ``now`` is in Unix seconds."""
        clock = time.monotonic()
        elapsed = max(clock - self._clock, 1e-3)
        names = self._names()
        processes = self._processes(elapsed, names)
        ours = {
            pid: OurProcess(member.role, names.get(member.head, member.stat.name))
            for pid, member in self._tree.members.items()
        }
        taken = Sample(
            at=now,
            host=self._host(elapsed),
            processes=processes,
            gpus=self._gpus.read(ours),
            ray=self._ray_use(),
        )
        self._clock = clock
        self.ring.add(taken)
        return taken

    def readings(self) -> list[Group]:
        """Read the processes now, between two samples; for the account of a cell. About 1 ms."""
        return self._tree.read(peaks=True)

    def _processes(self, elapsed: float, names: Mapping[int, str]) -> list[ProcessUse]:
        groups = self._tree.read()
        before, self._seconds = self._seconds, {group.pid: group.cpu_seconds for group in groups}
        return [
            ProcessUse(
                pid=group.pid,
                name=names.get(group.pid, group.name),
                role=group.role,
                cpu_seconds=group.cpu_seconds,
                cpu_percent=_percent(before.get(group.pid), group.cpu_seconds, elapsed),
                memory_bytes=group.memory_bytes,
            )
            for group in sorted(groups, key=lambda group: (_ROLE_ORDER.index(group.role), group.pid))
        ]

    def _host(self, elapsed: float) -> HostUse:
        cpu, memory = cpu_use(self._roots), memory_use(self._roots)
        shm, disk = shm_use(self._roots), disk_use(self._directory)
        before, self._cpu = self._cpu, cpu
        return HostUse(
            cpu_percent=_host_percent(before, cpu, elapsed),
            cpus=cpu.cpus,
            memory_used_bytes=memory.used_bytes,
            memory_limit_bytes=memory.limit_bytes,
            shm_used_bytes=shm.used_bytes if shm else None,
            shm_limit_bytes=shm.limit_bytes if shm else None,
            disk_used_bytes=disk.used_bytes if disk else None,
            disk_limit_bytes=disk.limit_bytes if disk else None,
        )


def _percent(before: float | None, now: float, elapsed: float) -> float | None:
    """Use of a process between two samples; ``None`` for one that is new."""
    if before is None or now < before:
        return None
    return round(100 * (now - before) / elapsed, 1)


def _host_percent(before: CpuUse, now: CpuUse, elapsed: float) -> float:
    busy = 100 * (now.used_seconds - before.used_seconds) / elapsed
    return round(min(max(busy, 0.0), 100 * now.cpus), 1)
