"""Where a notebook or a script gets its session from."""

from __future__ import annotations

import os
import threading

from heliostat._session import Session

__all__ = ["get_active_session"]

_lock = threading.Lock()
_active: Session | None = None


def _after_fork() -> None:
    """Another thread may have held the lock when this process was forked."""
    global _lock  # noqa: PLW0603
    _lock = threading.Lock()


os.register_at_fork(after_in_child=_after_fork)


def get_active_session() -> Session:
    """Return the session of this process; the first call opens the embedded warehouse.

    Works in the kernel, in ranks and in Ray's workers alike. After ``close()`` the next call opens
    it again.

    Raises
    ------
    ConfigurationError
        The warehouse file cannot be opened; the message says why.
    """
    global _active  # noqa: PLW0603 - one session per process is the contract
    with _lock:
        if _active is None or _active.closed:
            _active = Session()
        return _active


def session_at(path: str) -> Session:
    """Return the active session if it is that of ``path``, else a new one; unpickles sessions."""
    from pathlib import Path

    from heliostat._session import warehouse_path

    return get_active_session() if Path(path) == warehouse_path() else Session(path)
