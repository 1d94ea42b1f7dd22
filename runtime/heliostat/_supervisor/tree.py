"""The processes of a runtime, read from ``/proc`` and put into groups.

A process is ours because it descends from the owner or from the supervisor, never because of
its name, and it stays ours when its parent dies. Once a process was found to be somebody else's
it is not read again, which keeps a reading cheap on a busy machine.
"""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from heliostat._supervisor import procfs

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from heliostat._messages.runtime import Owner
    from heliostat._supervisor.procfs import Stat

_SAME_START = 2.0
"""Seconds by which two ways to compute a start time may differ for one process."""
_TITLE = "ray::"
_AGENT_TITLES = frozenset({"ray::DashboardAgent", "ray::RuntimeEnvAgent"})
"""Daemons of a stock boot that are titled like workers."""
_WORKER_SCRIPTS = ("default_worker.py", "worker_main.py")
"""What a Ray worker runs before it has given itself a title."""


@dataclass(frozen=True, slots=True)
class Group:
    """A process, or a tree of them summed up."""

    pid: int
    name: str
    role: str
    """``owner``, ``supervisor``, ``ray`` or ``worker``."""
    cpu_seconds: float
    """Never falls while the group lives: children that ended stay counted."""
    memory_bytes: int
    peak_bytes: int | None = None
    """Most that the first process ever held at once, shared memory left out; if asked for."""


@dataclass(frozen=True, slots=True)
class Member:
    """One of our processes: its latest figures, and the first process of its group."""

    stat: Stat
    role: str
    head: int


class ProcessTree:
    """Finds and reads the processes of one runtime.

    Parameters
    ----------
    owner:
        The process that the runtime belongs to, usually the supervisor's parent.
    supervisor_pid:
        Its descendants are Ray's daemons and workers; they do not count as the owner's.
    proc:
        Where the kernel shows processes.
    """

    def __init__(self, owner: Owner, supervisor_pid: int, proc: Path = Path("/proc")) -> None:
        self._owner = owner
        self._supervisor = supervisor_pid
        self._proc = str(proc)
        self._boot_time = procfs.boot_time(self._proc)
        self._members: dict[int, Member] = {}
        self._foreign: set[int] = set()
        self._ended_seconds: dict[int, float] = {}

    @property
    def members(self) -> Mapping[int, Member]:
        """Every process of the latest reading, by pid."""
        return self._members

    def read(self, *, peaks: bool = False) -> list[Group]:
        """Read every process of the runtime once.

        Processes that end meanwhile are left out. Takes about 0.1 ms a process of ours, and as
        much once for each process of others that is new; blocks on nothing. ``peaks`` adds
        ``Group.peak_bytes`` for the owner and the workers.
        """
        before = self._members
        self._members = self._find()
        self._keep_ended(before)
        groups: dict[int, list[Member]] = {}
        for member in self._members.values():
            groups.setdefault(member.head, []).append(member)
        self._ended_seconds = {head: s for head, s in self._ended_seconds.items() if head in groups}
        return [self._sum(head, members, peaks=peaks) for head, members in groups.items()]

    def _find(self) -> dict[int, Member]:
        pids = {int(name) for name in os.listdir(self._proc) if name.isdigit()}  # noqa: PTH208 - 5x cheaper
        self._foreign &= pids
        stats = {pid: stat for pid in pids - self._foreign if (stat := procfs.read_stat(self._proc, pid))}
        found: dict[int, Member] = {}
        for pid in stats:
            self._place(pid, stats, found)
        self._foreign |= stats.keys() - found.keys()
        return found

    def _place(self, pid: int, stats: Mapping[int, Stat], found: dict[int, Member]) -> Member | None:
        """Decide whose process ``pid`` is, its parents first."""
        if pid in found:
            return found[pid]
        stat = stats.get(pid)
        if stat is None:
            return None
        member = self._root(stat) or self._known(stat)
        if member is None and (parent := self._place(stat.parent, stats, found)) is not None:
            member = self._child(stat, parent)
        if member is not None and member.role == "ray" and self._is_worker(pid):
            member = Member(stat, "worker", pid)
        if member is not None:
            found[pid] = member
        return member

    def _root(self, stat: Stat) -> Member | None:
        if stat.pid == self._supervisor:
            return Member(stat, "supervisor", stat.pid)
        started_at = self._boot_time + stat.started / procfs.TICKS
        if stat.pid == self._owner.pid and abs(started_at - self._owner.started_at) < _SAME_START:
            return Member(stat, "owner", stat.pid)
        return None

    def _known(self, stat: Stat) -> Member | None:
        before = self._members.get(stat.pid)
        if before is None or before.stat.started != stat.started:
            return None
        return Member(stat, before.role, before.head)

    @staticmethod
    def _child(stat: Stat, parent: Member) -> Member:
        if parent.role in ("owner", "worker"):
            return Member(stat, parent.role, parent.head)
        return Member(stat, "ray", stat.pid)

    def _is_worker(self, pid: int) -> bool:
        arguments = procfs.read_arguments(self._proc, pid)
        title = arguments[0].strip()
        if title.startswith(_TITLE):
            return title not in _AGENT_TITLES
        # The raylet has the script in one of its options; only a worker has it as an argument.
        return any(argument.endswith(_WORKER_SCRIPTS) and argument[0] != "-" for argument in arguments)

    def _keep_ended(self, before: Mapping[int, Member]) -> None:
        """Count processes that ended since the last reading and that no parent waited for.

        One that was waited for is in its parent's ``reaped_seconds`` by now, exactly. Of others
        only the last known figure is left.
        """
        ended: dict[tuple[int, int | None], float] = {}
        for member in before.values():
            if self._still(member):
                continue
            heir = self._nearest_living(member, before)
            key = (member.head, None if heir is None else heir.stat.pid)
            ended[key] = ended.get(key, 0.0) + member.stat.own_seconds + member.stat.reaped_seconds
        for (head, heir_pid), seconds in ended.items():
            gained = 0.0
            if heir_pid is not None:
                gained = self._members[heir_pid].stat.reaped_seconds - before[heir_pid].stat.reaped_seconds
            self._ended_seconds[head] = self._ended_seconds.get(head, 0.0) + max(0.0, seconds - gained)

    def _nearest_living(self, member: Member, before: Mapping[int, Member]) -> Member | None:
        """Find the closest ancestor in the same group that still runs."""
        ancestor = before.get(member.stat.parent)
        while ancestor is not None and ancestor.head == member.head:
            if self._still(ancestor):
                return ancestor
            ancestor = before.get(ancestor.stat.parent)
        return None

    def _still(self, member: Member) -> bool:
        now = self._members.get(member.stat.pid)
        return now is not None and now.stat.started == member.stat.started

    def _sum(self, head: int, members: Sequence[Member], *, peaks: bool) -> Group:
        first = self._members.get(head)
        role = members[0].role
        # The children of a daemon are groups of their own, so only trees count what they waited for.
        tree = role in ("owner", "worker")
        seconds = self._ended_seconds.get(head, 0.0) if tree else 0.0
        memory = 0
        for member in members:
            seconds += member.stat.own_seconds + (member.stat.reaped_seconds if tree else 0.0)
            memory += procfs.read_memory(self._proc, member.stat.pid)[0]
        name = role if first is None else first.stat.name
        if role == "worker":
            title = procfs.read_arguments(self._proc, head)[0].strip()
            name = title if title.startswith(_TITLE) else name
        peak = procfs.read_peak(self._proc, head) if peaks and tree else None
        return Group(head, name, role, round(seconds, 6), memory, peak)
