"""A group of ranks: started on the runtime, kept between cells, mended when one dies.

Cells go out and output comes in through the switchboard; objects travel through Ray. One lock
guards who is in the group; nothing slow happens under it.
"""

from __future__ import annotations

import contextlib
import os
import sys
import threading
import time
import uuid
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from heliostat._crew import RankSnapshot
from heliostat._ranks._facts import RESULT_OF, Place, RankFacts
from heliostat._ranks._plan import GroupPlan, NodeRoom, Wish, plan
from heliostat._ranks._rank import Rank, RankState, places
from heliostat._ranks._run import Run
from heliostat._ranks._scope import HELPER
from heliostat._ranks._switchboard import Switchboard
from heliostat._ranks._targets import spell
from heliostat.exceptions import ConfigurationError, RankError, RuntimeLostError

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

__all__ = ["RankGroup"]

START_SECONDS = 60.0
_POLL_SECONDS = 0.1
_KILL_SECONDS = 0.5
"""How long Ray has to end a process before the operating system does."""
_STOP_SECONDS = 5.0
"""How long a rank has to stop what it runs before it is ended."""
_KEPT_RUNS = 50
"""Finished cells whose late output still finds its way."""


class RankGroup:
    """Ranks ``0`` to ``size - 1``. Made by :meth:`start`."""

    def __init__(self, chosen: GroupPlan, wish: Wish) -> None:
        self.plan, self.wish = chosen, wish
        self.ranks: list[Rank] = []
        self.group_timeout = 1800.0
        self._lock = threading.RLock()
        self._exchange = threading.Lock()
        self._requests: dict[str, tuple[Run, int]] = {}
        self._waiting: dict[str, dict[str, Any] | None] = {}
        self._answered = threading.Condition()
        self._reservation: Any = None
        self._closed = False
        self._files: list[Path] = []
        self._looked = 0.0
        self._board = Switchboard(self._take, self._process_ended, self._look_around)

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
        group = cls(plan(_rooms(), wish), wish)
        try:
            group._reserve(timeout)
            group.ranks = [group._start_rank(slot, slot) for slot in range(group.plan.count)]
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
            if len(coming) == len(self.ranks):
                self._sort()
            self._settle(coming)
        deadline = time.monotonic() + timeout
        with self._answered:
            while any(not rank.listening and not rank.dead for rank in self.ranks):
                if (
                    not self._answered.wait(min(0.5, deadline - time.monotonic()))
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
        expressions: Mapping[str, str] | None = None,
    ) -> Run:
        """Send a cell to ranks and return at once.

        Parameters
        ----------
        quiet:
            It is ours and not the user's: no history, no results.
        keep:
            The value of its last expression will be fetched with :meth:`results`.
        expressions:
            Evaluated on each rank after the cell; their text is in the outcomes.
        """
        self.wait_ready()
        content = {
            "code": code,
            "silent": quiet,
            "store_history": not quiet,
            "user_expressions": dict(expressions or {}),
            "allow_stdin": False,
            "stop_on_error": False,
        }
        with self._lock:
            chosen = [self.ranks[number] for number in (range(self.size) if ranks is None else ranks)]
            messages = {rank.number: _message("execute_request", content) for rank in chosen}
            run = Run(code, {number: message["msg_id"] for number, message in messages.items()}, quiet=quiet)
            for rank in chosen:
                message = messages[rank.number]
                message["metadata"] = {"keep": keep}
                self._requests[message["msg_id"]] = (run, rank.number)
                rank.running.append(message["msg_id"])
            for rank in chosen:
                self._board.send(rank.key, "shell", messages[rank.number])
                if rank.dead:
                    run.died(rank.number)
        self._forget_oldest()
        return run

    def stop_run(self, run: Run) -> None:
        """Interrupt a cell wherever it runs, and free who waits in a collective for others."""
        run.signalled = True
        pending = set(run.pending)
        for number in pending:
            self.tell(number, "rank_stop_request", {"request": run.requests[number]})
        for number in range(self.size):
            if number not in pending:
                self.tell(number, "rank_drop_request", {})

    def kill_rank(self, number: int) -> None:
        """End a rank; another one takes its place with an empty namespace."""
        rank = self.ranks[number]
        rank.kill()
        deadline = time.monotonic() + _KILL_SECONDS
        with self._answered:
            while not rank.dead and time.monotonic() < deadline and rank.local:
                self._answered.wait(0.05)
        rank.kill_surely()
        self._mark_dead(rank)

    def stop_rank(self, number: int) -> None:
        """Interrupt what a rank runs; one that does not heed it in time is ended. Returns at once."""
        rank = self.ranks[number]
        requests = list(rank.running)
        for request in requests:
            run, _ = self._requests[request]
            run.stopped_alone.add(number)
            self.tell(number, "rank_stop_request", {"request": request})

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
            self.ranks[number] = self._start_rank(number, former.slot)

    def tell(self, number: int, kind: str, content: dict[str, Any]) -> str:
        """Send a request on the control channel; returns its id."""
        message = _message(kind, content)
        self._board.send(self.ranks[number].key, "control", message)
        return str(message["msg_id"])

    def ask(self, kind: str, ranks: Sequence[int], timeout: float) -> dict[int, dict[str, Any] | None]:
        """Ask ranks on the control channel; ``None`` for those that do not answer in time."""
        asked: dict[int, str] = {}
        with self._answered:
            for number in ranks:
                asked[number] = self.tell(number, kind, {})
                self._waiting[asked[number]] = None
            deadline = time.monotonic() + timeout
            while any(self._waiting[request] is None for request in asked.values()):
                if not self._answered.wait(max(deadline - time.monotonic(), 0)):
                    break
            return {number: self._waiting.pop(request) for number, request in asked.items()}

    def push(
        self, variables: Mapping[str, Any], ranks: Sequence[int] | None = None, *, copy: bool = False
    ) -> None:
        """Bind variables on ranks. Arrays lie in the object store once a node, and are read-only there.

        ``copy`` gives each rank arrays of its own. Returns when all ranks have them.
        """
        import ray

        self.wait_ready()
        chosen = list(range(self.size)) if ranks is None else list(ranks)
        references = [ray.put(value) for value in variables.values()]
        self._exchange_with(chosen, "receive", list(variables), copy, *references)

    def scatter(self, name: str, values: Sequence[Any]) -> None:
        """Bind a variable to another value on each rank."""
        import ray

        self.wait_ready()
        calls = [(number, "receive", ([name], False, ray.put(value))) for number, value in enumerate(values)]
        with self._exchange:
            self._fetch(calls)

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
        chosen = plan(_rooms(), wish)
        self.wait_ready()
        with self._lock:
            gone, self.ranks = self.ranks[size:], self.ranks[:size]
            kept = list(self.ranks)
            self.plan, self.wish = replace(chosen, nodes=()), wish
            self.ranks += [self._start_rank(number, number) for number in range(len(kept), size)]
        for rank in gone:
            rank.kill()
            self._board.disconnect(rank.key)
            rank.forget()
        self.wait_ready()
        given = places([rank.prepared for rank in self.ranks if rank.prepared is not None])
        with self._exchange:
            self._fetch([(rank.number, "settle", (given[rank.number],)) for rank in kept])
        for rank in self.ranks:
            rank.grouped = False

    def connection_file(self, number: int) -> Path:
        """Write how to connect to a rank to a private file; it goes when the group does."""
        import json

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
        running = self.ranks[number].running
        run, _ = self._requests.get(running[0], (None, 0)) if running else (None, 0)
        lines = [] if run is None else [line.strip() for line in run.code.splitlines() if line.strip()]
        return lines[0][:60] if lines else ""

    def sizes(self, names: Sequence[str], ranks: Sequence[int]) -> int:
        """Bytes of variables on ranks, in all. Raises RankError for one that is not there."""
        run = self.run("", ranks, quiet=True, expressions={"size": f"{HELPER}.size_of({list(names)!r})"})
        run.finished.wait()
        total = 0
        for number, outcome in run.outcomes.items():
            answer = (outcome.expressions or {}).get("size", {"status": "error", "evalue": "it died"})
            if answer["status"] != "ok":
                message = f"{spell([number]).capitalize()}: {answer['evalue']}."
                raise RankError(message, "Nothing was pulled.", ranks=[number])
            total += int(answer["data"]["text/plain"])
        return total

    def pull(self, name: str, ranks: Sequence[int] | None = None) -> list[Any]:
        """Return the values of a variable, in the order of ranks. Arrays are read-only."""
        self.wait_ready()
        chosen = list(range(self.size)) if ranks is None else list(ranks)
        return [values[0] for values in self._exchange_with(chosen, "export", [name])]

    def results(self, run: Run) -> list[Any]:
        """Return what a kept cell returned on each of its ranks, in their order."""
        with self._exchange:
            return [
                values[0]
                for values in self._fetch(
                    [(number, "export", ([RESULT_OF + request],)) for number, request in run.requests.items()]
                )
            ]

    def call(self, calls: Sequence[tuple[int, Any, tuple[Any, ...]]]) -> list[Any]:
        """Run ``function(namespace, *arguments)`` on the main thread of ranks, one after their cells."""
        self.wait_ready()
        with self._exchange:
            return self._fetch([(number, "call", (function, *given)) for number, function, given in calls])

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

    def _exchange_with(self, ranks: Sequence[int], method: str, *arguments: Any) -> list[Any]:
        with self._exchange:
            return self._fetch([(number, method, arguments) for number in ranks])

    def _fetch(self, calls: Sequence[tuple[int, str, tuple[Any, ...]]]) -> list[Any]:
        """Call methods of actors between two rounds of their loops."""
        import ray

        references = []
        for number, method, arguments in calls:
            rank = self.ranks[number]
            references.append(getattr(rank.actor, method).remote(*arguments))
            rank.serving = rank.actor.serve.remote()
            self.tell(number, "rank_leave_request", {})
        try:
            return list(ray.get(references))
        except ray.exceptions.RayActorError as error:
            dead = [rank.number for rank in self.ranks if rank.dead] or [number for number, *_ in calls]
            message = f"{spell(dead).capitalize()} died while objects were exchanged."
            raise RankError(message, "Run the cell again: the rank is started anew.", ranks=dead) from error

    def _start_rank(self, number: int, slot: int) -> Rank:
        options: dict[str, Any] = {"num_cpus": 0, "num_gpus": 0}
        if self._reservation is not None:
            from ray.util.scheduling_strategies import PlacementGroupSchedulingStrategy

            reserved = dict(self.plan.reserved)
            options = {"num_cpus": reserved.get("CPU", 0), "num_gpus": reserved.get("GPU", 0)}
            if "memory" in reserved:
                options["memory"] = int(reserved["memory"])
            options["scheduling_strategy"] = PlacementGroupSchedulingStrategy(self._reservation, slot)
        elif self.plan.nodes:
            from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

            options["scheduling_strategy"] = NodeAffinitySchedulingStrategy(self.plan.nodes[slot], soft=True)
        return Rank.start(number, slot, _facts(self.plan.threads), options)

    def _reserve(self, timeout: float) -> None:
        if not self.plan.reserved:
            return
        import ray
        from ray.util.placement_group import placement_group

        bundle = dict(self.plan.reserved)
        self._reservation = placement_group([bundle] * self.plan.count, strategy="PACK")
        deadline = time.monotonic() + timeout
        while not self._reservation.wait(_POLL_SECONDS):
            if time.monotonic() > deadline:
                free = ray.available_resources()
                wants = ", ".join(
                    f"{amount * self.plan.count:g} {name} ({free.get(name, 0):g} free)"
                    for name, amount in self.plan.reserved
                )
                message = f"{self.plan.count} ranks need {wants}; the rest stayed in use for {timeout:g} s."
                raise ConfigurationError(message, "End what uses it, ask for fewer, or grow with %resize.")

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
        if rank is None:
            return
        kind = message["msg_type"]
        parent = message["parent_header"].get("msg_id", "")
        if kind == "iopub_welcome":
            with self._answered:
                rank.listening = True
                self._answered.notify_all()
        elif channel == "control":
            with self._answered:
                if parent in self._waiting:
                    self._waiting[parent] = message["content"]
                    self._answered.notify_all()
        else:
            if kind == "execute_reply":
                rank.grouped = bool(message["metadata"].get("heliostat", {}).get("grouped"))
                with contextlib.suppress(ValueError):
                    rank.running.remove(parent)
            run, number = self._requests.get(parent, (None, 0))
            if run is not None:
                run.take(number, channel, message)

    def _process_ended(self, key: int) -> None:
        for rank in self.ranks:
            if rank.key == key:
                self._mark_dead(rank)

    def _look_around(self) -> None:
        now = time.monotonic()
        if now - self._looked < 0.5 or self._closed:
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
        with self._lock:
            rank.dead, rank.grouped = True, False
            rank.running.clear()
            runs = {id(run): run for run, _ in self._requests.values() if rank.number in run.pending}
        for run in runs.values():
            run.died(rank.number)
        with self._answered:
            self._answered.notify_all()

    def _forget_oldest(self) -> None:
        with self._lock:
            done = [request for request, (run, _) in self._requests.items() if run.finished.is_set()]
            for request in done[: max(0, len(done) - _KEPT_RUNS * max(self.size, 1))]:
                del self._requests[request]

    def lost(self) -> RuntimeLostError | None:
        """The error of a cell whose runtime went away, if that is what happened."""
        from heliostat import _handle

        runtime = _handle.current()
        if runtime is None or not runtime.alive or runtime.failed:
            message = "The runtime was lost while the cell ran, and its ranks with it."
            return RuntimeLostError(message, "Start it again with %runtime start, then run the cell again.")
        return None

    def states(self) -> list[RankState]:
        """State of each rank."""
        return [rank.state for rank in self.ranks]

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
                doing=self.doing(number),
            )
            for number, rank in enumerate(list(self.ranks))
        ]


def _message(kind: str, content: dict[str, Any]) -> dict[str, Any]:
    """Make a message; the session of the rank's line signs it."""
    from datetime import UTC, datetime

    header = {
        "msg_id": uuid.uuid4().hex,
        "msg_type": kind,
        "username": "heliostat",
        "session": _SESSION,
        "date": datetime.now(UTC),
        "version": "5.3",
    }
    return {
        "header": header,
        "msg_id": header["msg_id"],
        "msg_type": kind,
        "parent_header": {},
        "content": content,
        "metadata": {},
    }


_SESSION = uuid.uuid4().hex


def _facts(threads: int) -> RankFacts:
    own = tuple(entry for entry in sys.path if entry and not entry.startswith(sys.prefix))
    return RankFacts(os.getcwd(), own, threads)  # noqa: PTH109 - a plain string travels


def _rooms() -> list[NodeRoom]:
    import ray

    from heliostat import _handle

    runtime = _handle.init()
    del runtime
    rooms = [
        NodeRoom(node["NodeID"], node["Resources"].get("CPU", 0), node["Resources"].get("GPU", 0))
        for node in ray.nodes()
        if node["Alive"]
    ]
    return _corrected(rooms)


def _corrected(rooms: list[NodeRoom]) -> list[NodeRoom]:
    """Ray's list of nodes does not follow a resize in place; the runtime's own does."""
    from heliostat import _handle

    runtime = _handle.current()
    known = {node.node_id: node for node in runtime.nodes()} if runtime is not None else {}
    return [
        NodeRoom(room.node_id, known[room.node_id].cpus, known[room.node_id].gpus)
        if room.node_id in known
        else room
        for room in rooms
    ]


def _first_line(error: BaseException) -> str:
    return (str(error) or type(error).__name__).splitlines()[0].rstrip(".")
