"""Heliostat: a Ray-backed machine-learning runtime behind a notebook.

In a notebook on the Heliostat kernel the runtime is there already; ``runtime()`` is its handle.
In a script, ``init()`` starts one::

    import heliostat

    runtime = heliostat.init(cpus=2)
    print(runtime.status().resources)
    heliostat.shutdown()
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from heliostat._handle import init, shutdown
    from heliostat._runtime import Runtime
    from heliostat.context import get_active_session
    from heliostat.exceptions import HeliostatError

__all__ = [
    "HeliostatError",
    "Runtime",
    "__version__",
    "get_active_session",
    "init",
    "load_ipython_extension",
    "runtime",
    "shutdown",
    "unload_ipython_extension",
]

__version__ = "0.1.0"

_LAZY = {
    "HeliostatError": "heliostat.exceptions",
    "Runtime": "heliostat._runtime",
    "get_active_session": "heliostat.context",
    "init": "heliostat._handle",
    "shutdown": "heliostat._handle",
}
_MAGICS = "heliostat_magics"


def __getattr__(name: str) -> Any:
    if name in _LAZY:
        return getattr(importlib.import_module(_LAZY[name]), name)
    message = f"module 'heliostat' has no attribute {name!r}"
    raise AttributeError(message)


def __dir__() -> list[str]:
    return sorted(__all__)


def runtime() -> Runtime:
    """Return the runtime of this process, started if there is none, and wait until it is ready.

    Raises
    ------
    BootError
        It did not come up.
    """
    from heliostat._handle import init as start

    return start()


def load_ipython_extension(shell: Any) -> None:
    """``%load_ext heliostat``: the magics, in any IPython kernel."""
    importlib.import_module(_MAGICS).load_ipython_extension(shell)


def unload_ipython_extension(shell: Any) -> None:
    """``%unload_ext heliostat``."""
    importlib.import_module(_MAGICS).unload_ipython_extension(shell)
