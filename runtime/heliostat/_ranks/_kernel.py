"""IPython's kernel as a rank runs it: stoppable, encrypted, with errors for people.

Everything about one cell happens on the main thread. Requests on the control channel are
answered by a thread of their own, so they work while a cell runs, unless it holds the GIL.
"""

from __future__ import annotations

import asyncio
import contextlib
import signal
import sys
import threading
from typing import TYPE_CHECKING, Any

from ipykernel.ipkernel import IPythonKernel
from IPython.core.error import StdinNotImplementedError

from heliostat._ranks import _tracebacks
from heliostat._ranks._facts import OURS, RESULT_OF
from heliostat._ranks._scope import RankScope
from heliostat._ranks._stream import RankStream

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from types import FrameType

    from heliostat._ranks._facts import Place

__all__ = ["RankKernel"]


class RankKernel(IPythonKernel):
    """Serves one client: the group that made it."""

    implementation = "heliostat-rank"
    _execute_sleep = 0.0  # the base sleeps before each reply; ours say whether output follows
    control_msg_types = [  # noqa: RUF012 - a class attribute in the base as well
        *IPythonKernel.control_msg_types,
        "rank_stop_request",
        "rank_frames_request",
        "rank_leave_request",
        "rank_drop_request",
    ]

    def __init__(self, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self._lock = threading.Lock()
        self._refused: set[str] = set()
        """Cells that shall not run: they were stopped before their turn."""
        self._running: str | None = None
        self._shown = False
        """Whether the cell that runs, or that ran last, showed anything."""
        self.leaves = 0
        """How often the loop is wanted to end; only the main thread counts."""
        self.scope = RankScope(self.shell)
        _tracebacks.install(self.shell)
        # IPython keeps a copy of all output for its history, which a rank does not have; the copying
        # takes four times as long as the printing.
        shell: Any = self.shell
        shell._tee = _no_copy

    def start(self) -> None:
        """Begin to answer; called once, on the main thread."""
        super().start()
        signal.signal(signal.SIGINT, self._on_signal)

    def settle(self, place: Place) -> None:
        """Put the names of a place into the user's scope."""
        self.scope.settle(place)

    def receive(self, variables: Mapping[str, Any]) -> None:
        """Bind variables in the user's scope."""
        self.scope.namespace.update(variables)

    def export(self, names: Sequence[str]) -> list[Any]:
        """Values of names; ``RESULT_OF`` and a request's id stand for what that cell returned."""
        return [
            self.scope.results.pop(name.removeprefix(RESULT_OF), None)
            if name.startswith(RESULT_OF)
            else self.scope.namespace[name]
            for name in names
        ]

    # The signal is wanted while a cell runs and never else, so these do not touch the handler.
    def pre_handler_hook(self) -> None:
        """Called before each request."""

    def post_handler_hook(self) -> None:
        """Called after each request."""

    @property
    def _supports_kernel_subshells(self) -> bool:
        # They cost a thread between the socket and the cell, and nobody asks a rank for them.
        return False

    def _publish_status(self, status: str, channel: str, parent: Any = None) -> None:
        if channel == "control":
            return
        if not _is_ours(parent or self.get_parent(channel)):
            super()._publish_status(status, channel, parent)
        elif status == "busy":
            app: Any = self.parent
            app.published = False
            for stream in _streams():
                stream.written = False
        elif self._shown:
            # The group waits for this one only where the reply says that there is output.
            super()._publish_status(status, channel, parent)

    def _publish_execute_input(self, code: str, parent: Any, execution_count: int) -> None:
        if not _is_ours(parent):
            super()._publish_execute_input(code, parent, execution_count)

    def _on_signal(self, number: int, frame: FrameType | None) -> None:
        del number, frame
        if self._running is not None:
            raise KeyboardInterrupt

    async def do_execute(self, code: str, silent: bool, *args: Any, **kwargs: Any) -> dict[str, Any]:
        """Run a cell, unless it was stopped before its turn."""
        request = self.get_parent("shell")["header"]["msg_id"]
        with self._lock:
            if request in self._refused:
                self._refused.discard(request)
                return _interrupted()
            self._running = request
        ours = _ours(self.get_parent("shell"))
        if ours.get("cell") is not None and self.shell is not None:
            self.shell.execution_count = ours["cell"]
        try:
            reply: dict[str, Any] = await super().do_execute(code, silent, *args, **kwargs)
        except KeyboardInterrupt:
            reply = _interrupted()
        finally:
            self._running = None
        for stream in _streams():
            stream.drain()
        if ours.get("keep"):
            self.scope.results[request] = self.scope.last
        self.scope.last = None
        if reply["status"] == "error":
            stopped = reply["ename"] in ("KeyboardInterrupt", "CancelledError")
            self.scope.after_failure(stopped=stopped)
            if self.scope.at and not stopped:
                reply["evalue"] = f"{reply['evalue']} (in {self.scope.at})".strip()
            self.scope.at = ""
        return reply

    def finish_metadata(self, parent: Any, metadata: Any, reply_content: Any) -> Any:
        """Tell with each reply what the group must know of this rank."""
        metadata = super().finish_metadata(parent, metadata, reply_content)
        app: Any = self.parent
        self._shown = app.published or any(stream.written for stream in _streams())
        metadata[OURS] = {"grouped": self.scope.grouped, "shown": self._shown}
        return metadata

    async def rank_stop_request(self, stream: Any, ident: Any, parent: Any) -> None:
        """Interrupt a cell if it runs, or see to it that it will not."""
        request = parent["content"]["request"]
        number = parent["content"].get("signal", signal.SIGINT)
        with self._lock:
            running = self._running == request
            if not running:
                self._refused.add(request)
        if running:
            # Directed at the thread: only there it ends what waits in the operating system.
            signal.pthread_kill(threading.main_thread().ident or 0, number)
            if number == signal.SIGINT:
                # One that waits in a collective sees the signal when its connections break.
                self.scope.cut_links()
            # A cell that awaits is cancelled by a callback, for which the loop must wake up.
            self.io_loop.add_callback(lambda: None)
        self._answer(stream, ident, parent, {"running": running})

    async def rank_frames_request(self, stream: Any, ident: Any, parent: Any) -> None:
        """Say where the main thread is."""
        frame = sys._current_frames().get(threading.main_thread().ident or 0)
        where = _tracebacks.where(frame) if self._running is not None else None
        self._answer(stream, ident, parent, {"frame": where})

    async def rank_leave_request(self, stream: Any, ident: Any, parent: Any) -> None:
        """End the loop after the cells that are queued by now, so that Ray gets its turn."""
        self.io_loop.add_callback(self._leave_loop)
        self._answer(stream, ident, parent, {})

    def _leave_loop(self) -> None:
        self.leaves += 1
        self.io_loop.stop()

    async def rank_drop_request(self, stream: Any, ident: Any, parent: Any) -> None:
        """Leave the process group if no cell uses it: who waits for us in a collective wakes up."""
        if self._running is None:
            await asyncio.get_running_loop().run_in_executor(None, self.scope.drop_group)
        self._answer(stream, ident, parent, {})

    def _answer(self, stream: Any, ident: Any, parent: Any, content: dict[str, Any]) -> None:
        kind = parent["header"]["msg_type"].replace("_request", "_reply")
        assert self.session is not None
        self.session.send(stream, kind, {"status": "ok", **content}, parent, ident=ident)

    def raw_input(self, prompt: str = "") -> str:
        """Refuse ``input()``: nobody sits in front of a rank."""
        del prompt
        self._refuse_input()
        raise AssertionError

    def getpass(self, *args: Any, **kwargs: Any) -> str:
        """Refuse ``getpass()`` likewise."""
        del args, kwargs
        self._refuse_input()
        raise AssertionError

    def _refuse_input(self) -> None:
        message = (
            "a rank cannot ask for input. Ask in the notebook, then send the answer: "
            "answer = input(); %push answer"
        )
        raise StdinNotImplementedError(message)


def _ours(parent: Mapping[str, Any]) -> dict[str, Any]:
    """What the group said about a request of its own; empty for one of somebody else."""
    found: dict[str, Any] = parent.get("metadata", {}).get(OURS) or {}
    return found


def _is_ours(parent: Mapping[str, Any]) -> bool:
    return OURS in parent.get("metadata", {})


def _no_copy(channel: str) -> contextlib.nullcontext[str]:
    return contextlib.nullcontext(channel)


def _streams() -> list[RankStream]:
    return [stream for stream in (sys.stdout, sys.stderr) if isinstance(stream, RankStream)]


def _interrupted() -> dict[str, Any]:
    return {
        "status": "error",
        "ename": "KeyboardInterrupt",
        "evalue": "",
        "traceback": [],
        "execution_count": 0,
        "user_expressions": {},
        "payload": [],
    }
