"""A proxy as JupyterHub puts one before its users' servers: below a prefix, stripping nothing.

It passes HTTP and WebSockets on, adds what proxies add, answers 404 to all other paths, and lets go
of WebSockets on which nothing was said for a while. It runs on a thread with a loop of its own.
"""

from __future__ import annotations

import asyncio
import contextlib
import threading
from typing import TYPE_CHECKING, Any, Self

from tornado.httpclient import AsyncHTTPClient, HTTPRequest
from tornado.httpserver import HTTPServer
from tornado.web import Application, RequestHandler
from tornado.websocket import WebSocketClientConnection, WebSocketHandler, websocket_connect

if TYPE_CHECKING:
    from collections.abc import Awaitable

_HOP_BY_HOP = {
    "connection",
    "keep-alive",
    "transfer-encoding",
    "upgrade",
    "content-length",
    "content-encoding",
}
_HANDSHAKE = {
    "sec-websocket-key",
    "sec-websocket-version",
    "sec-websocket-extensions",
    "sec-websocket-protocol",
    "connection",
    "upgrade",
}


class HubProxy:
    """Stands before the server at ``target`` and serves ``prefix`` on ``port`` while it is entered."""

    def __init__(self, port: int, target_port: int, prefix: str, idle_seconds: float) -> None:
        self.port, self.prefix = port, prefix
        self.target, self.idle_seconds = f"127.0.0.1:{target_port}", idle_seconds
        self.sockets: set[_Socket] = set()
        self.dropped_idle = 0
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, daemon=True)
        self._server: HTTPServer | None = None

    def __enter__(self) -> Self:
        self._thread.start()
        self.open()
        return self

    def __exit__(self, *_: object) -> None:
        self.close()
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()

    def open(self) -> None:
        """Listen, again after a :meth:`close`."""
        self._run(self._open())

    def close(self) -> None:
        """Stop to listen and drop everybody, as a proxy does that is restarted."""
        self._run(self._close())

    def _run(self, work: Awaitable[None]) -> None:
        async def wait() -> None:
            await work

        asyncio.run_coroutine_threadsafe(wait(), self._loop).result(10)

    async def _open(self) -> None:
        below = rf"{self.prefix}.*"
        routes: list[Any] = [(below, _Door, {"proxy": self})]
        self._server = HTTPServer(Application(routes))
        self._server.listen(self.port, "127.0.0.1")

    async def _close(self) -> None:
        assert self._server is not None
        self._server.stop()
        for each in list(self.sockets):
            each.drop()
        await self._server.close_all_connections()


class _Door(RequestHandler):
    """Sends a request to whom it belongs."""

    def initialize(self, proxy: HubProxy) -> None:
        self._proxy = proxy

    def check_xsrf_cookie(self) -> None:
        """Leave that to the server behind."""

    async def _execute(self, *arguments: Any, **more: Any) -> None:
        if self.request.headers.get("Upgrade", "").lower() == "websocket":
            handler = _Socket(self.application, self.request, proxy=self._proxy)
            await handler._execute([], *arguments[1:], **more)
            return
        await super()._execute(*arguments, **more)

    async def _pass_on(self) -> None:
        request = self.request
        headers = {
            name: value for name, value in request.headers.get_all() if name.lower() not in _HOP_BY_HOP
        }
        headers["X-Forwarded-For"], headers["X-Forwarded-Proto"] = request.remote_ip or "", "http"
        headers["Accept-Encoding"] = "identity"
        answer = await AsyncHTTPClient(force_instance=True, max_clients=50).fetch(
            HTTPRequest(
                f"http://{self._proxy.target}{request.uri}",
                method=str(request.method),
                headers=headers,
                body=request.body or None,
                allow_nonstandard_methods=True,
                follow_redirects=False,
                request_timeout=180,
            ),
            raise_error=False,
        )
        self.set_status(answer.code, answer.reason)
        for name, value in answer.headers.get_all():
            if name.lower() not in _HOP_BY_HOP:
                self.add_header(name, value)
        if answer.code not in (204, 304):
            self.write(answer.body or b"")

    get = post = put = patch = delete = options = head = _pass_on


class _Socket(WebSocketHandler):
    """One WebSocket, and the one behind it."""

    def initialize(self, proxy: HubProxy) -> None:
        self._proxy = proxy
        self._behind: WebSocketClientConnection | None = None
        self._last = 0.0
        self._early: list[str | bytes] = []

    def check_origin(self, origin: str) -> bool:
        """Leave that to the server behind."""
        del origin
        return True

    def select_subprotocol(self, subprotocols: list[str]) -> str | None:
        """Take the first that the browser offers."""
        return subprotocols[0] if subprotocols else None

    async def open(self, *_: str) -> None:
        """Open the one behind, with the browser's cookies and host."""
        self._proxy.sockets.add(self)
        headers = {
            name: value for name, value in self.request.headers.get_all() if name.lower() not in _HANDSHAKE
        }
        request = HTTPRequest(f"ws://{self._proxy.target}{self.request.uri}", headers=headers)
        chosen = [self.selected_subprotocol] if self.selected_subprotocol else None
        try:
            self._behind = await websocket_connect(request, subprotocols=chosen)
        except Exception:
            self.close(1011)
            return
        for message in self._early:
            await self._send_behind(message)
        self._last = asyncio.get_running_loop().time()
        self._tasks = [asyncio.create_task(self._read_behind()), asyncio.create_task(self._watch())]

    async def on_message(self, message: str | bytes) -> None:
        """Pass on what the browser says."""
        self._last = asyncio.get_running_loop().time()
        if self._behind is None:
            self._early.append(message)
        else:
            await self._send_behind(message)

    def on_close(self) -> None:
        """Close the one behind."""
        self._proxy.sockets.discard(self)
        if self._behind is not None:
            self._behind.close()

    def drop(self) -> None:
        """Cut the line without a word."""
        if self.ws_connection is not None and self.ws_connection.stream is not None:
            self.ws_connection.stream.close()

    async def _send_behind(self, message: str | bytes) -> None:
        assert self._behind is not None
        with contextlib.suppress(Exception):
            await self._behind.write_message(message, binary=isinstance(message, bytes))

    async def _read_behind(self) -> None:
        assert self._behind is not None
        while (message := await self._behind.read_message()) is not None:
            self._last = asyncio.get_running_loop().time()
            with contextlib.suppress(Exception):
                await self.write_message(message, binary=isinstance(message, bytes))
        self.close()

    async def _watch(self) -> None:
        loop = asyncio.get_running_loop()
        while self.ws_connection is not None:
            await asyncio.sleep(0.5)
            if loop.time() - self._last > self._proxy.idle_seconds:
                self._proxy.dropped_idle += 1
                self.drop()
                return
