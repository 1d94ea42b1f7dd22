"""One rank as the notebook's process sees it: its actor, its state, and why it ended."""

from __future__ import annotations

import contextlib
import itertools
import os
import signal
import time
from dataclasses import dataclass, field
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Any

from heliostat._oom import Watch
from heliostat._ranks._actor import RankActor
from heliostat._ranks._facts import STACKS_SIGNAL, Place, Prepared, RankFacts

if TYPE_CHECKING:
    from collections.abc import Sequence

__all__ = ["Rank", "RankState"]

_keys = itertools.count(1)
_STACKS_SECONDS = 1.0


class RankState(StrEnum):
    """What a rank is doing."""

    STARTING = "starting"
    IDLE = "idle"
    BUSY = "busy"
    DEAD = "dead"


@dataclass
class Rank:
    """Handle of one process. A rank that dies is followed by another handle of the same number."""

    number: int
    slot: int
    """Which of the reserved places it sits in."""
    actor: Any
    preparing: Any
    watch: Watch
    prepared: Prepared | None = None
    place: Place | None = None
    serving: Any = None
    listening: bool = False
    """Whether its output can no longer be missed."""
    grouped: bool = False
    """Whether it is in a process group of PyTorch."""
    dead: bool = False
    running: list[str] = field(default_factory=list)
    """Requests that it has not answered yet, oldest first."""
    memory_bytes: int | None = None
    key: int = field(default_factory=lambda: next(_keys))

    @classmethod
    def start(cls, number: int, slot: int, facts: RankFacts, options: dict[str, Any]) -> Rank:
        """Have Ray start the process; returns at once."""
        import ray

        actor = ray.remote(RankActor).options(max_restarts=0, **options).remote(facts)
        return cls(number, slot, actor, actor.prepare.remote(), Watch())

    @property
    def state(self) -> RankState:
        """What it is doing, as far as is known here."""
        if self.dead:
            return RankState.DEAD
        if not self.listening:
            return RankState.STARTING
        return RankState.BUSY if self.running else RankState.IDLE

    @property
    def local(self) -> bool:
        """Whether it is a process of this machine, and the one that we mean."""
        prepared = self.prepared
        if prepared is None or not _is_here(prepared.host):
            return False
        import psutil

        try:
            return bool(psutil.Process(prepared.pid).create_time() == prepared.started_at)
        except psutil.Error:
            return False

    def settle(self, place: Place) -> None:
        """Give it a place and let it serve."""
        self.place = place
        self.actor.settle.remote(place)
        self.serving = self.actor.serve.remote()

    def open_pidfd(self) -> int | None:
        """Return a descriptor that becomes readable when the process ends; ``None`` for one elsewhere."""
        if self.prepared is None or not self.local:
            return None
        with contextlib.suppress(OSError, AttributeError):
            return os.pidfd_open(self.prepared.pid)
        return None

    def ended_by_ray(self) -> bool:
        """Whether Ray knows that the process has ended."""
        from heliostat._cluster.cleanup import has_ended

        return has_ended(self.serving or self.preparing)

    def kill(self) -> None:
        """Have Ray end the process at once. Ray is silent about an end that was asked for."""
        from heliostat._cluster.cleanup import kill_actor

        kill_actor(self.actor)

    def kill_surely(self) -> None:
        """End what outlived :meth:`kill`, if it is of this machine."""
        if self.prepared is not None and self.local:
            with contextlib.suppress(OSError):
                os.kill(self.prepared.pid, signal.SIGKILL)

    def look(self) -> None:
        """Note how much memory it uses; its last reading tells why it died."""
        if self.prepared is not None and self.local:
            import psutil

            with contextlib.suppress(psutil.Error):
                self.memory_bytes = psutil.Process(self.prepared.pid).memory_info().rss

    def node_lost(self) -> bool:
        """Whether the node that it was on is gone."""
        if self.prepared is None:
            return False
        if _is_here(self.prepared.host):
            # Ray itself learns of it later.
            import psutil

            try:
                return bool(psutil.Process(self.prepared.raylet_pid).status() == psutil.STATUS_ZOMBIE)
            except psutil.Error:
                return True
        import ray

        return not any(node["Alive"] for node in ray.nodes() if node["NodeID"] == self.prepared.node_id)

    def why_dead(self) -> str:
        """Explain its end in a sentence without a full stop. Takes up to a second."""
        if self.prepared is not None and self.node_lost():
            return f"its node {self.prepared.node_id[:8]} was lost (Ray's raylet there ended)"
        from heliostat.modeling._workers._deaths import explain

        text = self._last_words()
        code = next(
            (int(line.rpartition(" ")[2]) for line in text.splitlines() if line.startswith("exit code ")),
            None,
        )
        here = self.prepared is not None and _is_here(self.prepared.host)
        pid = self.prepared.pid if self.prepared is not None and here else 0
        death = explain(self.serving or self.preparing, code=code, text=text, watch=self.watch, pid=pid)
        memory = "" if self.memory_bytes is None else f"; it used {_size(self.memory_bytes)} when last seen"
        return f"{death.text}{memory}"

    def forget(self) -> None:
        """Remove the file with its last words."""
        if self.prepared is not None and _is_here(self.prepared.host):
            Path(self.prepared.crash_file).unlink(missing_ok=True)

    def stacks(self) -> str:
        """Stacks that the interpreter writes by itself, also while C code holds the GIL; or nothing."""
        if not self.local or self.prepared is None:
            return ""
        before = len(self._last_words())
        with contextlib.suppress(OSError):
            os.kill(self.prepared.pid, STACKS_SIGNAL)
        deadline, seen = time.monotonic() + _STACKS_SECONDS, before
        while time.monotonic() < deadline:
            time.sleep(0.05)
            size = len(self._last_words())
            if size > before and size == seen:
                break
            seen = size
        return self._last_words()[before:]

    def _last_words(self) -> str:
        if self.prepared is None or not _is_here(self.prepared.host):
            return ""
        with contextlib.suppress(OSError):
            return Path(self.prepared.crash_file).read_text(errors="replace")
        return ""


def _is_here(host: str) -> bool:
    import ray

    return host in ("127.0.0.1", str(ray.util.get_node_ip_address()))


def _size(amount: int) -> str:
    return f"{amount / 2**30:.2f} GiB" if amount >= 2**30 else f"{amount / 2**20:.0f} MiB"


def places(prepared: Sequence[Prepared]) -> list[Place]:
    """Give out places in the order of ``prepared``; ranks are counted on each node as well."""
    on_node: dict[str, int] = {}
    for each in prepared:
        on_node[each.node_id] = on_node.get(each.node_id, 0) + 1
    seen: dict[str, int] = {}
    found = []
    for number, each in enumerate(prepared):
        local = seen.get(each.node_id, 0)
        seen[each.node_id] = local + 1
        found.append(Place(number, local, len(prepared), on_node[each.node_id]))
    return found
