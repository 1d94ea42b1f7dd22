"""Jupyter kernels under measurement: start one, run cells in it as a front end does, end it."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any

import zmq
from _processes import end_all, environment
from jupyter_client.manager import KernelManager

from heliostat._supervisor.processes import descendants

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path
    from typing import Self

__all__ = ["MeasuredKernel"]

_SECONDS_TO_REPLY = 60.0
_RECONNECT_MILLISECONDS = 5


class MeasuredKernel:
    """A kernel started from its kernelspec, at home in ``home``."""

    def __init__(self, name: str, home: Path, **more: str) -> None:
        context = zmq.Context()
        # ZeroMQ tries again every 100 ms while the kernel does not listen yet: too coarse here.
        context.setsockopt(zmq.RECONNECT_IVL, _RECONNECT_MILLISECONDS)
        file = home / f"kernel-{time.monotonic_ns()}.json"
        self._manager = KernelManager(kernel_name=name, connection_file=str(file), context=context)
        self.started = time.monotonic()
        with (home / "errors.txt").open("w") as errors:
            self._manager.start_kernel(env=environment(home, **more), cwd=str(home), stderr=errors)
        self._client = self._manager.blocking_client()
        self._client.start_channels(stdin=False, hb=False)

    @property
    def pid(self) -> int:
        """Process id of the kernel."""
        return int(self._manager.provisioner.pid)  # type: ignore[union-attr]

    def ready(self) -> None:
        """Return when the kernel has said what it is."""
        self._reply_to(self._client.kernel_info())

    def execute(self, code: str, **expressions: str) -> dict[str, str]:
        """Run a cell; returns the text of each expression, evaluated after it.

        Raises RuntimeError when the cell does, TimeoutError when no reply comes.
        """
        content = self._reply_to(self._client.execute(code, user_expressions=expressions))
        if content["status"] != "ok":
            message = f"the cell {code!r} failed: {content.get('evalue')}"
            raise RuntimeError(message)
        return {
            name: result["data"]["text/plain"] if result["status"] == "ok" else result["evalue"]
            for name, result in content["user_expressions"].items()
        }

    def shown(self, code: str, enough: Callable[[list[str]], bool]) -> tuple[float, list[str]]:
        """Execute a cell and return after how many seconds all of it was shown, and what that was.

        Shown is the text of streams and displays as a front end would have it at the end, in any
        order. ``enough`` says whether that is all: some of it may come after the cell has ended.
        Raises TimeoutError when it does not come.
        """
        began = time.perf_counter()
        request = self._client.execute(code)
        streams: list[str] = []
        displays: dict[str, str] = {}
        idle = False
        while time.perf_counter() - began < _SECONDS_TO_REPLY:
            message = self._client.get_iopub_msg(timeout=_SECONDS_TO_REPLY)
            kind, content = message["msg_type"], message["content"]
            if kind == "stream":
                streams.append(content["text"])
            elif kind in ("display_data", "update_display_data"):
                name = content.get("transient", {}).get("display_id", f"anonymous {len(displays)}")
                displays[name] = content["data"].get("text/plain", "")
            elif kind == "status" and message["parent_header"].get("msg_id") == request:
                idle = idle or content["execution_state"] == "idle"
            seconds = time.perf_counter() - began
            if idle and enough(["".join(streams), *displays.values()]):
                self._reply_to(request)
                return seconds, ["".join(streams), *displays.values()]
        text = f"not all of the cell {code!r} was shown in {_SECONDS_TO_REPLY:g} s"
        raise TimeoutError(text)

    def _reply_to(self, request: str) -> dict[str, Any]:
        deadline = time.monotonic() + _SECONDS_TO_REPLY
        while time.monotonic() < deadline:
            reply = self._client.get_shell_msg(timeout=_SECONDS_TO_REPLY)
            if reply["parent_header"].get("msg_id") == request:
                content: dict[str, Any] = reply["content"]
                return content
        message = f"the kernel did not reply in {_SECONDS_TO_REPLY:g} s"
        raise TimeoutError(message)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_exception: object) -> None:
        below = descendants(self.pid)
        self._client.stop_channels()
        self._manager.shutdown_kernel(now=True)
        end_all(below)
