"""``heliostat run script.py``: a script as if Python had started it, with a runtime behind it."""

from __future__ import annotations

import contextlib
import runpy
import signal
import sys
import traceback
from typing import TYPE_CHECKING

from heliostat import _handle

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path
    from types import FrameType

__all__ = ["run_script"]


def run_script(file: Path, arguments: list[str], timeout: float | None) -> int:
    """Run a script on a runtime of its own and return its exit code.

    The script finds ``sys.argv``, ``sys.path`` and ``__main__`` as under ``python script.py``,
    and Ray connected. The runtime is taken down when it ends.

    Raises
    ------
    HeliostatError
        The runtime did not come up; the script was not started.
    """
    _handle.init(wait=True)
    sys.argv = [str(file), *arguments]
    sys.path[0] = str(file.resolve().parent)
    try:
        with _alarm(timeout):
            runpy.run_path(str(file), run_name="__main__")
    except SystemExit as end:
        return _exit_code(end)
    except _TimeUpError:
        print(f"heliostat: {file} was stopped after {timeout:g} s.", file=sys.stderr)
        return 1
    except Exception as error:
        _print_from(file, error)
        return 1
    finally:
        _handle.shutdown()
    return 0


class _TimeUpError(BaseException):
    """Not an Exception, so that a script's own handlers let it pass."""


@contextlib.contextmanager
def _alarm(seconds: float | None) -> Iterator[None]:
    def ring(signum: int, frame: FrameType | None) -> None:
        raise _TimeUpError

    if seconds is None:
        yield
        return
    former = signal.signal(signal.SIGALRM, ring)
    signal.setitimer(signal.ITIMER_REAL, seconds)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, former)


def _exit_code(end: SystemExit) -> int:
    """Do with the argument of ``sys.exit`` what Python does."""
    if end.code is None:
        return 0
    if isinstance(end.code, int):
        return end.code
    print(end.code, file=sys.stderr)
    return 1


def _print_from(file: Path, error: Exception) -> None:
    """Print the traceback from the script's first frame on; ours say nothing to its author."""
    stack = error.__traceback__
    while stack is not None and stack.tb_frame.f_code.co_filename != str(file):
        stack = stack.tb_next
    traceback.print_exception(type(error), error, stack or error.__traceback__)
