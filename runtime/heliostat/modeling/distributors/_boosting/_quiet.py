"""Keep libraries from writing to the output of a notebook what is of no use there."""

from __future__ import annotations

import contextlib
import ctypes
import os
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator


@contextlib.contextmanager
def silence() -> Iterator[None]:
    """Swallow what C code prints when ranks join, which no setting of verbosity turns off."""
    kept = [os.dup(1), os.dup(2)]
    nothing = os.open(os.devnull, os.O_WRONLY)
    flush_all = ctypes.CDLL(None).fflush
    try:
        os.dup2(nothing, 1)
        os.dup2(nothing, 2)
        yield
        flush_all(None)
    finally:
        os.dup2(kept[0], 1)
        os.dup2(kept[1], 2)
        for descriptor in (*kept, nothing):
            os.close(descriptor)
