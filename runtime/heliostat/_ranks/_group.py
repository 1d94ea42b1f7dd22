"""A group of ranks: started on the runtime, kept between cells, mended when one dies.

Cells go out and output comes in through the switchboard. One lock guards who is in the group;
nothing slow happens under it.
"""

from __future__ import annotations

import contextlib
import json
import os
import signal
import threading
import time
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from heliostat._crew import RankSnapshot
from heliostat._ranks._conversation import Conversation
from heliostat._ranks._objects import Objects
from heliostat._ranks._plan import GroupPlan, Wish, plan
from heliostat._ranks._rank import Rank, places
from heliostat._ranks._room import facts, options_for, reserve, rooms
from heliostat._ranks._switchboard import Switchboard
from heliostat._ranks._targets import spell
from heliostat.exceptions import ConfigurationError, RankError

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

    from heliostat._ranks._facts import Place
    from heliostat._ranks._run import Run

__all__ = ["RankGroup"]

START_SECONDS = 60.0
_KILL_SECONDS = 0.5
"""How long Ray has to end a process before the operating system does."""
_STOP_SECONDS = 5.0
"""How long a rank has to stop what it runs before it is ended."""
_LOOK_SECONDS = 0.5


class RankGroup:
    """Ranks ``0`` to ``size - 1``. Made by :meth:`start`."""

    def __init__(self, chosen: GroupPlan, wish: Wish) -> None:
        self.plan, self.wish = chosen, wish
        self.ranks: list[Rank] = []
        self.group_timeout = 1800.0
        self.objects = Objects(self)
        self._lock = threading.RLock()
        self._reservation: Any = None
        self._closed = False
        self._files: list[Path] = []
        self._looked = 0.0
        self._board = Switchboard(self._take, self._process_ended, self._look_around)
        self._talk = Conversation(self._board.send)

    @classmethod
    def start(cls, wish: Wish = Wish(), timeout: float = START_SECONDS) -> RankGroup:  # noqa: B008 - frozen
        """Start ranks on the runtime of this process and return when they listen.

        Raises
        ------
        ConfigurationError
            The runtime is too small, or what is needed stayed in use.
        RankError
            A rank did not come up.
        """
        group = cls(plan(rooms(), wish), wish)
        try:
            group._reservation = reserve(group.plan, timeout)
            nodes = group.plan.nodes or [None] * group.plan.count
            group.ranks = [group._start_rank(slot, slot, node) for slot, node in enumerate(nodes)]
            group.wait_ready(timeout)
        except BaseException:
            group.close()
            raise
        return group

    @property
    def size(self) -> int:
        """How many ranks there are."""
        return len(self.ranks)

    @property
    def alive(self) -> bool:
        """Whether there is a rank left that could run a cell, now or when it has come up."""
        return not self._closed and any(not rank.dead for rank in self.ranks)

    def wait_ready(self, timeout: float = START_SECONDS) -> None:
        """Return when every rank listens; those that died are started anew. Raises RankError."""
        import ray

        from heliostat._cluster.deaths import explained_elsewhere

        with self._lock:
            for number, rank in enumerate(self.ranks):
                if rank.dead:
                    self.respawn(number)
            coming = [rank for rank in self.ranks if rank.prepared is None]
        if coming:
            try:
                found = ray.get([rank.preparing for rank in coming], timeout=timeout)
            except (ray.exceptions.RayError, TimeoutError) as error:
                for rank in coming:
                    rank.dead = rank.dead or rank.ended_by_ray()
                who = spell(rank.number for rank in coming).capitalize()
                message = f"{who} did not come up: {_first_line(error)}."
                raise RankError(message, "See %runtime log, or try %ranks restart.") from error
            for rank, prepared in zip(coming, found, strict=True):
                rank.prepared = prepared
                explained_elsewhere(prepared.pid)
            if len(coming) == len(self.ranks):
                self._sort()
            self._settle(coming)
        deadline = time.monotonic() + timeout
        with self._talk.news:
            while any(not rank.listening and not rank.dead for rank in self.ranks):
                if (
                    not self._talk.news.wait(min(0.5, deadline - time.monotonic()))
                    and time.monotonic() > deadline
                ):
                    message = f"The ranks did not answer in {timeout:g} s."
                    raise RankError(message, "See %runtime log, or try %ranks restart.")

    def run(
        self,
        code: str,
        ranks: Sequence[int] | None = None,
        *,
        quiet: bool = False,
        keep: bool = False,
        cell: int | None = None,
        expressions: Mapping[str, str] | None = None,
    ) -> Run:
        """Send a cell to ranks and return at once.

        Parameters
        ----------
        quiet:
            It is ours and not the user's: no history, no results.
        keep:
            The value of its last expression will be fetched with :meth:`Objects.results`.
        cell:
            Number of the notebook's cell, by which tracebacks name it.
        expressions:
            Evaluated on each rank after the cell; their text is in the outcomes.
        """
        self.wait_ready()
        chosen = self._chosen(range(self.size) if ranks is None else ranks)
        return self._talk.run(chosen, code, quiet=quiet, keep=keep, cell=cell, expressions=expressions)

    def stop_run(self, run: Run, signal: int = signal.SIGINT) -> None:
        """Interrupt a cell wherever it runs, and free who waits in a collective for others."""
        run.signalled = True
        pending = [number for number in run.pending if number < self.size]
        stops = [{"request": run.requests[number], "signal": int(signal)} for number in pending]
        self._talk.tell(self._chosen(pending), "rank_stop_request", stops)
        self.tell([number for number in range(self.size) if number not in pending], "rank_drop_request")

    def kill_rank(self, number: int) -> None:
        """End a rank; another one takes its place with an empty namespace."""
        rank = self.ranks[number]
        rank.kill()
        deadline = time.monotonic() + _KILL_SECONDS
        with self._talk.news:
            while not rank.dead and time.monotonic() < deadline and rank.local:
                self._talk.news.wait(0.05)
        rank.kill_surely()
        self._mark_dead(rank)

    def stop_rank(self, number: int) -> None:
        """Interrupt what a rank runs; one that does not heed it in time is ended. Returns at once."""
        rank = self.ranks[number]
        requests = list(rank.running)
        self._talk.stop_alone(rank, requests)

        def end() -> None:
            if not rank.dead and set(requests) & set(rank.running):
                self.kill_rank(number)

        patience = threading.Timer(_STOP_SECONDS, end)
        patience.daemon = True
        patience.start()

    def respawn(self, number: int) -> None:
        """Start a process in place of one that ended; returns at once."""
        with self._lock:
            former = self.ranks[number]
            self._board.disconnect(former.key)
            former.forget()
            # By name also where its own is lost: Ray may not know that yet, and would choose it again.
            havens = [each for each in (former, *self.ranks) if each.prepared and not each.node_lost()]
            node = havens[0].prepared.node_id if havens and havens[0].prepared else None
            self.ranks[number] = self._start_rank(number, former.slot, node)

    def tell(self, ranks: Sequence[int], kind: str) -> None:
        """Send a request on the control channel, to which nobody waits for an answer."""
        self._talk.tell(self._chosen(ranks), kind, [{}] * len(ranks))

    def ask(self, kind: str, ranks: Sequence[int], timeout: float) -> dict[int, dict[str, Any] | None]:
        """Ask ranks on the control channel; ``None`` for those that do not answer in time."""
        return self._talk.ask(self._chosen(ranks), kind, timeout)

    def resize(self, size: int) -> None:
        """Add ranks, or end the last ones. The others keep their variables, and learn the new size.

        Raises
        ------
        ConfigurationError
            The group reserved what it has, which cannot be changed while it lives.
        """
        if self._reservation is not None:
            message = "Ranks that reserve GPUs, CPUs or memory cannot be resized while they live."
            raise ConfigurationError(message, f"Start them anew: %ranks restart -n {size}.")
        wish = replace(self.wish, ranks=size)
        chosen = plan(rooms(), wish)
        self.wait_ready()
        with self._lock:
            gone, self.ranks = self.ranks[size:], self.ranks[:size]
            kept = list(self.ranks)
            self.plan, self.wish = replace(chosen, nodes=()), wish
            self.ranks += [self._start_rank(number, number, None) for number in range(len(kept), size)]
        for rank in gone:
            rank.kill()
            self._board.disconnect(rank.key)
            rank.forget()
        self.wait_ready()
        given = places([rank.prepared for rank in self.ranks if rank.prepared is not None])
        self.objects.exchange([(rank.number, "settle", (given[rank.number],)) for rank in kept])
        for rank in self.ranks:
            rank.grouped = False

    def connection_file(self, number: int) -> Path:
        """Write how to connect to a rank to a private file; it goes when the group does."""
        from heliostat._paths import manifest_directory, write_private

        self.wait_ready()
        prepared = self.ranks[number].prepared
        assert prepared is not None, "it listens"
        path = manifest_directory() / f"rank-{os.getpid()}-{number}.json"
        path = path.parent.parent / path.name
        write_private(path, json.dumps(prepared.connection).encode())
        self._files.append(path)
        return path

    def doing(self, number: int) -> str:
        """First line of the cell that a rank runs; empty if it runs none."""
        return self._talk.doing(self.ranks[number])

    def close(self) -> None:
        """End every rank and give back what they reserved."""
        with self._lock:
            if self._closed:
                return
            self._closed = True
            for rank in self.ranks:
                rank.kill()
                self._mark_dead(rank)
        self._board.close()
        for rank in self.ranks:
            rank.forget()
        for path in self._files:
            path.unlink(missing_ok=True)
        if self._reservation is not None:
            from heliostat._cluster.cleanup import remove_reservation

            remove_reservation(self._reservation)

    def _chosen(self, numbers: Sequence[int]) -> list[Rank]:
        ranks = self.ranks
        return [ranks[number] for number in numbers]

    def _start_rank(self, number: int, slot: int, node: str | None) -> Rank:
        options = options_for(self.plan, self._reservation, slot, node)
        return Rank.start(number, slot, facts(self.plan.threads), options)

    def _sort(self) -> None:
        """Number ranks so that those of a node are neighbours; at the first start only."""
        nodes = list(dict.fromkeys(rank.prepared.node_id for rank in self.ranks if rank.prepared))
        self.ranks.sort(key=lambda rank: nodes.index(rank.prepared.node_id) if rank.prepared else 0)
        for number, rank in enumerate(self.ranks):
            rank.number = number

    def _settle(self, coming: Sequence[Rank]) -> None:
        given = places([rank.prepared for rank in self.ranks if rank.prepared is not None])
        for rank in coming:
            assert rank.prepared is not None
            place: Place = given[rank.number]
            rank.settle(place)
            self._board.connect(rank.key, rank.prepared.connection, rank.open_pidfd())

    def _take(self, key: int, channel: str, message: dict[str, Any]) -> None:
        """Hand a message on; on the switchboard's thread."""
        rank = next((rank for rank in self.ranks if rank.key == key), None)
        if rank is not None:
            self._talk.take(rank, channel, message)

    def _process_ended(self, key: int) -> None:
        for rank in self.ranks:
            if rank.key == key:
                self._mark_dead(rank)

    def _look_around(self) -> None:
        now = time.monotonic()
        if now - self._looked < _LOOK_SECONDS or self._closed:
            return
        self._looked = now
        for rank in self.ranks:
            if rank.dead or not rank.running:
                continue
            rank.look()
            if not rank.local:
                with contextlib.suppress(Exception):
                    if rank.ended_by_ray():
                        self._mark_dead(rank)

    def _mark_dead(self, rank: Rank) -> None:
        rank.dead, rank.grouped = True, False
        self._talk.ended(rank)

    def snapshots(self) -> list[RankSnapshot]:
        """The ranks for whoever shows them; none once they are gone."""
        if not self.alive:
            return []
        return [
            RankSnapshot(
                rank=rank.number,
                state=rank.state.value,
                pid=None if rank.prepared is None else rank.prepared.pid,
                node=None if rank.prepared is None else rank.prepared.node_id,
                doing=self._talk.doing(rank),
            )
            for rank in list(self.ranks)
        ]


def _first_line(error: BaseException) -> str:
    return (str(error) or type(error).__name__).splitlines()[0].rstrip(".")
