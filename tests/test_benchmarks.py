"""The benchmarks start, and the arithmetic behind their tables is right. Nothing is timed here."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
from _measure import Figure, Report, Spread, render, spread
from resize import last_overlap

BENCHMARKS = Path(__file__).resolve().parent.parent / "benchmarks"
PROGRAMS = sorted(path for path in BENCHMARKS.glob("*.py") if not path.name.startswith("_"))


@pytest.mark.parametrize("program", PROGRAMS, ids=lambda path: path.stem)
def test_every_program_says_what_it_does(program: Path) -> None:
    """``--help`` names the options and exits without measuring."""
    done = subprocess.run([sys.executable, program, "--help"], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert "--runs" in done.stdout
    assert "--json" in done.stdout


def test_everything_is_everything() -> None:
    """The program that runs all of them knows each."""
    from everything import PROGRAMS as KNOWN

    assert sorted([*KNOWN, "everything"]) == [program.stem for program in PROGRAMS]


def test_runs_must_be_a_number_above_zero() -> None:
    """A number of runs that measures nothing is refused at once."""
    command = [sys.executable, str(BENCHMARKS / "stop.py"), "--runs", "0"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 2
    assert "at least 1" in done.stderr


def test_spread_is_median_and_range() -> None:
    """An even number of values has the mean of the middle two as its median."""
    assert spread([4.0, 1.0, 2.0]) == Spread(2.0, 1.0, 4.0, 3)
    assert spread([4.0, 1.0, 2.0, 3.0]) == Spread(2.5, 1.0, 4.0, 4)
    with pytest.raises(ValueError, match="no values"):
        spread([])


def test_a_goal_is_for_the_ratio_where_there_is_a_peer() -> None:
    """With a peer the ratio of the medians counts, without one our own median."""
    against = Figure("a", "s", (1.0, 3.0, 2.0), goal=0.5, peer=(4.0, 5.0, 1.0))
    assert against.ratio == 0.5
    assert against.met is True
    assert Figure("a", "s", (2.1,), goal=0.5, peer=(4.0,)).met is False
    alone = Figure("a", "s", (1.0, 3.0, 2.0), goal=1.9)
    assert alone.ratio is None
    assert alone.met is False
    assert Figure("a", "s", (1.0,)).met is None


def test_table_has_every_figure_and_says_what_was_missed() -> None:
    """A row has both medians, the ratio, the goal and whether it was met; the load is below."""
    figure = Figure("start", "s", (2.0,), goal=0.4, peer=(4.0,))
    table = render([Report("boot", (figure,), load=(0.5, 1.5), notes=("a note",))])
    row = next(line for line in table.splitlines() if line.startswith("  start"))
    assert row.split("  ")[1:] == ["start", "2 s (2-2, n=1)", "4 s (4-4, n=1)", "0.50x", "<= 0.4x", "MISSED"]
    assert "load average 0.5 before, 1.5 after" in table
    assert table.endswith("a note")


@pytest.mark.parametrize(
    ("spans", "before", "expected"),
    [
        ([(0.0, 1.0), (1.0, 2.0)], 9.0, float("-inf")),
        ([(0.0, 2.0), (1.0, 3.0), (3.0, 4.0)], 9.0, 2.0),
        ([(0.0, 2.0), (1.0, 3.0), (5.0, 7.0), (6.0, 8.0)], 9.0, 7.0),
        ([(0.0, 2.0), (1.0, 3.0), (5.0, 7.0), (6.0, 8.0)], 4.0, 2.0),
        ([(0.0, 5.0), (1.0, 6.0)], 3.0, 3.0),
        ([(0.0, 5.0), (1.0, 6.0), (2.0, 3.0)], 9.0, 5.0),
    ],
)
def test_last_overlap(spans: list[tuple[float, float]], before: float, expected: float) -> None:
    """Spans that only touch do not overlap, and what comes later than ``before`` is left out."""
    assert last_overlap(spans, before) == expected
