"""Which processes hold a warehouse, in words for whoever waits for it."""

from __future__ import annotations

import contextlib
import os
from pathlib import Path

from heliostat.exceptions import WarehouseBusyError


def holders(path: Path) -> list[int]:
    """Find the processes that have the lock of ``path``, or its file, locked; empty if it cannot be told."""
    wanted = set()
    for file in (path, path.with_name(path.name + ".lock")):
        with contextlib.suppress(OSError):
            wanted.add(file.stat().st_ino)
    found = set()
    with contextlib.suppress(OSError):
        for line in Path("/proc/locks").read_text().splitlines():
            fields = line.split()
            # "1: FLOCK ADVISORY WRITE 4242 08:01:131 0 EOF"; with "->" one that waits.
            if len(fields) == 8 and int(fields[5].rpartition(":")[2]) in wanted:
                found.add(int(fields[4]))
    return sorted(found - {os.getpid()})


def lock_message(path: Path, pids: list[int], purpose: str) -> WarehouseBusyError:
    """Say who has the warehouse and what can be done."""
    who = " and ".join(f"{pid} ({command(pid) or 'unknown'})" for pid in pids[:3]) or "another process"
    message = f"The warehouse {path} could not be opened to {purpose}: it is in use by process {who}."
    action = (
        "Wait until the query, transaction or result there has ended, or end that process;"
        " HELIOSTAT_WAREHOUSE_WAIT sets how many seconds are waited."
    )
    return WarehouseBusyError(message, action, path=str(path), pids=pids)


def command(pid: int) -> str:
    """What a process is, as the user would know it; empty when it cannot be told."""
    import psutil

    try:
        process = psutil.Process(pid)
        words, notebook = " ".join(process.cmdline())[:120], process.environ().get("JPY_SESSION_NAME", "")
    except psutil.Error:
        return ""
    return f"{Path(notebook).name}: {words}" if notebook.endswith(".ipynb") else words
