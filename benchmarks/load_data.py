"""Parquet to batches for PyTorch and to pandas, against pyarrow, Polars, DuckDB, Ray Data and DataLoader.

Each case runs in a process of its own, ours and the peers in turn. Memory is PSS of the process
and everything it started, read in runs that are not timed.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path
from typing import Any

import msgspec
from _data_tables import write_mixed, write_numbers
from _measure import Figure, Report, progress, render
from _processes import pss_megabytes

from heliostat._supervisor.processes import Identity, descendants

PARTS = ("batches", "peers", "memory", "frames", "ranks")
_CASES = Path(__file__).with_name("_data_cases.py")


class Case:
    """One process that runs a case: it imports, waits, runs and tells."""

    def __init__(self, name: str, directory: Path, home: Path, **more: str) -> None:
        names = {"TMPDIR": str(home), "OMP_NUM_THREADS": "2", "RAY_worker_niceness": "0", **more}
        self.process = subprocess.Popen(
            [sys.executable, str(_CASES), name, str(directory)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            text=True,
            env={**os.environ, **names, "HELIOSTAT_LOADER_CACHE_DIR": str(home / "cache")},
        )
        self._line()

    def start(self) -> None:
        """Let it run."""
        assert self.process.stdin is not None
        self.process.stdin.write("\n")
        self.process.stdin.flush()

    def told(self) -> dict[str, Any]:
        """Wait for what it measured."""
        found: dict[str, Any] = json.loads(self._line())
        self.process.communicate()
        return found

    def _line(self) -> str:
        assert self.process.stdout is not None
        for line in self.process.stdout:
            if line == "ready\n" or line.startswith("{"):
                return line
        message = "a case ended without a result"
        raise RuntimeError(message)


def timed(name: str, directory: Path, home: Path) -> dict[str, Any]:
    """Run one case."""
    case = Case(name, directory, home)
    case.start()
    return case.told()


def peak(name: str, directory: Path, home: Path) -> float:
    """Most MB (PSS) of the process tree while a case runs."""
    case = Case(name, directory, home)
    most, done = [0.0], threading.Event()

    def watch() -> None:
        own = Identity.of(case.process.pid)
        while not done.wait(0.02):
            tree = [*([own] if own is not None else []), *descendants(case.process.pid)]
            with contextlib.suppress(OSError):
                most[0] = max(most[0], pss_megabytes(tree))

    watcher = threading.Thread(target=watch)
    watcher.start()
    try:
        case.start()
        case.told()
    finally:
        done.set()
        watcher.join()
    return most[0]


class Session:
    """Tables, and what was measured on them."""

    def __init__(self, home: Path, rows: int, runs: int) -> None:
        self.home, self.rows, self.runs = home, rows, runs
        self.numbers, self.mixed, self.larger = home / "numbers", home / "mixed", home / "larger"
        progress(f"writing {rows} rows")
        write_numbers(self.numbers, rows)
        write_mixed(self.mixed, max(rows * 2 // 5, 1000))

    def make_larger(self) -> None:
        """Four times the rows: the same files under four names."""
        self.larger.mkdir()
        for copy in range(4):
            for path in self.numbers.iterdir():
                os.link(path, self.larger / f"{copy}-{path.name}")

    def seconds(
        self, names: list[str], runs: int, directory: Path | None = None
    ) -> dict[str, list[list[float]]]:
        """Seconds of the epochs of each run, the cases in turn."""
        found: dict[str, list[list[float]]] = {name: [] for name in names}
        for run in range(runs):
            for name in names:
                progress(f"{name}, run {run + 1} of {runs}")
                told = timed(name, directory or self.numbers, self.home)
                scale = self.rows / told["rows"]  # not 1 for cases that read one file only
                found[name].append([one * scale for one in told["seconds"]])
        return found


def first(runs: list[list[float]]) -> tuple[float, ...]:
    """Seconds of the first epoch of each run."""
    return tuple(run[0] for run in runs)


def later(runs: list[list[float]]) -> tuple[float, ...]:
    """Median of the later epochs of each run."""
    return tuple(statistics.median(run[1:]) for run in runs)


def batches(session: Session) -> list[Figure]:
    """Batches of 8192 rows against raw decoding and Polars."""
    names = [
        "raw",
        "ours",
        "ours window",
        "ours global",
        "ours cached",
        "polars",
        "polars windows",
        "polars sample",
        "polars by hand",
    ]
    found = session.seconds(names, session.runs)
    window, raw = first(found["ours window"]), first(found["raw"])
    cached = found["ours cached"]
    return [
        Figure("window shuffle, against raw decoding", "s", window, 1.333, raw),
        Figure(
            "window shuffle, against Polars with the same by hand",
            "s",
            window,
            0.667,
            first(found["polars windows"]),
        ),
        Figure(
            "window shuffle, against Polars' own within chunks",
            "s",
            window,
            0.667,
            first(found["polars sample"]),
        ),
        Figure(
            "window shuffle, against Polars by hand within chunks",
            "s",
            window,
            0.667,
            first(found["polars by hand"]),
        ),
        Figure("no shuffle, against Polars", "s", first(found["ours"]), 1.0, first(found["polars"])),
        Figure("no shuffle, second epoch", "s", later(found["ours"]), None, later(found["polars"])),
        Figure("window shuffle, against no shuffle", "s", window, 1.25, first(found["ours"])),
        Figure("global shuffle, against raw decoding", "s", first(found["ours global"]), None, raw),
        Figure("first epoch that fills the cache, against one without", "s", first(cached), None, window),
        Figure(
            "later epochs from the cache, against the first of them", "s", later(cached), 0.333, first(cached)
        ),
        Figure("later epochs from the cache, against one without", "s", later(cached), 0.333, window),
    ]


def peers(session: Session) -> list[Figure]:
    """Batches against the other ways; the slow ones once."""
    quick = {
        "duckdb": "DuckDB",
        "pyarrow scan": "pyarrow's scanner",
        "pyarrow ahead": "pyarrow's scanner in a thread",
        "polars memory": "Polars in memory",
        "pandas": "pandas in memory",
    }
    found = session.seconds(["ours", "ours window", *quick], session.runs)
    slow = session.seconds(["workers", "hugging face", "row by row", "ray data"], 1)
    plain, window = first(found["ours"]), first(found["ours window"])
    return [
        *(
            Figure(f"no shuffle, against {told}", "s", plain, 1.0, first(found[name]))
            for name, told in quick.items()
        ),
        Figure("no shuffle, against DataLoader with 2 workers", "s", plain, 1.0, first(slow["workers"])),
        Figure(
            "window shuffle, against Hugging Face's stream", "s", window, 1.0, first(slow["hugging face"])
        ),
        Figure("window shuffle, against Ray Data", "s", window, 0.1, first(slow["ray data"])),
        Figure("window shuffle, against DataLoader row by row", "s", window, 0.05, first(slow["row by row"])),
    ]


def memory(session: Session) -> list[Figure]:
    """Memory of our loader, with one and with four times the rows."""
    session.make_larger()
    figures = []
    for name in ("ours", "ours window", "ours cached", "ours global"):
        progress(f"memory of {name}")
        small = peak(name, session.numbers, session.home)
        large = peak(name, session.larger, session.home)
        figures.append(Figure(f"memory, {name[5:] or 'no shuffle'}", "MB", (small,), 700))
        figures.append(
            Figure(f"memory, {name[5:] or 'no shuffle'}, 4 times the rows", "MB", (large,), 1.1, (small,))
        )
    return figures


def frames(session: Session) -> list[Figure]:
    """DataFrames: numbers against pyarrow, a mixed table against Polars."""
    figures = []
    for what, directory, way, goal, most in (
        ("numbers", session.numbers, "pyarrow", 0.8, 0.6),
        ("mixed", session.mixed, "polars", 1.0, 0.5),
    ):
        names = ["frame ours", f"frame {way}"]
        found = session.seconds(names, session.runs, directory)
        held = {name: [peak(name, directory, session.home)] for name in names}
        mine, theirs = (first(found[name]) for name in names)
        figures.append(Figure(f"to_pandas, {what}, against {way}", "s", mine, goal, theirs))
        own, other = (tuple(held[name]) for name in names)
        figures.append(Figure(f"to_pandas, {what}, memory against {way}", "MB", own, most, other))
    return figures


def ranks(session: Session) -> list[Figure]:
    """Two processes, each with its shard, against one with everything."""
    both, one = [], []
    for run in range(session.runs):
        progress(f"ranks, run {run + 1} of {session.runs}")
        one.append(timed("ours window", session.numbers, session.home)["seconds"][0])
        cases = [
            Case(f"ours rank {rank}", session.numbers, session.home, LOCAL_WORLD_SIZE="2")
            for rank in range(2)
        ]
        for case in cases:
            case.start()
        told = [case.told() for case in cases]
        assert sum(part["rows"] for part in told) == session.rows
        both.append(max(part["ended"] for part in told) - min(part["started"] for part in told))
    return [Figure("two ranks, against one process", "s", tuple(both), 1.111, tuple(one))]


def main() -> None:
    """Run the command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("parts", nargs="*", metavar="PART", help=f"of {', '.join(PARTS)}; default: all")
    parser.add_argument("--runs", type=int, default=3, metavar="N", help="default: %(default)s")
    parser.add_argument("--rows", type=int, default=5_000_000, metavar="N", help="default: %(default)s")
    parser.add_argument("--json", type=Path, metavar="PATH", help="write the figures there as well")
    parser.add_argument("--picture", type=Path, metavar="PATH", help="draw the ratios there (PNG)")
    options = parser.parse_args()
    if options.runs < 1 or options.rows < 1:
        parser.error("--runs and --rows must be at least 1")
    if unknown := [part for part in options.parts if part not in PARTS]:
        parser.error(f"unknown part: {unknown[0]}")
    before = os.getloadavg()[0]
    figures: list[Figure] = []
    with tempfile.TemporaryDirectory(prefix="hb-") as home:
        session = Session(Path(home), options.rows, options.runs)
        time.sleep(0.1)
        for part in options.parts or PARTS:
            figures += globals()[part](session)
    notes = (
        f"{options.rows} rows of 28 features and a label; seconds are of the first epoch in a process",
        "one file only, scaled to all rows: DataLoader row by row, Hugging Face",
    )
    report = Report("loading", tuple(figures), (before, os.getloadavg()[0]), notes)
    print(render([report]))
    if options.json is not None:
        options.json.write_bytes(msgspec.json.encode(report))
    if options.picture is not None:
        from _picture import draw

        draw(report, options.picture)


if __name__ == "__main__":
    main()
