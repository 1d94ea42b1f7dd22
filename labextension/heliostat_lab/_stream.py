"""The WebSocket of a page, ``heliostat/api/stream``: all runtimes that the page shows, on one connection.

The browser sends ``StreamRequest``, the server ``StreamUpdate``. A page that is closed or hidden
leaves nothing behind: the tasks that read for it end with the connection.
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

import msgspec
from jupyter_server.base.handlers import JupyterHandler
from jupyter_server.base.websocket import WebSocketMixin
from tornado import web
from tornado.websocket import WebSocketClosedError, WebSocketHandler

from heliostat_lab._kernels import Kernels
from heliostat_lab._messages import StreamRequest
from heliostat_lab._relay import Relay

if TYPE_CHECKING:
    from heliostat_lab._limits import HeliostatLimits
    from heliostat_lab._messages import StreamUpdate

_SHORTEST_INTERVAL = 0.2
_MOST_KERNELS = 64
_LARGEST_REQUEST = 4096
_POLICY_VIOLATION = 1008


class StreamHandler(WebSocketMixin, WebSocketHandler, JupyterHandler):
    """One page. Requests that cannot be understood end the connection with a reason."""

    # The panel's traffic must not keep an idle server alive.
    _track_activity = False

    def initialize(self, limits: HeliostatLimits) -> None:
        """Take what the route has."""
        self._limits = limits
        self._relays: dict[str, asyncio.Task[None]] = {}

    async def get(self, *args: Any, **kwargs: Any) -> None:
        """Open the connection for a user who is known; 403 else."""
        if self.current_user is None:
            raise web.HTTPError(403)
        await super().get(*args, **kwargs)

    def get_compression_options(self) -> dict[str, Any]:
        """Compress: readings repeat themselves."""
        return {"compression_level": 3}

    def on_message(self, message: str | bytes) -> None:
        """Follow a kernel, or stop following it."""
        try:
            if len(message) > _LARGEST_REQUEST:
                raise msgspec.ValidationError
            request = msgspec.json.decode(message, type=StreamRequest)
        except msgspec.MsgspecError:
            self.close(_POLICY_VIOLATION, "not a StreamRequest")
            return
        former = self._relays.pop(request.kernel_id, None)
        if former is not None:
            former.cancel()
        if not request.follow:
            return
        if len(self._relays) >= _MOST_KERNELS:
            self.close(_POLICY_VIOLATION, "too many kernels")
            return
        interval = max(request.interval, _SHORTEST_INTERVAL)
        kernels = Kernels(self.kernel_manager)
        relay = Relay(request.kernel_id, kernels, self._limits.ceilings(), interval, self._send)
        self._relays[request.kernel_id] = asyncio.create_task(self._run(relay))

    def on_close(self) -> None:
        """End what read for this page."""
        for task in self._relays.values():
            task.cancel()
        self._relays.clear()
        super().on_close()

    async def _run(self, relay: Relay) -> None:
        try:
            await relay.run()
        except Exception:
            self.log.exception("Heliostat: a runtime cannot be followed any more")
            self.close(1011, "see the server's log")

    def _send(self, update: StreamUpdate) -> None:
        try:
            self.write_message(msgspec.json.encode(update).decode())
        except WebSocketClosedError:
            self.on_close()
