"""Where a notebook or a script gets its session from."""

from __future__ import annotations

import threading

from heliostat._session import Session

__all__ = ["get_active_session"]

_lock = threading.Lock()
_active: Session | None = None


def get_active_session() -> Session:
    """Return the session of this process; the first call opens the embedded warehouse.

    After ``close()`` the next call opens it again.

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
