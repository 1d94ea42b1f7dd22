"""The one thread that owns every socket to the ranks of a group.

ZeroMQ's sockets belong to one thread, and output must flow while the notebook runs other cells
or none. Commands come in through a queue; messages go out through a callback, on this thread,
which must return at once.
"""

from __future__ import annotations

import contextlib
import os
import queue
import socket
import threading
from typing import TYPE_CHECKING, Any, cast

import zmq
from jupyter_client.client import KernelClient

from heliostat._ranks._wire import Wire

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from jupyter_client.connect import KernelConnectionInfo

    from heliostat._ranks._wire import Request

__all__ = ["Switchboard"]

_LOOK_AROUND_MS = 500
_AT_ONCE = 500
"""Messages read from one socket before the others get their turn."""


class _Line:
    """The sockets of one rank."""

    def __init__(self, context: zmq.Context[Any], connection: dict[str, Any], pidfd: int | None) -> None:
        self.client = KernelClient(context=context)
        self.client.load_connection_info(cast("KernelConnectionInfo", dict(connection)))
        self.pidfd = pidfd
        self.sockets: dict[str, zmq.Socket[Any]] = {
            "iopub": self.client.connect_iopub(),
            "shell": self.client.connect_shell(),
            "control": self.client.connect_control(),
        }
        for each in self.sockets.values():
            each.linger = 0
        self.wire = Wire(connection["key"])

    def close(self) -> None:
        for each in self.sockets.values():
            each.close()
        if self.pidfd is not None:
            os.close(self.pidfd)


class Switchboard:
    """Lines to ranks, each under a key of its own.

    Parameters
    ----------
    on_message:
        Gets key, channel and message.
    on_death:
        Gets the key of a rank of this machine whose process has ended.
    look_around:
        Called about twice a second.
    """

    def __init__(
        self,
        on_message: Callable[[int, str, dict[str, Any]], None],
        on_death: Callable[[int], None],
        look_around: Callable[[], None],
    ) -> None:
        self._on_message, self._on_death, self._look_around = on_message, on_death, look_around
        self._commands: queue.SimpleQueue[Callable[[], None]] = queue.SimpleQueue()
        self._wake, self._waker = socket.socketpair()
        self._wake.setblocking(False)
        self._waker.setblocking(False)
        self._lines: dict[int, _Line] = {}
        self._context: zmq.Context[Any] = zmq.Context()
        self._context.setsockopt(zmq.RCVHWM, 0)
        self._poller = zmq.Poller()
        self._poller.register(self._wake.fileno(), zmq.POLLIN)
        self._closed = False
        self._thread = threading.Thread(target=self._run, name="heliostat-ranks", daemon=True)
        self._thread.start()

    def connect(self, key: int, connection: dict[str, Any], pidfd: int | None) -> None:
        """Open a line; ``iopub_welcome`` arrives when output can no longer be missed."""
        self._order(lambda: self._connect(key, connection, pidfd))

    def disconnect(self, key: int) -> None:
        """Close a line; messages under way are dropped."""
        self._order(lambda: self._disconnect(key))

    def send(self, requests: Sequence[tuple[int, str, Request]]) -> None:
        """Send requests: key, channel, request. Nothing happens for a line that is closed."""
        self._order(lambda: self._send(requests))

    def close(self) -> None:
        """Close everything and end the thread."""
        if self._closed:
            return
        self._closed = True
        self._order(lambda: None)
        if self._thread is not threading.current_thread():
            self._thread.join(2.0)

    def _order(self, command: Callable[[], None]) -> None:
        self._commands.put(command)
        with contextlib.suppress(OSError):
            self._waker.send(b"x")

    def _connect(self, key: int, connection: dict[str, Any], pidfd: int | None) -> None:
        line = self._lines[key] = _Line(self._context, connection, pidfd)
        for each in line.sockets.values():
            self._poller.register(each, zmq.POLLIN)
        if pidfd is not None:
            self._poller.register(pidfd, zmq.POLLIN)

    def _disconnect(self, key: int) -> None:
        line = self._lines.pop(key, None)
        if line is None:
            return
        for each in line.sockets.values():
            self._poller.unregister(each)
        if line.pidfd is not None:
            with contextlib.suppress(KeyError):
                self._poller.unregister(line.pidfd)
        line.close()

    def _send(self, requests: Sequence[tuple[int, str, Request]]) -> None:
        for key, channel, request in requests:
            line = self._lines.get(key)
            if line is not None:
                line.sockets[channel].send_multipart(line.wire.frames(request))

    def _run(self) -> None:
        try:
            while not self._closed:
                ready = dict(self._poller.poll(_LOOK_AROUND_MS))
                if self._wake.fileno() in ready:
                    self._obey()
                for key, line in list(self._lines.items()):
                    self._read(key, line, ready)
                self._look_around()
        finally:
            for key in list(self._lines):
                self._disconnect(key)
            self._context.destroy(linger=0)
            self._wake.close()
            self._waker.close()

    def _obey(self) -> None:
        with contextlib.suppress(BlockingIOError):
            while self._wake.recv(4096):
                pass
        while True:
            try:
                command = self._commands.get_nowait()
            except queue.Empty:
                return
            command()

    def _read(self, key: int, line: _Line, ready: dict[Any, int]) -> None:
        for channel, source in line.sockets.items():
            if source not in ready:
                continue
            for _ in range(_AT_ONCE):
                try:
                    parts = source.recv_multipart(zmq.NOBLOCK)
                except zmq.Again:
                    break
                try:
                    message = line.wire.read(parts)
                except ValueError:
                    continue  # not signed with our key
                self._on_message(key, channel, message)
        if line.pidfd is not None and line.pidfd in ready:
            self._poller.unregister(line.pidfd)
            self._on_death(key)
