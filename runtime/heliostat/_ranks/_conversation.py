"""What was asked of ranks, and who waits for the answers."""

from __future__ import annotations

import contextlib
import threading
import time
from typing import TYPE_CHECKING, Any

from heliostat._ranks._facts import OURS
from heliostat._ranks._run import Run
from heliostat._ranks._wire import Request

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from heliostat._ranks._rank import Rank

__all__ = ["Conversation"]

_KEPT_REQUESTS = 256
"""Finished ones whose late output still finds its way."""


class Conversation:
    """Sends requests and hands on what comes back.

    Parameters
    ----------
    send:
        Sends requests, each to the line of a key, on a channel; returns at once.
    """

    def __init__(self, send: Callable[[Sequence[tuple[int, str, Request]]], None]) -> None:
        self._send = send
        self._lock = threading.Lock()
        self._cells: dict[str, tuple[Run, int]] = {}
        """Cells by the id of the request to one rank, and that rank's number."""
        self._answers: dict[str, dict[str, Any] | None] = {}
        self.news = threading.Condition()
        """Notified when a rank answers, begins to listen or ends."""

    def run(
        self,
        ranks: Sequence[Rank],
        code: str,
        *,
        quiet: bool = False,
        keep: bool = False,
        cell: int | None = None,
        expressions: Mapping[str, str] | None = None,
    ) -> Run:
        """Send a cell to ranks and return at once."""
        content = {
            "code": code,
            "silent": quiet,
            "store_history": not quiet,
            "user_expressions": dict(expressions or {}),
            "allow_stdin": False,
            "stop_on_error": False,
        }
        requests = Request.to_each(
            len(ranks), "execute_request", content, {OURS: {"keep": keep, "cell": cell}}
        )
        addressed = list(zip(ranks, requests, strict=True))
        run = Run(code, {rank.number: request.id for rank, request in addressed}, quiet=quiet)
        with self._lock:
            for rank, request in addressed:
                self._cells[request.id] = (run, rank.number)
                rank.running.append(request.id)
            if len(self._cells) > 2 * _KEPT_REQUESTS:
                self._forget_oldest()
        self._send([(rank.key, "shell", request) for rank, request in addressed])
        for rank in ranks:
            if rank.dead:
                run.died(rank.number)
        return run

    def tell(self, ranks: Sequence[Rank], kind: str, contents: Sequence[Mapping[str, Any]]) -> list[str]:
        """Send a request on the control channel of each rank; returns their ids."""
        requests = [Request.to_each(1, kind, content)[0] for content in contents]
        self._send([(rank.key, "control", each) for rank, each in zip(ranks, requests, strict=True)])
        return [request.id for request in requests]

    def stop_alone(self, rank: Rank, requests: Sequence[str]) -> None:
        """Have ``rank`` stop these cells, which other ranks run on."""
        for request in requests:
            run, number = self._cells[request]
            run.stopped_alone.add(number)
        stops = [{"request": request} for request in requests]
        self.tell([rank] * len(stops), "rank_stop_request", stops)

    def ask(self, ranks: Sequence[Rank], kind: str, timeout: float) -> dict[int, dict[str, Any] | None]:
        """Ask ranks on the control channel; ``None`` for those that do not answer in time."""
        with self.news:
            requests = self.tell(ranks, kind, [{}] * len(ranks))
            self._answers.update(dict.fromkeys(requests))
            deadline = time.monotonic() + timeout
            while any(self._answers[request] is None for request in requests):
                if not self.news.wait(max(deadline - time.monotonic(), 0)):
                    break
            found = [self._answers.pop(request) for request in requests]
        return {rank.number: answer for rank, answer in zip(ranks, found, strict=True)}

    def take(self, rank: Rank, channel: str, message: dict[str, Any]) -> None:
        """Hand a message of ``rank`` on; on the switchboard's thread."""
        kind, parent = message["msg_type"], message["parent"]
        if kind == "iopub_welcome":
            with self.news:
                rank.listening = True
                self.news.notify_all()
        elif channel == "control":
            with self.news:
                if parent in self._answers:
                    self._answers[parent] = message["content"]
                    self.news.notify_all()
        else:
            if kind == "execute_reply":
                rank.grouped = bool(message["metadata"].get(OURS, {}).get("grouped"))
                with contextlib.suppress(ValueError):
                    rank.running.remove(parent)
            run, number = self._cells.get(parent, (None, 0))
            if run is not None:
                run.take(number, channel, message)

    def ended(self, rank: Rank) -> None:
        """Tell who waits for ``rank`` that it is dead."""
        with self._lock:
            rank.running.clear()
            runs = {id(run): run for run, _ in self._cells.values() if rank.number in run.pending}
        for run in runs.values():
            run.died(rank.number)
        with self.news:
            self.news.notify_all()

    def doing(self, rank: Rank) -> str:
        """First line of the cell that a rank runs; empty if it runs none."""
        request = next(iter(rank.running), "")
        run, _ = self._cells.get(request, (None, 0))
        lines = [] if run is None else [line.strip() for line in run.code.splitlines() if line.strip()]
        return lines[0][:60] if lines else ""

    def _forget_oldest(self) -> None:
        done = [request for request, (run, _) in self._cells.items() if run.finished.is_set()]
        for request in done[: len(self._cells) - _KEPT_REQUESTS]:
            del self._cells[request]
