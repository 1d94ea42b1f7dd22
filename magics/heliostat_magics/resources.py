"""``%resources``: what is used now, and what each cell, process, job or node used."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any

from heliostat.exceptions import HeliostatError
from heliostat_magics._base import Magic
from heliostat_magics._format import count, duration, percent, share, size
from heliostat_magics._grid import Grid
from heliostat_magics._parser import MagicParser

if TYPE_CHECKING:
    import argparse

    from heliostat._handle import Runtime
    from heliostat._messages import Sample

__all__ = ["ResourcesMagic"]

_RECENT_SECONDS = 10.0
_BAR = 12


class ResourcesMagic(Magic):
    """``%resources``."""

    def parser(self, line: str) -> MagicParser:
        """Make the parser."""
        del line
        parser = MagicParser(
            "%resources",
            "[--by cell|rank|job|node]",
            "Show what the runtime uses now, of what would end it; or who used what:\n\n"
            "  cell  CPU and GPU seconds and peak memory of each cell\n"
            "  rank  each process: the kernel, Ray, its workers and ranks\n"
            "  job   each piece of long work, with the memory of its workers\n"
            "  node  each Ray node",
        )
        parser.add(
            "--by", choices=["cell", "rank", "job", "node"], help="who used what (default: all in all)"
        )
        return parser

    def run(self, arguments: argparse.Namespace, cell: str | None) -> Grid:
        """Return the table. Raises HeliostatError where there is no runtime to ask."""
        del cell
        if arguments.by == "job":
            return _by_job()
        from heliostat import _handle

        runtime = _handle.current()
        if runtime is None:
            message = "There is no runtime, so nothing is measured."
            raise HeliostatError(message, "Start one with %runtime start.")
        views = {None: _now, "cell": _by_cell, "rank": _by_process, "node": _by_node}
        return views[arguments.by](runtime)


def bar(part: float | None, whole: float | None) -> str:
    """A share as a bar of text; empty where it is not known."""
    found = share(part, whole)
    if found is None:
        return ""
    filled = round(found * _BAR)
    return "█" * filled + "░" * (_BAR - filled)


def _sample(runtime: Runtime) -> Sample | None:
    found = runtime.samples(time.time() - _RECENT_SECONDS)
    return found[-1] if found else None


def _now(runtime: Runtime) -> Grid:
    sample = _sample(runtime)
    if sample is None:
        return Grid(["what", "used", "of", ""], [], "No reading yet; look again in a second.")
    host = sample.host
    rows: list[list[Any]] = [
        [
            "CPU",
            count(round(host.cpu_percent / 100, 1)),
            f"{host.cpus:g} CPUs",
            bar(host.cpu_percent, host.cpus * 100),
        ]
    ]
    for what, used, limit in (
        ("memory", host.memory_used_bytes, host.memory_limit_bytes),
        ("shared memory", host.shm_used_bytes, host.shm_limit_bytes),
        ("disk", host.disk_used_bytes, host.disk_limit_bytes),
    ):
        rows.append([what, size(used), size(limit), bar(used, limit)])
    for gpu in sample.gpus or []:
        used, limit = gpu.memory_used_bytes, gpu.memory_limit_bytes
        rows.append(
            [f"GPU {gpu.index}", percent(gpu.utilization_percent), "100 %", bar(gpu.utilization_percent, 100)]
        )
        rows.append([f"GPU {gpu.index} memory", size(used), size(limit), bar(used, limit)])
    ray = sample.ray
    if ray is not None:
        rows.append(["CPUs given out", count(ray.cpus_used), count(ray.cpus), bar(ray.cpus_used, ray.cpus)])
        if ray.gpus:
            rows.append(
                ["GPUs given out", count(ray.gpus_used), count(ray.gpus), bar(ray.gpus_used, ray.gpus)]
            )
        used, limit = ray.object_store_used_bytes, ray.object_store_bytes
        rows.append(["object store", size(used), size(limit), bar(used, limit)])
    waiting = f" Waiting: {'; '.join(ray.pending)}." if ray is not None and ray.pending else ""
    taken = time.strftime("%H:%M:%S", time.localtime(sample.at))
    return Grid(["what", "used", "of", ""], rows, f"Measured at {taken}.{waiting}")


def _by_cell(runtime: Runtime) -> Grid:
    accounts = runtime.cells()
    most = max((each.cpu_seconds for each in accounts), default=0.0)
    rows = [
        [
            each.cell_id[:12] if not each.cell_id.startswith("execution-") else each.cell_id,
            time.strftime("%H:%M:%S", time.localtime(each.started_at)),
            duration((each.ended_at or time.time()) - each.started_at),
            f"{each.cpu_seconds:.1f} s",
            bar(each.cpu_seconds, most),
            duration(each.gpu_seconds),
            size(each.peak_memory_bytes),
            size(each.peak_gpu_memory_bytes),
        ]
        for each in accounts
    ]
    head = ["cell", "began", "time", "CPU", "", "GPU", "peak memory", "peak GPU memory"]
    return Grid(head, rows, "The kernel and Ray's workers together.")


def _by_process(runtime: Runtime) -> Grid:
    sample = _sample(runtime)
    found = sorted(sample.processes, key=lambda each: -each.memory_bytes) if sample is not None else []
    most = max((each.memory_bytes for each in found), default=0)
    rows = [
        [
            each.role,
            each.name,
            each.pid,
            percent(each.cpu_percent),
            f"{each.cpu_seconds:.1f} s",
            size(each.memory_bytes),
            bar(each.memory_bytes, most),
        ]
        for each in found
    ]
    return Grid(["role", "process", "pid", "CPU now", "CPU in all", "memory", ""], rows)


def _by_node(runtime: Runtime) -> Grid:
    rows = [
        [
            f"{each.name}{' (head)' if each.head else ''}",
            each.state,
            each.address,
            f"{count(each.cpus_used)} of {each.cpus:g}",
            bar(each.cpus_used, each.cpus),
            f"{count(each.gpus_used)} of {each.gpus:g}",
            size(each.memory_bytes),
            size(each.object_store_bytes),
        ]
        for each in runtime.nodes()
    ]
    return Grid(["node", "state", "address", "CPUs", "", "GPUs", "memory", "object store"], rows)


def _by_job() -> Grid:
    from heliostat import _progress as progress
    from heliostat_magics.jobs import amount

    rows = []
    for task in progress.tasks():
        each = task.snapshot
        known = [worker.memory_bytes for worker in each.workers if worker.memory_bytes is not None]
        taken = duration((each.ended_at or time.time()) - each.started_at)
        memory = size(sum(known)) if known else ""
        rows.append(
            [each.task_id, each.name, each.state.value, amount(each), taken, len(each.workers), memory]
        )
    head = ["id", "job", "state", "done", "time", "workers", "memory of workers"]
    return Grid(head, rows, "" if rows else "Nothing has run yet.")
