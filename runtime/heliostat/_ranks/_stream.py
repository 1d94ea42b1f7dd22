"""What ``sys.stdout`` and ``sys.stderr`` of a rank are: IPython's streams, made cheap to print to.

A line that is printed costs four writes. The base takes a lock and asks the system for the process
id in each; here a write is one step that no other thread can come between.
"""

from __future__ import annotations

import array
import codecs
import contextlib
import fcntl
import os
import select
import termios
import threading
import time
from collections import deque
from typing import TYPE_CHECKING, Any

from ipykernel.iostream import OutStream

if TYPE_CHECKING:
    from collections.abc import Iterator

__all__ = ["RankStream"]

_FLUSH_SECONDS = 0.05
_PIPE_BYTES = 1 << 16
_DRAIN_SECONDS = 0.2
_LOOK_MS = 1000

_KEPT_CELLS = 16
"""Whose late threads still write without a search."""


class _Written:
    """What was written under one request and not sent yet.

    Plain strings in a queue: tuples would have the garbage collector go through the whole heap.
    """

    __slots__ = ("header", "keep", "pieces")

    def __init__(self, header: dict[str, Any]) -> None:
        self.header = header
        self.pieces: deque[str] = deque()
        self.keep = self.pieces.append


class RankStream(OutStream):
    """Sends what is written under the request that it belongs to."""

    flush_interval = _FLUSH_SECONDS

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        self._latest = _Written({})
        self._all: dict[int, _Written] = {}
        self._choosing = threading.Lock()
        self._forked = False
        self._reading = threading.Lock()
        self.written = False
        """Whether anything was written since this was set to false."""
        super().__init__(*args, **kwargs)
        self._header_here = self._parent_header.get
        os.register_at_fork(after_in_child=self._after_fork)

    def _after_fork(self) -> None:
        # A child must not send what its parent wrote, and has no thread that flushes.
        for each in self._all.values():
            each.pieces.clear()
        self._forked = True

    def write(self, string: str) -> int:
        """Take a piece of text. Any thread may write."""
        if self._forked or not isinstance(string, str):
            written: int = super().write(string) or len(string)
            return written
        try:
            header = self._header_here()
        except LookupError:
            header = self._parent_header_global  # a thread that nobody told where it belongs
        place = self._latest
        if place.header is not header:
            place = self._place(header)
        place.keep(string)
        self.written = True
        if not self._flush_pending:
            if self.pub_thread is None:
                message = "I/O operation on closed file"
                raise ValueError(message)
            self._schedule_flush()
        return len(string)

    def flush(self) -> None:
        """Send what was written, and return when it has been sent; nothing happens without news."""
        if self._flush_pending or self._forked or any(each.pieces for each in [*self._all.values()]):
            super().flush()

    def _flush_buffers(self) -> Iterator[tuple[dict[str, Any], str]]:
        if self._forked:
            yield from super()._flush_buffers()
            return
        for each in [*self._all.values()]:
            pieces = each.pieces
            if pieces:
                yield each.header, "".join([pieces.popleft() for _ in range(len(pieces))])

    def _place(self, header: dict[str, Any]) -> _Written:
        """Where text of a request goes; the places of the oldest requests are given up."""
        with self._choosing:
            found = self._all.get(id(header))
            if found is None:
                found = self._all[id(header)] = _Written(header)
                for key in [*self._all][:-_KEPT_CELLS]:
                    if not self._all[key].pieces:
                        del self._all[key]
            self._latest = found
        return found

    def _watch_pipe_fd(self) -> None:
        """Read what native code and child processes write to the descriptor; a thread's life."""
        if self._fid is None:
            return
        decoder = codecs.getincrementaldecoder("utf-8")("replace")
        poll = select.poll()
        poll.register(self._fid, select.POLLIN)
        with contextlib.suppress(OSError, ValueError):
            while self._should_watch:
                if poll.poll(_LOOK_MS):
                    with self._reading:
                        self.write(decoder.decode(os.read(self._fid, _PIPE_BYTES)))

    def drain(self) -> None:
        """Let what native code and child processes wrote reach the stream while its cell still lasts."""
        if self._fid is None:
            return
        deadline = time.monotonic() + _DRAIN_SECONDS
        waiting = array.array("i", [0])
        while time.monotonic() < deadline:
            with self._reading:
                fcntl.ioctl(self._fid, termios.FIONREAD, waiting)
            if not waiting[0]:
                break
            # The thread that reads the pipe needs the GIL for it.
            time.sleep(0.001)
