"""A picture of one task: how far it is, its metrics now and so far, as text and as HTML. Pure."""

from __future__ import annotations

import re
from dataclasses import dataclass
from html import escape
from typing import TYPE_CHECKING, TypeAlias

from heliostat_magics._bar import bar_html
from heliostat_magics._format import amount, duration, metrics, share, size

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from heliostat._progress import TaskSnapshot

__all__ = ["History", "TaskView"]

_MOST_POINTS = 200
_MOST_LINES = 4
_WIDTH, _HEIGHT = 360, 100
_MARGIN = 48
"""On the right, for the ends of the scale."""
_NOT_DRAWN = frozenset({"epoch", "step", "step_seconds", "steps_per_second"})
"""How far and how fast a training is would hide how good it is."""
_COLOURS = ("#1976d2", "#f57c00", "#388e3c", "#8e24aa")
_STATES = {"running": "#1976d2", "done": "#388e3c", "failed": "#d32f2f", "cancelled": "#888"}

Points: TypeAlias = "Sequence[tuple[float, float]]"


class History:
    """The values of each metric so far; when there are many, every second one is forgotten."""

    def __init__(self) -> None:
        self._points: dict[str, list[tuple[float, float]]] = {}
        self._last: dict[str, float] = {}

    def add(self, task: TaskSnapshot) -> None:
        """Take in a snapshot; a metric counts once for each amount that is done."""
        for name, value in task.metrics.items():
            if self._last.get(name) == task.done or value != value:  # noqa: PLR0124 - not a number
                continue
            self._last[name] = task.done
            points = self._points.setdefault(name, [])
            points.append((float(task.done), float(value)))
            if len(points) > _MOST_POINTS:
                del points[1:-1:2]

    def points(self) -> dict[str, Points]:
        """Points of each metric, as they are now."""
        return {name: tuple(points) for name, points in self._points.items()}


@dataclass(frozen=True, repr=False)
class TaskView:
    """A task at one moment."""

    task: TaskSnapshot
    history: Mapping[str, Points]
    now: float

    @property
    def line(self) -> str:
        """Everything in one line."""
        task = self.task
        parts = [f"{task.name}: {amount(task) or task.state.value}"]
        parts += metrics(task)
        parts.append(duration((task.ended_at or self.now) - task.started_at))
        rest = self._seconds_left
        if rest is not None:
            parts.append(f"about {duration(rest)} left")
        if task.state.finished and amount(task):
            parts.append(task.state.value)
        return ", ".join(parts) + (f" ({task.message})" if task.message else "")

    def __repr__(self) -> str:
        return self.line

    def _repr_html_(self) -> str:
        task = self.task
        soft = "color:var(--jp-ui-font-color2,inherit)"
        colour = _STATES[task.state.value]
        facts = [amount(task), duration((task.ended_at or self.now) - task.started_at)]
        if self._seconds_left is not None:
            facts.append(f"about {duration(self._seconds_left)} left")
        facts += [_workers(task)]
        said = " · ".join(escape(fact) for fact in facts if fact)
        message = f'<div style="{soft}">{escape(task.message)}</div>' if task.message else ""
        return (
            '<div style="font-family:var(--jp-ui-font-family,system-ui,sans-serif);font-size:13px;'
            'max-width:600px;margin:4px 0">'
            f'<div><b>{escape(task.name)}</b> <span style="color:{colour}">{task.state.value}</span>'
            f' <span style="{soft}">{said}</span></div>{_bar(self.task, colour)}{message}{self._plot()}</div>'
        )

    @property
    def _seconds_left(self) -> float | None:
        task = self.task
        if task.state.finished or not task.total or not 0 < task.done < task.total:
            return None
        return (self.now - task.started_at) * (task.total - task.done) / task.done

    def _plot(self) -> str:
        lines_of = [(name, points) for name, points in self.history.items() if len(points) > 1]
        drawn = ([each for each in lines_of if each[0] not in _NOT_DRAWN] or lines_of)[:_MOST_LINES]
        now = [
            f"{_square(drawn, name)}{escape(name)} {value:.4g}" for name, value in self.task.metrics.items()
        ]
        legend = f'<div style="margin-top:2px">{" &nbsp; ".join(now)}</div>' if now else ""
        if not drawn:
            return legend
        scales, width = _scales(drawn), _WIDTH
        lines = "".join(
            f'<polyline fill="none" stroke="{_COLOURS[index]}" stroke-width="1.5"'
            f' points="{_path(points, scales[_kind(name)])}"/>'
            for index, (name, points) in enumerate(drawn)
        )
        if len(scales) == 1:
            ((low, high),) = scales.values()
            lines += _label(high, 12) + _label(low, _HEIGHT - 5)
            width += _MARGIN
        names = escape(", ".join(name for name, _ in drawn))
        frame = (
            "border:1px solid var(--jp-border-color2,rgba(128,128,128,.35));border-radius:4px;margin-top:4px"
        )
        return (
            f'<svg role="img" aria-label="{names} so far" width="{width}"'
            f' height="{_HEIGHT}" viewBox="0 0 {width} {_HEIGHT}" style="{frame}">{lines}</svg>{legend}'
        )


def _bar(task: TaskSnapshot, colour: str) -> str:
    done = share(task.done, task.total)
    return "" if done is None else bar_html(done, colour, "margin:4px 0")


def _kind(name: str) -> str:
    """What a metric measures, whatever set it is of: ``train-rmse`` and ``eval-rmse`` are one kind."""
    return re.split(r"[-/]", re.sub(r"^(?:train|val|valid|eval|test)_", "", name))[-1]


def _scales(drawn: Sequence[tuple[str, Points]]) -> dict[str, tuple[float, float]]:
    """Least and greatest value of each kind, so that curves of one kind can be compared."""
    values: dict[str, list[float]] = {}
    for name, points in drawn:
        values.setdefault(_kind(name), []).extend(y for _, y in points)
    return {kind: (min(found), max(found)) for kind, found in values.items()}


def _label(value: float, y: int) -> str:
    return (
        f'<text x="{_WIDTH + 4}" y="{y}" font-size="10" fill="var(--jp-ui-font-color2,gray)">'
        f"{value:.3g}</text>"
    )


def _path(points: Points, scale: tuple[float, float]) -> str:
    """Points on the picture."""
    xs = [x for x, _ in points]
    left, width = min(xs), (max(xs) - min(xs)) or 1.0
    low, height = scale[0], (scale[1] - scale[0]) or 1.0
    return " ".join(
        f"{4 + (x - left) / width * (_WIDTH - 8):.1f},{_HEIGHT - 4 - (y - low) / height * (_HEIGHT - 8):.1f}"
        for x, y in points
    )


def _square(drawn: Sequence[tuple[str, Points]], name: str) -> str:
    names = [each for each, _ in drawn]
    return f'<span style="color:{_COLOURS[names.index(name)]}">■</span> ' if name in names else ""


def _workers(task: TaskSnapshot) -> str:
    if not task.workers:
        return ""
    known = [worker.memory_bytes for worker in task.workers if worker.memory_bytes is not None]
    memory = f", {size(sum(known))}" if known else ""
    return f"{len(task.workers)} worker{'' if len(task.workers) == 1 else 's'}{memory}"
