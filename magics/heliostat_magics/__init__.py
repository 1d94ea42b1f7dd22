"""The Heliostat magics: an IPython extension, one file per magic.

The Heliostat kernel loads it at start. In any other IPython kernel ``%load_ext heliostat``
does, and what first needs a runtime there (``%runtime start``, ``heliostat.init()``) starts it.
"""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from IPython.core.interactiveshell import InteractiveShell

__all__ = ["load_ipython_extension", "unload_ipython_extension"]


def load_ipython_extension(shell: InteractiveShell) -> None:
    """Register magics, completions and cell events; loading twice is loading once.

    A magic whose name somebody else has is registered under another one, and that is said.
    """
    from heliostat import _owner
    from heliostat_magics import _interrupts
    from heliostat_magics._base import Magics
    from heliostat_magics._events import CellEvents
    from heliostat_magics._table import MAGICS

    if CellEvents.of(shell) is not None:
        return
    kernel = getattr(shell, "kernel", None)
    if kernel is not None:
        # In a kernel that is not ours too: the server finds the runtime by it.
        _owner.note_kernel(getattr(kernel.parent, "connection_file", ""))
    CellEvents.install(shell)
    _interrupts.install(shell)
    for sentence in Magics.install(shell, MAGICS):
        print(sentence, file=sys.stderr)


def unload_ipython_extension(shell: InteractiveShell) -> None:
    """Take back everything that loading registered; the runtime itself is left alone."""
    from heliostat_magics import _interrupts
    from heliostat_magics._base import Magics
    from heliostat_magics._events import CellEvents

    events, magics = CellEvents.of(shell), Magics.of(shell)
    if events is not None:
        events.uninstall()
        _interrupts.uninstall(shell)
    if magics is not None:
        magics.uninstall()
