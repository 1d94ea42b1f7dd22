"""The group of this process: started when it is first needed, kept while its runtime lives."""

from __future__ import annotations

import atexit
import threading
from typing import TYPE_CHECKING

from heliostat._crew import set_crew
from heliostat._ranks._group import RankGroup
from heliostat._ranks._plan import Wish

if TYPE_CHECKING:
    from heliostat._runtime import Runtime

__all__ = ["current", "start", "stop"]

_lock = threading.RLock()
_group: RankGroup | None = None
_runtime: str | None = None
"""Identity of the runtime that the group lives on."""


def current() -> RankGroup | None:
    """Return the group, if one was started and its runtime is still the same."""
    from heliostat import _handle

    with _lock:
        if _group is None:
            return None
        runtime = _handle.current()
        gone = runtime is None or not runtime.alive or runtime.failed or _identity(runtime) != _runtime
        if gone or not _group.alive:
            stop()
        return _group


def start(wish: Wish = Wish()) -> RankGroup:  # noqa: B008 - frozen
    """Return the group, started now if there is none. Starts the runtime as well.

    Raises
    ------
    BootError
        The runtime did not come up.
    ConfigurationError, RankError
        The group cannot be had.
    """
    global _group, _runtime  # noqa: PLW0603 - one group a process
    from heliostat import _handle

    with _lock:
        found = current()
        if found is None:
            runtime = _handle.init()
            _group = found = RankGroup.start(wish)
            _runtime = _identity(runtime)
            set_crew(found)
            atexit.register(stop)
    return found


def stop() -> None:
    """End the group, if there is one."""
    global _group
    with _lock:
        group, _group = _group, None
        set_crew(None)
    atexit.unregister(stop)
    if group is not None:
        group.close()


def _identity(runtime: Runtime) -> str | None:
    """Tell runtimes apart, and a restarted one from itself before."""
    from heliostat._cluster.driver import connected_to

    address = connected_to()
    return None if address is None else f"{runtime.runtime_id} {address}"
