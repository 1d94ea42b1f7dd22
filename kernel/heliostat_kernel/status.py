"""Busy means busy: what the kernel says about itself while a cell runs.

A Jupyter kernel publishes ``busy`` and ``idle`` around *every* request, and whoever listens
takes the latest word for the state of the kernel. A request on the control channel or on a
subshell that is answered while a cell runs therefore ends in an ``idle`` that is not true.
The Jupyter server believes it. With culling on and the tab closed, a silent cell then looks
like an idle kernel, and the server ends it. Two harmless messages are enough, and front ends
send both on their own: ``usage_request`` and ``create_subshell_request``.

The cure: after an ``idle`` that belongs to another request, ``busy`` is published again with
the running cell as its parent. The last word is then always the true one, no message is
withheld from the client that waits for its ``idle``, and an idle kernel stays idle.

Status is published by several threads (main shell, subshells, control). Decision and
publication happen under one lock, for otherwise a repeated ``busy`` could be overtaken by the
cell's own ``idle`` and the kernel would look busy for ever. IOPub keeps the order in which
messages were handed to it, so the order under the lock is the order on the wire.

``Kernel._publish_status`` is private to ipykernel. :data:`SUPPORTED` tests its shape at
import; where it has another one, the kernel behaves like plain ipykernel.
"""

from __future__ import annotations

import inspect
import threading
from collections.abc import Mapping
from typing import Any

from ipykernel.ipkernel import IPythonKernel
from ipykernel.kernelbase import Kernel

__all__ = ["SUPPORTED", "HonestStatus", "RunningCells"]

Message = Mapping[str, Any]


def _hook_is_known() -> bool:
    hook = getattr(Kernel, "_publish_status", None)
    if hook is None:
        return False
    return list(inspect.signature(hook).parameters) == ["self", "status", "channel", "parent"]


SUPPORTED = _hook_is_known()
"""Whether this ipykernel publishes status through the hook that we know."""


class RunningCells:
    """Which cells run now, learned from the statuses that go by.

    A thread of the kernel handles one request at a time, so a thread's entry ends with its
    next status whatever that is; a cell that never published its ``idle`` cannot stay behind.
    """

    def __init__(self) -> None:
        self._cells: dict[int, Message] = {}

    def observe(self, status: str, thread: int, parent: Message) -> Message | None:
        """Take note of a status about to be published; return the cell to re-assert, if any.

        Parameters
        ----------
        status:
            ``busy``, ``idle`` or ``starting``.
        thread:
            Identifier of the thread that publishes.
        parent:
            The request that the status belongs to.
        """
        self._cells.pop(thread, None)
        if status == "busy" and parent.get("header", {}).get("msg_type") == "execute_request":
            self._cells[thread] = parent
        if status != "idle" or not self._cells:
            return None
        return next(iter(self._cells.values()))


class HonestStatus(IPythonKernel):
    """A kernel whose status stays ``busy`` while a cell runs, whatever else it answers."""

    def __init__(self, **kwargs: Any) -> None:
        self._status_lock = threading.RLock()
        self._running_cells = RunningCells()
        super().__init__(**kwargs)

    def _publish_status(self, *args: Any, **kwargs: Any) -> None:
        publish = super()._publish_status
        if not SUPPORTED:
            publish(*args, **kwargs)
            return
        self._publish_honestly(*args, **kwargs)

    def _publish_honestly(self, status: str, channel: str, parent: Message | None = None) -> None:
        origin: Message = parent or self.get_parent(channel) or {}
        with self._status_lock:
            cell = self._running_cells.observe(status, threading.get_ident(), origin)
            super()._publish_status(status, channel, parent)
            if cell is not None:
                super()._publish_status("busy", channel, cell)
