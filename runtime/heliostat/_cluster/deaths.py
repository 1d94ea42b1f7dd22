"""Keep Ray's own notes about deaths out of the notebook, where we explain them ourselves.

Ray prints a paragraph about each process that ends under a task, seconds later and into whatever
cell runs then. Whoever tells the user about the end of a process says so here before it ends.
"""

from __future__ import annotations

import re
from typing import Any

from heliostat._cluster import compat

__all__ = ["explained_elsewhere"]

_NOTE = re.compile(r"A worker died or was killed.*Worker PID: (?P<pid>\d+)", re.DOTALL)
_pids: set[int] = set()
_wrapped: list[Any] = []


def explained_elsewhere(pid: int) -> None:
    """Have Ray say nothing about the end of the worker ``pid``, now and later."""
    _pids.add(pid)
    if _wrapped or not compat.has("notes about deaths"):
        return
    from ray._private import worker

    show = worker.print_to_stdstream
    _wrapped.append(show)

    def show_others(data: dict[str, Any], *args: Any, **kwargs: Any) -> None:
        note = _NOTE.search("\n".join(map(str, data.get("lines", ()))))
        if note is None or int(note["pid"]) not in _pids:
            show(data, *args, **kwargs)

    worker.print_to_stdstream = show_others
