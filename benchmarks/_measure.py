"""Figures and how they are told: spreads, ratios, goals, the table and the command line.

Every program here hands a ``measure`` function to :func:`main`, which prints a table and, if
asked, writes the same as JSON.
"""

from __future__ import annotations

import argparse
import os
import statistics
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import msgspec

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

__all__ = ["Figure", "Report", "Spread", "main", "progress", "render", "spread"]


@dataclass(frozen=True)
class Spread:
    """Median and range of some values."""

    median: float
    low: float
    high: float
    count: int


def spread(values: Sequence[float]) -> Spread:
    """Sum up ``values``. Raises ValueError where there are none."""
    if not values:
        message = "there are no values to sum up"
        raise ValueError(message)
    return Spread(statistics.median(values), min(values), max(values), len(values))


@dataclass(frozen=True)
class Figure:
    """One thing that was measured, once for each run."""

    what: str
    unit: str
    ours: tuple[float, ...]
    goal: float | None = None
    """The most that is good: of the ratio where there is a peer, of our median where not."""
    peer: tuple[float, ...] | None = None

    @property
    def ratio(self) -> float | None:
        """Our median over the peer's; ``None`` without a peer."""
        return None if self.peer is None else spread(self.ours).median / spread(self.peer).median

    @property
    def met(self) -> bool | None:
        """Whether the goal is reached; ``None`` without one."""
        if self.goal is None:
            return None
        reached = self.ratio if self.peer is not None else spread(self.ours).median
        return reached is not None and reached <= self.goal


@dataclass(frozen=True)
class Report:
    """What one program measured, and how busy the machine was."""

    title: str
    figures: tuple[Figure, ...]
    load: tuple[float, float] = (0.0, 0.0)
    """Load average of one minute before and after."""
    notes: tuple[str, ...] = ()


_HEAD = ("", "ours", "peer", "ratio", "goal", "")
_VERDICTS = {True: "met", False: "MISSED", None: ""}


def render(reports: Sequence[Report]) -> str:
    """Write reports as one table for a terminal, notes below."""
    rows = [_HEAD]
    for report in reports:
        rows.append((report.title, "", "", "", "", ""))
        rows += [_row(figure) for figure in report.figures]
    widths = [max(len(row[column]) for row in rows) for column in range(len(_HEAD))]
    lines = ["  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)) for row in rows]
    for report in reports:
        before, after = report.load
        load = f"load average {before:.1f} before, {after:.1f} after, {os.cpu_count()} CPUs"
        lines += ["", f"{report.title}: {load}", *report.notes]
    return "\n".join(line.rstrip() for line in lines)


def _row(figure: Figure) -> tuple[str, str, str, str, str, str]:
    ratio, goal = figure.ratio, figure.goal
    unit = "x" if figure.peer is not None else f" {figure.unit}"
    return (
        f"  {figure.what}",
        _text(figure.ours, figure.unit),
        "" if figure.peer is None else _text(figure.peer, figure.unit),
        "" if ratio is None else f"{ratio:.2f}x",
        "" if goal is None else f"<= {goal:g}{unit}",
        _VERDICTS[figure.met],
    )


def _text(values: Sequence[float], unit: str) -> str:
    found = spread(values)
    return f"{found.median:.3g} {unit} ({found.low:.3g}-{found.high:.3g}, n={found.count})"


def main(
    title: str,
    description: str,
    runs: int,
    measure: Callable[[int], Report],
    quick: Callable[[int], Report] | None = None,
) -> None:
    """Read the command line, measure, print. ``measure`` is given the number of runs.

    ``quick`` measures less, for ``--quick``: whether all works, not how fast it is.
    """
    parser = argparse.ArgumentParser(description=description)
    parser.add_argument("--runs", type=int, default=runs, metavar="N", help="default: %(default)s")
    parser.add_argument("--json", type=Path, metavar="PATH", help="write the figures there as well")
    parser.add_argument("--picture", type=Path, metavar="PATH", help="draw the ratios there (.svg, .png)")
    if quick is not None:
        parser.add_argument("--quick", action="store_true", help="small data: whether it works")
    options = parser.parse_args()
    if options.runs < 1:
        parser.error("--runs must be at least 1")
    chosen = quick if quick is not None and options.quick else measure
    before = os.getloadavg()[0]
    found = chosen(options.runs)
    report = Report(title, found.figures, (before, os.getloadavg()[0]), found.notes)
    print(render([report]))
    if options.json is not None:
        options.json.write_bytes(msgspec.json.encode(report))
    if options.picture is not None:
        from _picture import draw

        draw(report, options.picture)


def progress(text: str) -> None:
    """Tell the person who waits what is going on."""
    print(text, file=sys.stderr, flush=True)
