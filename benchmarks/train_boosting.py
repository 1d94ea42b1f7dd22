"""From Parquet to a trained model with XGBoost and LightGBM, against the ways people have.

The table has 28 columns of float32 and a label of two classes. The peers, at two threads in all as
we: ``pandas.read_parquet`` and the library's own ``train``; dask and Ray Train with two workers of
one thread each. Each runs in a process of its own. The clock starts when the runtime or cluster is
up and a training on 1,000 rows is through, for all of them, so that imports are done and processes
are there where somebody keeps them. Ray Train runs once: it takes minutes.

One part is measured beside processes that keep every CPU busy: there threads of OpenMP that spin
while they wait for each other take the CPU from those they wait for.

Times and memory are of different runs. Memory is the highest PSS of the processes that read and
train, sampled ten times a second; Ray's own processes and idle workers are left out, the driver is
not.

``HELIOSTAT_BENCH_ROWS`` is the size of the table, ``HELIOSTAT_BENCH_LIBRARIES`` (``xgboost,lightgbm``),
``HELIOSTAT_BENCH_PEERS`` (``pandas,dask,trainer``) and ``HELIOSTAT_BENCH_PARTS``
(``time,memory,busy,small``) choose what is measured.
"""

from __future__ import annotations

import contextlib
import os
import subprocess
import sys
import threading
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from _boosting_programs import COLUMNS, TINY, contenders
from _measure import Figure, Report, main, progress
from _processes import Child, own_home, pss_megabytes

from heliostat._supervisor.processes import Identity

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

_ROWS, _QUICK_ROWS, _WARM_ROWS = 2_500_000, 100_000, 1_000
_GOALS = {"xgboost": (0.95, 1.1), "lightgbm": (0.3, 0.35)}
"""Of the time of one and of two workers, against pandas."""
_MEMORY_GOALS = {"xgboost": 0.45, "lightgbm": 0.65}
_PEER_GOAL = 0.333
_PEERS = {"dask": "a warm dask", "trainer": "Ray Train"}
_SLOW = ("trainer",)


def write_table(rows: int, path: Path) -> None:
    """Write the table: a product of two features and a few sums decide on the label."""
    import numpy as np
    import pyarrow as pa
    import pyarrow.parquet as pq

    generator = np.random.default_rng(0)
    with pq.ParquetWriter(
        path,
        pa.schema([*((f"c{i}", pa.float32()) for i in range(COLUMNS)), ("label", pa.int8())]),
        compression="zstd",
    ) as writer:
        for start in range(0, rows, 125_000):
            count = min(125_000, rows - start)
            x = generator.normal(size=(COLUMNS, count)).astype(np.float32)
            score = x[0] * x[1] + x[2] + 0.5 * x[3] * x[4] + generator.normal(size=count)
            columns = [*(pa.array(column) for column in x), pa.array((score > 0).astype(np.int8))]
            writer.write_table(pa.Table.from_arrays(columns, schema=writer.schema), row_group_size=count)


class _Peak(threading.Thread):
    """Highest memory of a child and of those below it that read and train."""

    def __init__(self, child: Child) -> None:
        super().__init__(daemon=True)
        self._child, self._stop_now, self.megabytes = child, threading.Event(), 0.0

    def run(self) -> None:
        own = Identity.of(self._child.process.pid)
        while not self._stop_now.wait(0.1):
            working = [process for process in self._child.below() if _works(process.pid)]
            if own is not None:
                self.megabytes = max(self.megabytes, pss_megabytes([own, *working]))

    def stop(self) -> float:
        """Return the peak."""
        self._stop_now.set()
        self.join()
        return self.megabytes


def _works(pid: int) -> bool:
    try:
        command = Path(f"/proc/{pid}/cmdline").read_bytes()
    except OSError:
        return False
    return b"WorkerProcess." in command or b"multiprocessing" in command


@contextlib.contextmanager
def neighbours(count: int) -> Iterator[None]:
    """Keep CPUs busy meanwhile, by processes of sessions of their own, as somebody else's would be."""
    command = [sys.executable, "-c", "while True: pass"]
    running = [subprocess.Popen(command, start_new_session=True) for _ in range(count)]
    try:
        yield
    finally:
        for process in running:
            process.kill()
            process.wait()


def once(program: str, home: Path, *, memory: bool = False, beside: int = 0) -> dict[str, Any]:
    """Run a program once, beside busy processes; returns what it told, and ``megabytes`` if ``memory``."""
    with Child(program, home) as child, neighbours(beside):
        peak = _Peak(child) if memory else None
        child.order()
        if peak is not None:
            peak.start()
        facts = child.hear(900.0)
        return facts if peak is None else {**facts, "megabytes": peak.stop()}


@dataclass(frozen=True)
class Plan:
    """What is measured."""

    rows: int = _ROWS
    libraries: Sequence[str] = ("xgboost", "lightgbm")
    peers: Sequence[str] = ("pandas", "dask", "trainer")
    parts: Sequence[str] = ("time", "memory", "busy", "small")


def in_turn(
    library: str, names: Sequence[str], runs: int, home: Path, *, beside: int = 0
) -> dict[str, tuple[float, ...]]:
    """Time programs in turn, slow ones in the first run only; returns the seconds of each."""
    programs = contenders(library)
    found: dict[str, list[float]] = {name: [] for name in names}
    for run in range(runs):
        for name in names:
            if run and name in _SLOW:
                continue
            facts = once(programs[name], home, beside=beside)
            found[name].append(facts["seconds"])
            progress(f"{library} run {run + 1} {name}: {facts['seconds']:.2f} s {facts.get('phases', '')}")
    return {name: tuple(values) for name, values in found.items()}


def times(library: str, plan: Plan, runs: int, home: Path) -> list[Figure]:
    """One and two workers against pandas, two against the others."""
    seconds = in_turn(library, ("one", "two", *plan.peers), runs, home)
    one, two = seconds["one"], seconds["two"]
    figures = []
    if "pandas" in plan.peers:
        goals, peer, what = _GOALS[library], seconds["pandas"], f"{library}, against pandas:"
        figures += [
            Figure(f"{what} 1 worker", "s", one, goals[0], peer),
            Figure(f"{what} 2 workers", "s", two, goals[1], peer),
        ]
    figures += [
        Figure(f"{library}, against {name}: 2 workers", "s", two, _PEER_GOAL, seconds[peer])
        for peer, name in _PEERS.items()
        if peer in plan.peers
    ]
    return figures


def memory(library: str, runs: int, home: Path) -> list[Figure]:
    """Peak memory of one and two workers against pandas."""
    programs = contenders(library)
    found: dict[str, list[float]] = {name: [] for name in ("pandas", "one", "two")}
    for _ in range(runs):
        for name, peaks in found.items():
            peaks.append(once(programs[name], home, memory=True)["megabytes"])
            progress(f"{library} memory of {name}: {peaks[-1]:.0f} MB")
    pandas, one, two = (tuple(found[name]) for name in ("pandas", "one", "two"))
    what = f"{library}, against pandas: peak memory of"
    return [
        Figure(f"{what} 1 worker", "MB", one, _MEMORY_GOALS[library], pandas),
        Figure(f"{what} 2 workers", "MB", two, None, pandas),
    ]


def busy(library: str, runs: int, home: Path) -> Figure:
    """One worker against pandas, on a machine whose CPUs others keep busy."""
    seconds = in_turn(library, ("one", "pandas"), runs, home, beside=os.cpu_count() or 1)
    what = f"{library}, against pandas, all CPUs busy: 1 worker"
    return Figure(what, "s", seconds["one"], _GOALS[library][0], seconds["pandas"])


def small(runs: int, home: Path) -> list[Figure]:
    """Measure the overhead of a small fit, and the time that a killed worker costs."""
    found = []
    for run in range(runs):
        with Child(TINY, home) as child:
            found.append(child.hear())
        progress(f"small fits, run {run + 1}: {found[-1]}")
    return [
        Figure("1,000 rows, 10 rounds: first fit", "s", tuple(each["first"] for each in found), 1.5),
        Figure("1,000 rows, 10 rounds: second fit", "s", tuple(each["second"] for each in found), 0.3),
        Figure("a worker killed: to the next new round", "s", tuple(each["lost"] for each in found), 5.0),
    ]


def measure(runs: int, plan: Plan) -> Report:
    """Measure what is planned."""
    figures = []
    with own_home() as home:
        write_table(_WARM_ROWS, home / "warm.parquet")
        write_table(plan.rows, home / "table.parquet")
        for library in plan.libraries:
            if "time" in plan.parts:
                figures += times(library, plan, runs, home)
            if "memory" in plan.parts:
                figures += memory(library, runs, home)
            if "busy" in plan.parts:
                figures.append(busy(library, runs, home))
        if "small" in plan.parts:
            figures += small(runs, home)
    return Report("", tuple(figures), notes=(f"{plan.rows:,} rows",))


def chosen(runs: int) -> Report:
    """Measure what the environment chooses; see the top."""

    def names(variable: str, default: Sequence[str]) -> Sequence[str]:
        text = os.environ.get(f"HELIOSTAT_BENCH_{variable}")
        return default if text is None else tuple(name for name in text.split(",") if name)

    plan = Plan()
    rows = int(os.environ.get("HELIOSTAT_BENCH_ROWS", plan.rows))
    libraries, peers = names("LIBRARIES", plan.libraries), names("PEERS", plan.peers)
    return measure(runs, Plan(rows, libraries, peers, names("PARTS", plan.parts)))


if __name__ == "__main__":
    quick = partial(measure, plan=Plan(_QUICK_ROWS, peers=("pandas", "dask")))
    main("training of trees", __doc__ or "", 3, chosen, quick=quick)
