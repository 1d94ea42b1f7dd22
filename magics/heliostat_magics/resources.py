"""``%resources``: what is used now, and what each cell, process, job or node used."""

from __future__ import annotations

import sys
import time
from typing import TYPE_CHECKING, Any

from heliostat import _handle
from heliostat.exceptions import HeliostatError
from heliostat_magics._bar import Bar
from heliostat_magics._base import Magic
from heliostat_magics._events import CellEvents
from heliostat_magics._format import amount, count, duration, percent, share, size
from heliostat_magics._grid import Grid
from heliostat_magics._parser import MagicParser

if TYPE_CHECKING:
    import argparse

    from IPython.core.interactiveshell import InteractiveShell

    from heliostat._messages.usage import Sample
    from heliostat._runtime import Runtime

__all__ = ["ResourcesMagic"]

_RECENT_SECONDS = 10.0
_CODE = 40


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
            "  rank  each process: the ranks and what they run, the kernel, Ray and its workers\n"
            "  job   each piece of long work, with what its workers use\n"
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
        runtime = _handle.current()
        if runtime is None:
            message = "There is no runtime, so nothing is measured."
            raise HeliostatError(message, "Start one with %runtime start.")
        views = {None: _now, "cell": _by_cell, "rank": _by_process, "node": _by_node}
        return views[arguments.by](runtime, self.shell)


def bar(part: float | None, whole: float | None) -> Bar:
    """A part of a whole as a bar."""
    return Bar(share(part, whole))


def _sample(runtime: Runtime) -> Sample | None:
    found = runtime.samples(time.time() - _RECENT_SECONDS)
    return found[-1] if found else None


def _now(runtime: Runtime, shell: InteractiveShell) -> Grid:
    del shell
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


def _by_cell(runtime: Runtime, shell: InteractiveShell) -> Grid:
    accounts = runtime.cells()
    events = CellEvents.of(shell)
    codes = {} if events is None else events.first_lines
    most = max((each.cpu_seconds for each in accounts), default=0.0)
    on_gpus = any(each.gpu_seconds is not None for each in accounts)
    rows = [
        [
            each.cell_id if each.cell_id.startswith("execution-") else each.cell_id[:8],
            codes.get(each.cell_id, "")[:_CODE],
            time.strftime("%H:%M:%S", time.localtime(each.started_at)),
            duration((each.ended_at or time.time()) - each.started_at),
            f"{each.cpu_seconds:.1f} s",
            bar(each.cpu_seconds, most),
            size(each.peak_memory_bytes),
            *([duration(each.gpu_seconds), size(each.peak_gpu_memory_bytes)] if on_gpus else []),
        ]
        for each in accounts
    ]
    head = ["cell", "code", "began", "time", "CPU", "", "peak memory"]
    gpus = "" if on_gpus else " No cell was on a GPU."
    return Grid(
        [*head, *(["GPU", "peak GPU memory"] if on_gpus else [])],
        rows,
        f"The kernel, Ray's workers and the ranks together.{gpus}",
    )


def _by_process(runtime: Runtime, shell: InteractiveShell) -> Grid:
    del shell
    sample = _sample(runtime)
    found = sorted(sample.processes, key=lambda each: -each.memory_bytes) if sample is not None else []
    ranks = _ranks_by_pid()
    found.sort(key=lambda each: (each.pid not in ranks, ranks.get(each.pid, (0, ""))[0]))
    most = max((each.memory_bytes for each in found), default=0)
    on_gpus = _gpu_memory(sample)
    rows = []
    for each in found:
        number, runs = ranks.get(each.pid, (None, ""))
        rows.append(
            [
                each.role if number is None else f"rank {number}",
                each.name if number is None else runs or "idle",
                each.pid,
                percent(each.cpu_percent),
                f"{each.cpu_seconds:.1f} s",
                size(each.memory_bytes),
                bar(each.memory_bytes, most),
                *([size(on_gpus[each.pid]) if each.pid in on_gpus else ""] if on_gpus else []),
            ]
        )
    head = ["role", "process", "pid", "CPU now", "CPU in all", "memory", ""]
    return Grid([*head, *(["GPU memory"] if on_gpus else [])], rows)


def _ranks_by_pid() -> dict[int, tuple[int, str]]:
    """Number of each rank, and the first line of the cell that it runs, if ranks were started."""
    if "heliostat._ranks" not in sys.modules:
        return {}
    from heliostat import _ranks

    group = _ranks.current()
    if group is None:
        return {}
    return {
        rank.prepared.pid: (rank.number, group.doing(rank.number))
        for rank in group.ranks
        if rank.prepared is not None
    }


def _gpu_memory(sample: Sample | None) -> dict[int, int | None]:
    """GPU memory of each process that is on a GPU."""
    held: dict[int, int | None] = {}
    for gpu in (sample.gpus if sample is not None else None) or []:
        for process in gpu.processes or []:
            before = held.get(process.pid, 0)
            known = before is not None and process.memory_bytes is not None
            held[process.pid] = (before or 0) + (process.memory_bytes or 0) if known else None
    return held


def _by_node(runtime: Runtime, shell: InteractiveShell) -> Grid:
    del shell
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
    from heliostat_magics._work import pieces, taken

    runtime = _handle.current()
    sample = _sample(runtime) if runtime is not None else None
    processes = {each.pid: each for each in sample.processes} if sample is not None else {}
    held = _gpu_memory(sample)
    rows = []
    for piece in pieces():
        facts = piece.facts
        pids = [worker.pid for worker in facts.workers if worker.pid is not None]
        memories = [worker.memory_bytes for worker in facts.workers if worker.memory_bytes is not None]
        known = [processes[pid] for pid in pids if pid in processes and piece.running]
        rows.append(
            [
                facts.task_id,
                facts.name,
                facts.state.value,
                amount(facts),
                duration(taken(facts)),
                len(facts.workers),
                size(sum(memories)) if memories else "",
                percent(sum(each.cpu_percent or 0.0 for each in known)) if known else "",
                size(sum(held[pid] or 0 for pid in pids if pid in held)) if set(pids) & set(held) else "",
            ]
        )
    head = ["id", "job", "state", "done", "time", "workers", "memory", "CPU now", "GPU memory"]
    return Grid(head, rows, "Memory and CPU are those of its workers." if rows else "Nothing has run yet.")
