"""Where a notebook or a script gets its session from."""

from __future__ import annotations

import os
import threading
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING

from heliostat._session import Session
from heliostat._settings import guard_of, share
from heliostat._warehouse import elsewhere, warehouse_path
from heliostat.exceptions import ConfigurationError

if TYPE_CHECKING:
    from heliostat._settings import Place

__all__ = ["Session", "get_active_session"]

_lock = threading.Lock()
_active: Session | None = None


def _after_fork() -> None:
    """Another thread may have held the lock when this process was forked."""
    global _lock  # noqa: PLW0603
    _lock = threading.Lock()


os.register_at_fork(after_in_child=_after_fork)


def get_active_session() -> Session:
    """Return the session of this process; the first call opens the embedded warehouse.

    Works in the kernel, in ranks and in Ray's workers alike: they have the warehouse of the notebook
    they work for. After ``close()``, or when ``HELIOSTAT_WAREHOUSE`` names another warehouse, the
    next call opens another session.

    Raises
    ------
    ConfigurationError
        The warehouse file cannot be opened, or it is on another machine; the message says why.
    """
    global _active  # noqa: PLW0603 - one session per process is the contract
    with _lock:
        path = warehouse_path()
        if _active is None or _active.closed or _active.path != path:
            _active = Session(path)
        share(path)
        return _active


def share_settings() -> None:
    """As a driver: let workers know what settings are now. Called before each cell; never raises."""
    with suppress(ConfigurationError, OSError, RuntimeError):
        share(warehouse_path())


def session_at(path: str, place: Place) -> Session:
    """Return the active session if it is that of ``path``, else a new one; unpickles sessions.

    Raises
    ------
    ConfigurationError
        The file, which was at ``place``, is not reached from here.
    """
    if not place.is_here(guard_of(Path(path))):
        raise elsewhere(path, place)
    with suppress(ConfigurationError):
        if Path(path) == warehouse_path():
            return get_active_session()
    return Session(path)
