"""An interrupt of our own waiting: the cell's lines, not the stack of what waited."""

from __future__ import annotations

import traceback
from typing import Any

from heliostat.exceptions import whole_tracebacks

__all__ = ["install", "uninstall"]

_MARK = "_heliostat_whole_traceback"
_OWN = ("heliostat", "heliostat_magics")


def install(shell: Any) -> None:
    """Have a KeyboardInterrupt in our code shown short; ``HELIOSTAT_TRACEBACK=1`` shows it whole."""
    whole = shell.InteractiveTB.structured_traceback

    def shown(
        kind: Any = None,
        error: Any = None,
        trace: Any = None,
        tb_offset: Any = None,
        *args: Any,
        **kwargs: Any,
    ) -> list[str]:
        ours = isinstance(error, KeyboardInterrupt) and not whole_tracebacks()
        if ours and any(
            _is_own(frame.f_globals.get("__name__", "")) for frame, _ in traceback.walk_tb(trace)
        ):
            from heliostat._ranks._tracebacks import trim

            trace, tb_offset = trim(trace)[0], 0
        lines: list[str] = whole(kind, error, trace, tb_offset, *args, **kwargs)
        return lines

    setattr(shell, _MARK, whole)
    shell.InteractiveTB.structured_traceback = shown


def uninstall(shell: Any) -> None:
    """Have the shell show tracebacks as before."""
    shell.InteractiveTB.structured_traceback = getattr(shell, _MARK)
    delattr(shell, _MARK)


def _is_own(name: str) -> bool:
    return name.partition(".")[0] in _OWN
