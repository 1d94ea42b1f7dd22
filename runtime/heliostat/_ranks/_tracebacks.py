"""Tracebacks of a rank, trimmed to what the user wrote; and where a thread is, in one line."""

from __future__ import annotations

import linecache
import os
import sys
import sysconfig
from pathlib import Path
from types import FrameType, TracebackType
from typing import Any

from heliostat.exceptions import whole_tracebacks

__all__ = ["install", "where"]

_LIBRARIES = tuple(
    {
        os.path.realpath(path)
        for name in ("stdlib", "platstdlib", "purelib", "platlib")
        if (path := sysconfig.get_paths().get(name))
    }
)
_OWN = str(Path(__file__).resolve().parents[1])


def install(shell: Any) -> None:
    """Have ``shell`` show trimmed tracebacks; ``HELIOSTAT_TRACEBACK=1`` shows them whole."""
    whole = shell.InteractiveTB.structured_traceback

    def trimmed(
        kind: Any = None,
        error: Any = None,
        trace: Any = None,
        tb_offset: Any = None,
        *args: Any,
        **kwargs: Any,
    ) -> list[str]:
        if whole_tracebacks() or not isinstance(trace, TracebackType):
            shown: list[str] = whole(kind, error, trace, tb_offset, *args, **kwargs)
            return shown
        kept, left_out = trim(trace)
        shown = whole(kind, error, kept, 0, *args, **kwargs)
        return [*shown, f"(raised in {left_out})"] if left_out else shown

    shell.InteractiveTB.structured_traceback = trimmed


def trim(trace: TracebackType | None) -> tuple[TracebackType | None, str]:
    """Keep the frames of the user's code; returns as well what raised below them, if anything."""
    frames = []
    while trace is not None:
        frames.append(trace)
        trace = trace.tb_next
    kept = [each for each in frames if is_users(each.tb_frame)]
    if not kept:
        kept = frames[-2:]
    left_out = ""
    if frames[-1] is not kept[-1]:
        last = frames[-1]
        left_out = f"{_file(last.tb_frame)}:{last.tb_lineno}, {last.tb_frame.f_code.co_name}"
    built: TracebackType | None = None
    for each in reversed(kept):
        built = TracebackType(built, each.tb_frame, each.tb_lasti, each.tb_lineno)
    return built, left_out


def is_users(frame: FrameType) -> bool:
    """Whether the code of ``frame`` is the user's: a cell, or a file that nobody installed."""
    name = frame.f_code.co_filename
    if name.startswith("<"):
        return name.startswith("<ipython-input-")
    path = os.path.realpath(name)
    return not path.startswith(_OWN) and not any(path.startswith(folder + os.sep) for folder in _LIBRARIES)


def where(frame: FrameType | None) -> str | None:
    """Tell the innermost function, and the line of the user's code that led there."""
    if frame is None:
        return None
    innermost, user = frame, frame
    found: FrameType | None = frame
    while found is not None and not is_users(found):
        found = found.f_back
    user = found or innermost
    line = linecache.getline(user.f_code.co_filename, user.f_lineno).strip()
    place = f"{_file(user)}:{user.f_lineno}" + (f" `{line}`" if line else "")
    if user is innermost:
        return place
    return f"{innermost.f_code.co_name} ({_file(innermost)}:{innermost.f_lineno}), from {place}"


def _file(frame: FrameType) -> str:
    name = frame.f_code.co_filename
    # Cells are compiled under the name of a file in a temporary directory.
    return "cell" if "ipykernel_" in name else Path(name).name


def clear(error: BaseException | None) -> None:
    """Let go of what the frames of an error hold: arrays, and the GPU memory below them."""
    import traceback

    seen: set[int] = set()
    while error is not None and id(error) not in seen:
        seen.add(id(error))
        if error.__traceback__ is not None:
            traceback.clear_frames(error.__traceback__)
            for frame, _ in traceback.walk_tb(error.__traceback__):
                # Whoever showed the traceback had a copy made of the variables, which reading renews.
                _ = frame.f_locals
        error = error.__cause__ or error.__context__
    for name in ("last_exc", "last_value", "last_traceback", "last_type"):
        if hasattr(sys, name):
            setattr(sys, name, None)
