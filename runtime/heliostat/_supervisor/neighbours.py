"""Whose a process is that is on our GPU and not ours: the runtimes of other notebooks of this user."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

from heliostat._supervisor import procfs
from heliostat._supervisor.manifest import list_manifests
from heliostat.exceptions import HeliostatError

if TYPE_CHECKING:
    from heliostat._messages.runtime import Manifest

_SECONDS_KNOWN = 5.0
_DEEPEST = 50


class Neighbours:
    """Finds the kernel whose runtime a process belongs to. Reads files only when it is asked."""

    def __init__(self, own_runtime_id: str, proc: str = "/proc") -> None:
        self._own, self._proc = own_runtime_id, proc
        self._roots: dict[int, str | None] = {}
        self._read_at = -_SECONDS_KNOWN

    def kernel_of(self, pid: int) -> str | None:
        """Kernel of the runtime that ``pid`` descends from; ``None`` where there is none that is known."""
        roots = self._other_runtimes()
        for _ in range(_DEEPEST):
            if pid in roots:
                return roots[pid]
            stat = procfs.read_stat(self._proc, pid) if roots else None
            if stat is None or stat.parent <= 1:
                return None
            pid = stat.parent
        return None

    def _other_runtimes(self) -> dict[int, str | None]:
        now = time.monotonic()
        if now - self._read_at >= _SECONDS_KNOWN:
            self._read_at = now
            self._roots = {
                pid: manifest.owner.kernel_id
                for manifest in self._manifests()
                for pid in (manifest.owner.pid, manifest.supervisor.pid)
            }
        return self._roots

    def _manifests(self) -> list[Manifest]:
        try:
            return [each for each in list_manifests() if each.runtime_id != self._own]
        except (HeliostatError, OSError):
            return []
