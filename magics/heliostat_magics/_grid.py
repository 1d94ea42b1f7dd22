"""Rows as a table: aligned text for terminals, HTML for notebooks. Pure."""

from __future__ import annotations

from dataclasses import dataclass
from decimal import Decimal
from html import escape
from typing import TYPE_CHECKING, Any

from heliostat_magics._bar import Bar

if TYPE_CHECKING:
    from collections.abc import Sequence

__all__ = ["Grid", "grid_of"]

_WIDEST = 60
_MOST_COLUMNS = 20
_NARROW = 20
"""Characters of a value that is never broken into lines."""


@dataclass(frozen=True, repr=False)
class Grid:
    """A table that shows itself."""

    columns: Sequence[str]
    rows: Sequence[Sequence[Any]]
    note: str = ""
    """A sentence below the table."""
    title: str = ""

    def __repr__(self) -> str:
        cells = [[_text(value) for value in row] for row in self.rows]
        heads = [_clipped(name) for name in self.columns]
        widths = [max(map(len, column)) for column in zip(heads, *cells, strict=True)]
        right = self._numeric()
        lines = [_line(heads, widths, right), "  ".join("-" * width for width in widths)]
        lines += [_line(row, widths, right) for row in cells]
        parts = [self.title, *[line.rstrip() for line in lines], self.note]
        return "\n".join(part for part in parts if part)

    def _repr_html_(self) -> str:
        right = self._numeric()
        narrow = [
            max(len(_text(value)) for value in (name, *column)) <= _NARROW
            for name, *column in zip(self.columns, *self.rows, strict=True)
        ]
        styles = [
            f' style="text-align:{"right" if number else "left"}{";white-space:nowrap" if small else ""}"'
            for number, small in zip(right, narrow, strict=True)
        ]
        heads = "".join(
            f"<th{style}>{escape(str(name))}</th>" for name, style in zip(self.columns, styles, strict=True)
        )
        rows = "".join(
            f"<tr>{''.join(f'<td{s}>{_html(v)}</td>' for v, s in zip(row, styles, strict=True))}</tr>"
            for row in self.rows
        )
        soft = "color:var(--jp-ui-font-color2,inherit);font-size:12px;margin:2px 0"
        title = f'<div style="font-weight:600;margin:4px 0">{escape(self.title)}</div>' if self.title else ""
        note = f'<div style="{soft}">{escape(self.note)}</div>' if self.note else ""
        return f"{title}<table><thead><tr>{heads}</tr></thead><tbody>{rows}</tbody></table>{note}"

    def _numeric(self) -> list[bool]:
        """Which columns hold numbers and nothing else."""
        columns = list(zip(*self.rows, strict=True)) if self.rows else [()] * len(self.columns)
        return [bool(column) and all(_is_number(value) for value in column) for column in columns]


def grid_of(table: Any, note: str = "") -> Grid:
    """Show a pyarrow Table; columns beyond the first 20 are named in the note."""
    names: list[str] = list(table.column_names)
    shown = names[:_MOST_COLUMNS]
    columns = [table.column(index).to_pylist() for index in range(len(shown))]
    if len(names) > len(shown):
        note = f"{note} {len(names) - len(shown)} more columns: {', '.join(names[len(shown) :])}.".strip()
    return Grid(shown, list(zip(*columns, strict=True)), _clipped(note, 400))


def _is_number(value: Any) -> bool:
    return value is None or (isinstance(value, int | float | Decimal) and not isinstance(value, bool))


def _line(cells: Sequence[str], widths: Sequence[int], right: Sequence[bool]) -> str:
    return "  ".join(
        cell.rjust(width) if number else cell.ljust(width)
        for cell, width, number in zip(cells, widths, right, strict=True)
    )


def _text(value: Any) -> str:
    if value is None:
        return "NULL"
    if isinstance(value, float):
        return f"{value:.6g}"
    if isinstance(value, bytes):
        return f"{len(value)} bytes"
    return _clipped(value)


def _html(value: Any) -> str:
    if isinstance(value, Bar):
        return value.html
    soft = "color:var(--jp-ui-font-color3,#888)"
    return f'<span style="{soft}">NULL</span>' if value is None else escape(_text(value))


def _clipped(value: Any, widest: int = _WIDEST) -> str:
    text = str(value).replace("\n", "⏎").replace("\r", "").replace("\t", " ")
    return text if len(text) <= widest else text[: widest - 1] + "…"
