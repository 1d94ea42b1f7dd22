"""A picture of ratios: one bar for each figure that has a peer, and a mark at its goal."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pathlib import Path

    from _measure import Report


def draw(report: Report, path: Path) -> None:
    """Write the picture; the ending of ``path`` says in which format (``.svg``, ``.png``)."""
    import matplotlib as mpl

    mpl.use("Agg")
    from matplotlib import pyplot as plt

    figures = [figure for figure in reversed(report.figures) if figure.ratio is not None]
    drawing, axes = plt.subplots(figsize=(9, 0.45 * len(figures) + 1.2), layout="constrained")
    for place, figure in enumerate(figures):
        ratio = figure.ratio or 0.0
        axes.barh(place, ratio, color="#2a78b8" if figure.met is not False else "#c2603a", height=0.6)
        # Beside the bar and the mark, so that neither covers it.
        axes.text(max(ratio, figure.goal or 0.0), place, f"  {ratio:.2f}x", va="center")
        if figure.goal is not None:
            axes.plot([figure.goal] * 2, [place - 0.4, place + 0.4], color="black")
    axes.axvline(1.0, color="grey", linewidth=0.8, linestyle=":")
    axes.set_yticks(range(len(figures)), [figure.what for figure in figures])
    axes.set_ylim(-0.6, len(figures) - 0.4)
    axes.set_xlim(0.0, axes.get_xlim()[1] * 1.1)
    axes.set_xlabel("ours over the peer's, less is better\nthe black mark is the goal, orange is missed")
    axes.set_title(report.title)
    drawing.savefig(path)
    plt.close(drawing)
