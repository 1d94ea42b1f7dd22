"""What each cell used: CPU, GPU and the most memory, of the kernel and of Ray's workers.

CPU is read when a cell begins and when it ends, so a cell of a few milliseconds has its share
although samples are a second apart. Work is not divided: of two cells that run at once each gets
all that ran while it ran. A worker that starts during a cell counts from its first instruction,
one that ends keeps its last known figure.

GPU time is the utilisation of each GPU that a process of ours is on, times the seconds, from the
samples; on a GPU that is shared with others it is the GPU's, not only ours.
"""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from heliostat._messages.usage import CellAccount, Gpu, ProcessUse, Sample

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from heliostat._supervisor.tree import Group

KEPT = 1000
"""Cells whose accounts are kept."""
_ROLES = frozenset({"owner", "worker"})
_LONGEST_STEP = 10.0
"""Seconds: of a longer gap between two samples nobody knows what the GPUs did."""


@dataclass(slots=True)
class _Cell:
    cell_id: str
    started_at: float
    cpu_mark: float
    peaks_before: dict[int, int]
    ended_at: float | None = None
    cpu_seconds: float = 0.0
    gpu_seconds: float | None = None
    gpu_unknown: bool = False
    peak_memory: int | None = None
    peak_gpu_memory: int | None = None

    def account(self, cpu_meter: float) -> CellAccount:
        cpu = self.cpu_seconds if self.ended_at is not None else cpu_meter - self.cpu_mark
        return CellAccount(
            cell_id=self.cell_id,
            started_at=self.started_at,
            ended_at=self.ended_at,
            cpu_seconds=round(cpu, 3),
            gpu_seconds=None if self.gpu_unknown or self.gpu_seconds is None else round(self.gpu_seconds, 3),
            peak_memory_bytes=self.peak_memory,
            peak_gpu_memory_bytes=self.peak_gpu_memory,
        )


@dataclass(slots=True)
class _Meter:
    """CPU-seconds that the owner and the workers have used since the first reading."""

    total: float = 0.0
    known: dict[int, float] = field(default_factory=dict)
    started: bool = False

    def advance(self, readings: Iterable[Group | ProcessUse]) -> None:
        seen: dict[int, float] = {}
        for reading in readings:
            before = self.known.get(reading.pid)
            if before is not None and reading.cpu_seconds >= before:
                self.total += reading.cpu_seconds - before
            elif self.started:
                # New, or another process under a pid that was used before.
                self.total += reading.cpu_seconds
            seen[reading.pid] = reading.cpu_seconds
        self.known, self.started = seen, True


class Accounts:
    """Keeps the accounts of the last ``kept`` cells.

    Called from one thread: ``begin`` and ``end`` when the kernel says so, ``observe`` with each
    sample, ``close`` when the kernel is gone. ``readings`` reads the processes now (see
    ``Sampler.readings``); ``begin``, ``end`` and ``close`` call it once each.
    """

    def __init__(self, readings: Callable[[], list[Group]], kept: int = KEPT) -> None:
        self._readings = readings
        self._cells: deque[_Cell] = deque(maxlen=kept)
        self._running: dict[str, _Cell] = {}
        self._settling: list[_Cell] = []
        self._meter = _Meter()
        self._sampled_at: float | None = None

    def begin(self, cell_id: str, at: float) -> None:
        """Open the account of a cell that began at ``at`` (Unix seconds).

        A cell that is begun again without having ended is ended first.
        """
        groups = self._read()
        if cell_id in self._running:
            self._finish(self._running[cell_id], at, groups)
        cell = _Cell(
            cell_id=cell_id,
            started_at=at,
            cpu_mark=self._meter.total,
            peaks_before={group.pid: group.peak_bytes for group in groups if group.peak_bytes is not None},
            peak_memory=_memory(groups),
        )
        self._running[cell_id] = cell
        self._cells.append(cell)

    def end(self, cell_id: str, at: float) -> CellAccount | None:
        """Close the account of a cell; ``None`` if it was never begun.

        GPU figures for its last fraction of a second follow with the next sample.
        """
        cell = self._running.get(cell_id)
        if cell is None:
            return None
        self._finish(cell, at, self._read())
        return cell.account(self._meter.total)

    def close(self, at: float) -> None:
        """End every cell that still runs; the kernel died and will not say so."""
        if self._running:
            groups = self._read()
            for cell in list(self._running.values()):
                self._finish(cell, at, groups)

    def observe(self, sample: Sample) -> None:
        """Count one sample towards the cells that ran since the sample before it."""
        ours = [process for process in sample.processes if process.role in _ROLES]
        self._meter.advance(ours)
        before, self._sampled_at = self._sampled_at, sample.at
        memory = sum(process.memory_bytes for process in ours) if ours else None
        for cell in self._running.values():
            cell.peak_memory = _most(cell.peak_memory, memory)
        for cell in (*self._running.values(), *self._settling):
            _count_gpus(cell, sample, before)
        self._settling = [cell for cell in self._settling if (cell.ended_at or 0.0) > sample.at]

    def cells(self) -> list[CellAccount]:
        """Accounts so far, oldest first; those of running cells are as of the latest reading."""
        return [cell.account(self._meter.total) for cell in self._cells]

    def _read(self) -> list[Group]:
        groups = [group for group in self._readings() if group.role in _ROLES]
        self._meter.advance(groups)
        return groups

    def _finish(self, cell: _Cell, at: float, groups: list[Group]) -> None:
        del self._running[cell.cell_id]
        cell.ended_at = max(at, cell.started_at)
        cell.cpu_seconds = self._meter.total - cell.cpu_mark
        cell.peak_memory = _most(cell.peak_memory, _peak_within(groups, cell.peaks_before))
        cell.peaks_before = {}
        self._settling.append(cell)


def _memory(groups: list[Group]) -> int | None:
    return sum(group.memory_bytes for group in groups) if groups else None


def _peak_within(groups: list[Group], before: dict[int, int]) -> int | None:
    """Most memory that is certain from readings at both ends of a cell.

    Where the highest mark of a process rose in between, it held that much in the cell, however
    briefly. Marks of several processes are not added up: they may be from different moments.
    """
    now = _memory(groups)
    if now is None:
        return None
    rises = [
        group.peak_bytes - group.memory_bytes
        for group in groups
        if group.peak_bytes is not None and group.peak_bytes > before.get(group.pid, 0)
    ]
    return now + max([0, *rises])


def _count_gpus(cell: _Cell, sample: Sample, before: float | None) -> None:
    """Add what the GPUs did between the sample ``before`` and this one, as far as the cell ran."""
    if sample.gpus is None or before is None or not 0 < sample.at - before <= _LONGEST_STEP:
        return
    until = sample.at if cell.ended_at is None else min(cell.ended_at, sample.at)
    seconds = until - max(cell.started_at, before)
    if seconds <= 0:
        return
    ours = [gpu for gpu in sample.gpus if _is_ours(gpu)]
    known = [gpu.utilization_percent for gpu in ours if gpu.utilization_percent is not None]
    cell.gpu_unknown |= len(known) < len(ours)
    cell.gpu_seconds = (cell.gpu_seconds or 0.0) + sum(known) / 100 * seconds
    held = [_held(gpu) for gpu in ours]
    if None not in held:
        cell.peak_gpu_memory = _most(cell.peak_gpu_memory, sum(bytes_ or 0 for bytes_ in held))


def _is_ours(gpu: Gpu) -> bool:
    """Whether a process of ours is on it.

    A container's driver may show no process at all on a GPU that is busy; such a GPU was given
    to this container, so its use is ours.
    """
    if gpu.processes:
        return any(process.role in _ROLES for process in gpu.processes)
    return bool(gpu.utilization_percent)


def _held(gpu: Gpu) -> int | None:
    """GPU memory held by our processes; of a GPU that is ours alone all that is used."""
    if gpu.processes is None:
        return None
    ours = [process for process in gpu.processes if process.role in _ROLES]
    sizes = [process.memory_bytes for process in ours if process.memory_bytes is not None]
    if ours and len(sizes) == len(ours):
        return sum(sizes)
    return gpu.memory_used_bytes if len(ours) == len(gpu.processes) else None


def _most(one: int | None, other: int | None) -> int | None:
    return max((value for value in (one, other) if value is not None), default=None)
