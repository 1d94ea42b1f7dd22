"""All benchmarks one after the other, and one table of what they found.

Each runs in a process of its own. ``--runs`` is the number of runs of every one of them; the
documented figures come from the single programs with their own, higher numbers.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
import tempfile
from pathlib import Path

import msgspec
from _measure import Report, progress, render

PROGRAMS = (
    "kernel_start",
    "runtime_start",
    "boot_latency",
    "resize",
    "idle_cost",
    "panel",
    "stop",
    "load_data",
    "distribute",
    "train_torch",
    "train_boosting",
)


def run_one(name: str, runs: int, directory: Path) -> Report:
    """Run one program and return what it measured. Raises CalledProcessError."""
    target = directory / f"{name}.json"
    command = [
        sys.executable,
        str(Path(__file__).with_name(f"{name}.py")),
        "--runs",
        str(runs),
        "--json",
        str(target),
    ]
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
    return msgspec.json.decode(target.read_bytes(), type=Report)


def main() -> int:
    """Run the command line; returns the exit code: 1 where a program could not measure."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--runs", type=int, default=3, metavar="N", help="default: %(default)s")
    parser.add_argument("--json", type=Path, metavar="PATH", help="write the figures there as well")
    options = parser.parse_args()
    reports, failed = [], []
    with tempfile.TemporaryDirectory() as directory:
        for name in PROGRAMS:
            progress(f"{name}:")
            try:
                reports.append(run_one(name, options.runs, Path(directory)))
            except subprocess.CalledProcessError:
                failed.append(name)
    print(render(reports))
    if options.json is not None:
        options.json.write_bytes(msgspec.json.encode(reports))
    if failed:
        progress(f"could not measure: {', '.join(failed)}")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
