"""``%runtime`` as HTML: inline styles only, in the colours of whatever theme is around it.

JupyterLab's CSS variables are used where they exist; the fallbacks are translucent or
inherited, so they read on a light page and on a dark one.
"""

from __future__ import annotations

from html import escape
from typing import TYPE_CHECKING

from heliostat_magics._bar import BLUE, bar_html

if TYPE_CHECKING:
    from collections.abc import Iterable

    from heliostat_magics._view import Fact, RuntimeView

__all__ = ["render"]

_SOFT = "color:var(--jp-ui-font-color2,inherit);"
_MONO = "font-family:var(--jp-code-font-family,monospace);font-size:12px;"
_CARD = (
    "box-sizing:border-box;max-width:600px;padding:12px 16px;margin:4px 0;border-radius:6px;"
    "border:1px solid var(--jp-border-color2,rgba(128,128,128,.35));"
    "font-family:var(--jp-ui-font-family,system-ui,sans-serif);font-size:13px;line-height:1.5;"
    "color:var(--jp-ui-font-color1,inherit);"
)
_GRID = "display:grid;grid-template-columns:max-content 1fr;gap:3px 20px;align-items:center;margin-top:8px;"
_LOG = (
    "margin:4px 0 0;padding:8px;max-height:200px;overflow:auto;white-space:pre-wrap;border-radius:4px;"
    "color:inherit;background:var(--jp-layout-color2,rgba(128,128,128,.12));"
)
_GOOD = "var(--jp-success-color1,#388e3c)"
_BUSY = BLUE
_WARN = "var(--jp-warn-color1,#f57c00)"
_BAD = "var(--jp-error-color1,#d32f2f)"
_QUIET = "var(--jp-ui-font-color3,#888)"

_STATE_COLOURS = {
    "ready": _GOOD,
    "starting": _BUSY,
    "resizing": _BUSY,
    "stopping": _BUSY,
    "degraded": _WARN,
    "failed": _BAD,
    "lost": _BAD,
}
_NEARLY_FULL = 0.9


def render(view: RuntimeView) -> str:
    """Return the card of a runtime; everything that came from outside is escaped."""
    parts = [_heading(view)]
    if view.message:
        parts.append(f'<div style="margin-top:4px">{escape(view.message)}</div>')
    if view.facts:
        rows = "".join(_row(fact) for fact in view.facts)
        parts.append(f'<div style="{_GRID}">{rows}</div>')
    parts.append(_timeline("Boot", view.steps))
    parts.append(_timeline("States", view.transitions))
    if view.log:
        lines = escape("\n".join(view.log))
        parts.append(f'{_caption("Log")}<pre style="{_MONO}{_LOG}">{lines}</pre>')
    return f'<div style="{_CARD}">{"".join(parts)}</div>'


def _heading(view: RuntimeView) -> str:
    colour = _STATE_COLOURS.get(view.state, _QUIET)
    dot = (
        '<span style="display:inline-block;width:9px;height:9px;border-radius:50%;'
        f'margin-right:8px;background:{colour}"></span>'
    )
    name = escape(view.status.runtime_id) if view.status else ""
    return (
        '<div style="display:flex;align-items:baseline;gap:8px">'
        f'<span style="font-weight:600">{dot}{escape(view.title)}</span>'
        f'<span style="{_SOFT}{_MONO}margin-left:auto">{name}</span></div>'
    )


def _row(fact: Fact) -> str:
    return (
        f'<div style="{_SOFT}">{escape(fact.label)}</div>'
        '<div style="display:flex;align-items:center;gap:10px;min-width:0">'
        f'{_bar(fact)}<span style="overflow-wrap:anywhere">{escape(fact.text)}</span></div>'
    )


def _bar(fact: Fact) -> str:
    if fact.share is None:
        return ""
    return bar_html(fact.share, _WARN if fact.harmful and fact.share >= _NEARLY_FULL else _BUSY)


def _caption(text: str) -> str:
    return f'<div style="{_SOFT}margin-top:10px;font-weight:600">{escape(text)}</div>'


def _timeline(caption: str, rows: Iterable[tuple[str, str]]) -> str:
    cells = "".join(
        f'<div style="{_MONO}text-align:right">{escape(at)}</div><div>{escape(text)}</div>'
        for at, text in rows
    )
    if not cells:
        return ""
    return f'{_caption(caption)}<div style="{_GRID}margin-top:2px;gap:1px 14px">{cells}</div>'
