"""The Heliostat magics: an IPython extension, one file per magic.

The Heliostat kernel loads it at start. In any other IPython kernel ``%load_ext heliostat``
does, and what first needs a runtime there (``%runtime start``, ``heliostat.init()``) starts it.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from IPython.core.interactiveshell import InteractiveShell

__all__ = ["load_ipython_extension", "unload_ipython_extension"]


def load_ipython_extension(shell: InteractiveShell) -> None:
    """Register magics, completions and cell events; loading twice is loading once."""
    from heliostat_magics._events import CellEvents
    from heliostat_magics.resize import ResizeMagic
    from heliostat_magics.runtime import RuntimeMagic

    if CellEvents.of(shell) is not None:
        return
    CellEvents.install(shell)
    RuntimeMagic.install(shell)
    ResizeMagic.install(shell)


def unload_ipython_extension(shell: InteractiveShell) -> None:
    """Take back everything that loading registered; the runtime itself is left alone."""
    from heliostat_magics._events import CellEvents
    from heliostat_magics.resize import ResizeMagic
    from heliostat_magics.runtime import RuntimeMagic

    events = CellEvents.of(shell)
    if events is None:
        return
    events.uninstall()
    RuntimeMagic.uninstall(shell)
    ResizeMagic.uninstall(shell)
