"""Tells the supervisor which cell runs, from a thread of its own.

A cell must never wait for its accounting: events go into a queue, and whatever goes wrong on the
way to the supervisor is dropped.
"""

from __future__ import annotations

import contextlib
import queue
import threading
import time
from typing import TYPE_CHECKING

from heliostat import _calls as calls
from heliostat._messages.usage import CellEvent

if TYPE_CHECKING:
    from collections.abc import Callable

    from heliostat._client import SupervisorClient

__all__ = ["CellRecorder"]


class CellRecorder:
    """Owns the queue of cell events and the thread that sends them."""

    def __init__(self, client: SupervisorClient, alive: Callable[[], bool]) -> None:
        self._client, self._alive = client, alive
        self._events: queue.SimpleQueue[CellEvent | None] = queue.SimpleQueue()
        self._sender: threading.Thread | None = None
        self.running: str | None = None
        """Id of the cell that runs."""

    def started(self, cell_id: str) -> None:
        """Note that a cell began; returns at once and never fails."""
        self.running = cell_id
        self._put(cell_id, "start")

    def ended(self, cell_id: str) -> None:
        """Note that a cell ended; returns at once and never fails."""
        self.running = None
        self._put(cell_id, "end")

    def close(self) -> None:
        """Let the thread end when it has sent what is waiting."""
        self._events.put(None)

    def _put(self, cell_id: str, phase: str) -> None:
        if not self._alive():
            return
        if self._sender is None:
            self._sender = threading.Thread(target=self._send, name="heliostat-cells", daemon=True)
            self._sender.start()
        self._events.put(CellEvent(cell_id=cell_id, phase=phase, at=time.time()))

    def _send(self) -> None:
        while self._alive():
            event = self._events.get()
            if event is None:
                return
            with contextlib.suppress(Exception):
                self._client.ask(calls.note_cell(event))
