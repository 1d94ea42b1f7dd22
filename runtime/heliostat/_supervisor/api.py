"""The supervisor's HTTP API on a Unix socket.

One table of routes serves requests, the OpenAPI document and the documentation, so they
cannot disagree. The socket is a file of mode 0600 in a directory of mode 0700, and the peer's
user is checked again by the kernel's word (``SO_PEERCRED``): nobody else gets in, and no
token is needed. Bodies are JSON and decoded strictly; a wrong one changes nothing.
"""

from __future__ import annotations

import asyncio
import logging
import math
import os
import re
import socket
import struct
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import msgspec
from tornado.httpserver import HTTPServer
from tornado.netutil import bind_unix_socket
from tornado.web import Application, HTTPError, RequestHandler

from heliostat._messages.base import API_VERSION, ErrorBody
from heliostat.exceptions import AuthenticationError, ConfigurationError, HeliostatError, RuntimeLostError

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Mapping
    from pathlib import Path

_log = logging.getLogger(__name__)
_STATUS_OF = {AuthenticationError: 403, ConfigurationError: 400}
_LARGEST_BODY = 1 << 20
_NOBODY = -1


@dataclass(frozen=True)
class Route:
    """One operation: where it is, what it takes, what it answers, who does it."""

    method: str
    path: str
    """Below ``/v1``."""
    summary: str
    answer: Any
    """Type of the JSON answer; ``None`` for an empty one."""
    act: Callable[..., Awaitable[Any]]
    """Called with the body, if there is one, and the query as keywords."""
    body: type[msgspec.Struct] | None = None
    query: Mapping[str, type] = field(default_factory=dict)


def openapi(routes: list[Route], title: str, version: str) -> dict[str, Any]:
    """Describe ``routes`` as an OpenAPI 3.1 document."""
    types = [t for route in routes for t in (route.answer, route.body, ErrorBody) if t is not None]
    schemas, components = msgspec.json.schema_components(types, ref_template="#/components/schemas/{name}")
    schema_of = dict(zip(map(repr, types), schemas, strict=True))
    paths: dict[str, dict[str, Any]] = {}
    for route in routes:
        operation: dict[str, Any] = {"summary": route.summary, "responses": _responses(route, schema_of)}
        if route.body is not None:
            content = {"application/json": {"schema": schema_of[repr(route.body)]}}
            operation["requestBody"] = {"required": True, "content": content}
        operation["parameters"] = [
            {"name": name, "in": "query", "schema": msgspec.json.schema(kind)}
            for name, kind in route.query.items()
        ]
        paths.setdefault(f"/{API_VERSION}{route.path}", {})[route.method.lower()] = operation
    info = {"title": title, "version": version}
    return {"openapi": "3.1.0", "info": info, "paths": paths, "components": {"schemas": components}}


def _responses(route: Route, schema_of: Mapping[str, Any]) -> dict[str, Any]:
    def content(schema: Any) -> dict[str, Any]:
        return {"content": {"application/json": {"schema": schema}}}

    done: dict[str, Any] = {"description": "Done."}
    if route.answer is not None:
        done |= content(schema_of[repr(route.answer)])
    refused = {"description": "Refused; nothing was changed.", **content(schema_of[repr(ErrorBody)])}
    return {"200": done, "default": refused}


class _Handler(RequestHandler):
    """Serves every route, and says of every other that there is none."""

    def initialize(self, routes: Mapping[str, Route] | None = None) -> None:
        self._routes = routes

    def set_default_headers(self) -> None:
        self.set_header("Content-Type", "application/json")

    def prepare(self) -> None:
        if _peer_uid(self) not in (os.getuid(), 0):
            message = "This runtime belongs to another user."
            self._refuse(AuthenticationError(message))

    async def get(self) -> None:
        await self._serve()

    async def post(self) -> None:
        await self._serve()

    def write_error(self, status_code: int, **_: Any) -> None:
        """Say in our own words what Tornado refuses by itself."""
        message = f"The request is refused: {self._reason}."
        if status_code == 405:
            message = f"{self.request.method} is not offered for {self.request.path}."
        kind = ConfigurationError if status_code < 500 else HeliostatError
        self._refuse(kind(message), status_code)

    async def _serve(self) -> None:
        if self._routes is None:
            message = f"There is nothing at {self.request.path}."
            self._refuse(ConfigurationError(message, f"GET /{API_VERSION}/openapi.json lists what is."), 404)
            return
        route = self._routes.get(self.request.method or "")
        if route is None:
            raise HTTPError(405)
        try:
            answer = await route.act(*self._body(route), **self._query(route))
        except HeliostatError as error:
            self._refuse(error)
        except HTTPError:
            raise
        except asyncio.CancelledError:
            # The event loop ends, and whoever still waits for news hears this.
            self._refuse(RuntimeLostError("The runtime was stopped."), 503)
        except Exception as error:
            _log.exception("%s %s failed", self.request.method, self.request.path)
            self._refuse(HeliostatError(f"The supervisor failed: {error}", "See %runtime log."), 500)
        else:
            self.finish(b"" if answer is None else msgspec.json.encode(answer))

    def _body(self, route: Route) -> tuple[Any, ...]:
        if route.body is None:
            return ()
        try:
            return (msgspec.json.decode(self.request.body, type=route.body),)
        except msgspec.MsgspecError as error:
            message = f"The request cannot be understood: {error}."
            raise ConfigurationError(message) from error

    def _query(self, route: Route) -> dict[str, Any]:
        return {name: self._parameter(route, name) for name in self.request.query_arguments}

    def _parameter(self, route: Route, name: str) -> Any:
        kind, text = route.query.get(name), self.get_query_argument(name)
        if kind is None:
            message = f"The query cannot be understood: there is no parameter {name!r}."
            raise ConfigurationError(message)
        try:
            value: Any = msgspec.convert(text, kind, strict=False)
        except msgspec.MsgspecError as error:
            message = f"The query cannot be understood: {name}: {error}."
            raise ConfigurationError(message) from error
        if isinstance(value, float) and not math.isfinite(value):
            message = f"The query cannot be understood: {name} is {text}, which is no number."
            raise ConfigurationError(message)
        return value

    def _refuse(self, error: HeliostatError, status: int | None = None) -> None:
        known = next((code for cls, code in _STATUS_OF.items() if isinstance(error, cls)), 409)
        self.set_status(status or known)
        body = ErrorBody(
            error=type(error).__name__, message=error.message, action=error.action, fields=error.fields
        )
        self.finish(msgspec.json.encode(body))


def _peer_uid(handler: RequestHandler) -> int:
    if not hasattr(socket, "SO_PEERCRED"):
        # Elsewhere the modes of directory and socket have to do.
        return os.getuid()
    stream: Any = getattr(handler.request.connection, "stream", None)
    if stream is None:
        return _NOBODY
    credentials = stream.socket.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, struct.calcsize("3i"))
    _, uid, _ = struct.unpack("3i", credentials)
    return int(uid)


def serve(routes: list[Route], path: Path) -> HTTPServer:
    """Listen on the Unix socket ``path`` (mode 0600) from the running event loop."""
    by_path: dict[str, dict[str, Route]] = {}
    for route in routes:
        by_path.setdefault(f"/{API_VERSION}{route.path}", {})[route.method] = route
    handlers = [(re.escape(path), _Handler, {"routes": found}) for path, found in by_path.items()]
    application = Application(handlers, default_handler_class=_Handler)
    server = HTTPServer(application, max_body_size=_LARGEST_BODY)
    server.add_socket(bind_unix_socket(str(path), mode=0o600))
    return server
