"""Speak with a supervisor over its Unix socket: plain HTTP, typed on both sides."""

from __future__ import annotations

import http.client
import socket
from typing import TYPE_CHECKING, Any
from urllib.parse import urlencode

import msgspec
from msgspec.json import decode

from heliostat._messages import (
    API_VERSION,
    CellAccount,
    CellEvent,
    DriverEvent,
    ErrorBody,
    Node,
    ResizeOperation,
    ResizePlan,
    ResizeRequest,
    ResizeTarget,
    RestartRequest,
    RuntimeStatus,
    Sample,
    Work,
    WorkChoice,
    WorkOrders,
    WorkReport,
)
from heliostat.exceptions import AuthenticationError, RuntimeLostError, error_from_body

if TYPE_CHECKING:
    from pathlib import Path

_SECONDS_TO_ANSWER = 30.0


class _UnixConnection(http.client.HTTPConnection):
    """HTTP over a Unix socket."""

    def __init__(self, path: Path, timeout: float) -> None:
        super().__init__("localhost", timeout=timeout)
        self._path = path

    def connect(self) -> None:
        self.sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self.sock.settimeout(self.timeout)
        self.sock.connect(str(self._path))


class SupervisorClient:
    """The supervisor's API as methods. Each call is one connection, so threads may share it.

    Every method raises RuntimeLostError when the supervisor is gone, AuthenticationError when it
    is another user's, and the error that the supervisor answered with otherwise.
    """

    def __init__(self, path: Path) -> None:
        self._path = path

    def status(self, after: int | None = None, wait: float = 0.0) -> RuntimeStatus:
        """Return the status; with ``after``, once its version is above it (at most ``wait`` s)."""
        query = {} if after is None else {"after": after, "wait": wait}
        content = self._call("GET", "/runtime", query=query, timeout=_SECONDS_TO_ANSWER + wait)
        return decode(content, type=RuntimeStatus)

    def stop(self) -> None:
        """Begin to take the runtime down."""
        self._call("POST", "/runtime/stop")

    def restart(self, target: ResizeTarget) -> RuntimeStatus:
        """Boot Ray anew; returns when it is up or has failed."""
        content = self._call("POST", "/runtime/restart", RestartRequest(target=target), timeout=180.0)
        return decode(content, type=RuntimeStatus)

    def check_restart(self, target: ResizeTarget) -> None:
        """Say whether ``restart`` could be done. Raises ResizeError, BootError."""
        self._call("POST", "/runtime/restart", RestartRequest(target=target, check_only=True))

    def nodes(self) -> list[Node]:
        """Return the nodes, head first."""
        return decode(self._call("GET", "/nodes"), type=list[Node])

    def samples(self, since: float) -> list[Sample]:
        """Return readings taken after ``since``."""
        return decode(self._call("GET", "/samples", query={"since": since}), type=list[Sample])

    def cells(self) -> list[CellAccount]:
        """Return what each cell used."""
        return decode(self._call("GET", "/cells"), type=list[CellAccount])

    def note_cell(self, event: CellEvent) -> None:
        """Note that a cell began or ended."""
        self._call("POST", "/cells", event)

    def note_driver(self, *, connected: bool) -> None:
        """Note that the owner is about to connect to Ray, or has let go of it."""
        self._call("POST", "/driver", DriverEvent(connected=connected))

    def work(self) -> list[Work]:
        """Return the long work of the owner, oldest first."""
        return decode(self._call("GET", "/tasks"), type=list[Work])

    def report_work(self, report: WorkReport) -> WorkOrders:
        """Tell news of the owner's work; returns what shall stop."""
        return decode(self._call("POST", "/tasks", report), type=WorkOrders)

    def cancel_work(self, task_id: str) -> None:
        """Ask for a piece of work to stop. Raises ConfigurationError where it does not run."""
        self._call("POST", "/tasks/cancel", WorkChoice(task_id=task_id))

    def work_log(self, task_id: str, lines: int) -> list[str]:
        """Return the last lines of the log of a piece of work."""
        query = {"task_id": task_id, "lines": lines}
        return decode(self._call("GET", "/tasks/log", query=query), type=list[str])

    def plan(self, target: ResizeTarget) -> ResizePlan:
        """Say what a resize would do."""
        return decode(self._call("POST", "/resize/plan", target), type=ResizePlan)

    def resize(self, request: ResizeRequest) -> ResizeOperation:
        """Begin a resize."""
        return decode(self._call("POST", "/resize", request), type=ResizeOperation)

    def cancel_resize(self) -> ResizeOperation:
        """Go back to the size before the running resize."""
        return decode(self._call("POST", "/resize/cancel", timeout=60.0), type=ResizeOperation)

    def openapi(self) -> dict[str, Any]:
        """Return the OpenAPI document."""
        return decode(self._call("GET", "/openapi.json"), type=dict[str, Any])

    def _call(
        self,
        method: str,
        path: str,
        body: msgspec.Struct | None = None,
        query: dict[str, Any] | None = None,
        timeout: float = _SECONDS_TO_ANSWER,
    ) -> bytes:
        url = f"/{API_VERSION}{path}" + (f"?{urlencode(query)}" if query else "")
        connection = _UnixConnection(self._path, timeout)
        try:
            connection.request(method, url, None if body is None else msgspec.json.encode(body))
            response = connection.getresponse()
            content = response.read()
        except PermissionError as error:
            message = f"The runtime behind {self._path} belongs to another user."
            raise AuthenticationError(message) from error
        except (OSError, http.client.HTTPException) as error:
            message = f"The runtime's supervisor does not answer at {self._path}: {error}."
            raise RuntimeLostError(message, "Start a new one with %runtime start.") from error
        finally:
            connection.close()
        if response.status >= 400:
            raise _error(content, response.status)
        return content


def _error(content: bytes, status: int) -> Exception:
    try:
        body = decode(content, type=ErrorBody)
    except msgspec.MsgspecError:
        message = f"The supervisor answered {status} without a reason."
        return RuntimeLostError(message)
    return error_from_body(body.error, body.message, body.action, body.fields)
