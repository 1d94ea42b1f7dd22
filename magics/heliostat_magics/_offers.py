"""Names from outside of the notebook that Tab offers: connections, datasets, work."""

from __future__ import annotations

import glob
import os
import re
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from heliostat_magics._parser import Scope

__all__ = ["connection_names", "is_duckdb", "known_connection", "open_tables", "paths"]

_URI = re.compile(r"(?:postgres(?:ql)?|sqlite):\S+")


def connection_names(scope: Scope) -> list[str]:
    """Offer databases by name, and variables that hold a DuckDB connection."""
    from heliostat._connections import connections

    own = [name for name, value in scope.namespace.items() if is_duckdb(value) and name[0] != "_"]
    return [*connections(), *own]


def known_connection(word: str) -> bool:
    """Whether a word is the name or the URI of a database."""
    if _URI.fullmatch(word):
        return True
    if not re.fullmatch(r"[A-Za-z][\w-]*", word):
        return False
    from heliostat._connections import connections

    return word.lower() in connections()


def is_duckdb(value: Any) -> bool:
    """Whether ``value`` is an open DuckDB connection."""
    return "DuckDBPyConnection" in [kind.__name__ for kind in type(value).__mro__]


def open_tables() -> list[str]:
    """Tables of the session, if one is open: Tab opens no file."""
    from heliostat import context

    session = getattr(context, "_active", None)
    return session.tables() if session is not None and not session.closed else []


def paths(scope: Scope) -> list[str]:
    """Offer files and directories below the working directory."""
    found = sorted(glob.glob(f"{glob.escape(scope.fragment)}*"))[:100]  # noqa: PTH207 - keeps the spelling
    return [path + os.sep if os.path.isdir(path) else path for path in found]  # noqa: PTH112
