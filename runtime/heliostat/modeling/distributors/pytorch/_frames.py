"""Stacks made short: the lines that a user wrote, and where in their notebook these are."""

from __future__ import annotations

import linecache
import re
import sys
import sysconfig
from pathlib import Path
from typing import TYPE_CHECKING, Any

from heliostat.modeling.distributors.pytorch._job import Frame

if TYPE_CHECKING:
    from collections.abc import Sequence
    from types import TracebackType

_THREAD = re.compile(r"^(?:Current t|T)hread 0x[0-9a-f]+.*$", re.MULTILINE)
_LINE = re.compile(r'^  File "(?P<file>.*)", line (?P<line>\d+) in (?P<function>.*)$', re.MULTILINE)
_COLLECTIVE = re.compile(r"[/\\]torch[/\\](distributed|nn[/\\]parallel)[/\\]")
_BACKWARD = re.compile(r"[/\\]torch[/\\]autograd[/\\]graph\.py$")
_LOST = re.compile(
    r"connection (?:closed|reset|refused)|broken pipe|gloo|nccl|socket|store|peer", re.IGNORECASE
)


def frames_of(trace: TracebackType | None, below: str) -> list[Frame]:
    """Frames of a traceback, outermost first, from the caller of ``train_func`` on.

    ``below`` is the file whose last frame is that caller; it is left out itself.
    """
    found = []
    while trace is not None:
        code = trace.tb_frame.f_code
        found.append(Frame(code.co_filename, trace.tb_lineno, code.co_qualname))
        trace = trace.tb_next
    last = max((index for index, frame in enumerate(found) if frame.file == below), default=-1)
    return found[last + 1 :]


def parse_stacks(text: str, below: str, function: str) -> list[Frame]:
    """Of stacks that the interpreter wrote, take the thread that runs ``function``, outermost first.

    ``below`` is the file of that function; the stack begins with the last frame in it.
    """
    for part in _THREAD.split(text)[1:]:
        found = [Frame(m["file"], int(m["line"]), m["function"]) for m in _LINE.finditer(part)]
        found.reverse()
        ours = [index for index, frame in enumerate(found) if frame.file == below]
        # Other threads of ours, which have frames of that file too, do not begin in that function.
        if any(found[index].function == function for index in ours):
            return found[ours[-1] :]
    return []


def in_collective(frames: Sequence[Frame]) -> bool:
    """Whether a stack ends inside of torch's distributed code."""
    return any(_COLLECTIVE.search(frame.file) for frame in frames[-6:])


def is_lost_peer(error: BaseException, frames: Sequence[Frame]) -> bool:
    """Whether an exception only tells that the connection to another rank broke."""
    if not isinstance(error, RuntimeError) or not frames:
        return False
    inner = frames[-1].file
    from_torch = bool(_COLLECTIVE.search(inner) or _BACKWARD.search(inner))
    named = type(error).__name__.startswith("Dist") and type(error).__module__.startswith("torch")
    return (from_torch or named) and bool(_LOST.search(str(error)))


def is_own(frame: Frame) -> bool:
    """Whether a user wrote the line: it is of a notebook, or of a file that no package installed."""
    if frame.file.startswith("<") and not frame.file.startswith(("<ipython", "<stdin", "<doc", "<string")):
        return False
    installed = (sysconfig.get_path("stdlib"), sysconfig.get_path("purelib"), sysconfig.get_path("platlib"))
    own = str(Path(__file__).parents[3])
    return not frame.file.startswith((*installed, own))


def user_frames(frames: Sequence[Frame]) -> list[Frame]:
    """Those that a user wrote; all of them where none is."""
    return [frame for frame in frames if is_own(frame)] or list(frames)


def place(frame: Frame) -> str:
    """Say where a frame is, as IPython would: ``Cell In[3], line 7``."""
    shell = _shell()
    if shell is not None:
        named = shell.compile.format_code_name(frame.file)
        if named is not None:
            return f"{named[0]} {named[1]}, line {frame.line}"
    return f"{frame.file}:{frame.line}"


def source(frame: Frame) -> str:
    """The text of the line, where this process can read it."""
    return linecache.getline(frame.file, frame.line).strip()


def listing(frames: Sequence[Frame]) -> str:
    """Several frames, one under the other, with their text."""
    lines = []
    for frame in frames:
        lines.append(f"  {place(frame)}, in {frame.function}")
        if text := source(frame):
            lines.append(f"    {text}")
    return "\n".join(lines)


def _shell() -> Any:
    ipython = sys.modules.get("IPython")
    return None if ipython is None else ipython.get_ipython()
