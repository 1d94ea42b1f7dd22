"""Speak with a supervisor over its Unix socket: plain HTTP, typed on both sides."""

from __future__ import annotations

import http.client
import socket
from typing import TYPE_CHECKING, Any, TypeVar

import msgspec
from msgspec.json import decode

from heliostat import _calls as calls
from heliostat._messages import (
    CellAccount,
    CellEvent,
    DriverEvent,
    ErrorBody,
    Node,
    Rank,
    RankChoice,
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
_T = TypeVar("_T")


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
        return self._ask(calls.status(after, wait))

    def stop(self) -> None:
        """Begin to take the runtime down."""
        self._ask(calls.stop())

    def restart(self, target: ResizeTarget) -> RuntimeStatus:
        """Boot Ray anew; returns when it is up or has failed."""
        return self._ask(calls.restart(RestartRequest(target=target)))

    def check_restart(self, target: ResizeTarget) -> None:
        """Say whether ``restart`` could be done. Raises ResizeError, BootError."""
        self._ask(calls.restart(RestartRequest(target=target, check_only=True)))

    def nodes(self) -> list[Node]:
        """Return the nodes, head first."""
        return self._ask(calls.nodes())

    def samples(self, since: float) -> list[Sample]:
        """Return readings taken after ``since``."""
        return self._ask(calls.samples(since))

    def cells(self) -> list[CellAccount]:
        """Return what each cell used."""
        return self._ask(calls.cells())

    def note_cell(self, event: CellEvent) -> None:
        """Note that a cell began or ended."""
        self._ask(calls.note_cell(event))

    def note_driver(self, *, connected: bool) -> None:
        """Note that the owner is about to connect to Ray, or has let go of it."""
        self._ask(calls.note_driver(DriverEvent(connected=connected)))

    def work(self) -> list[Work]:
        """Return the long work of the owner, oldest first."""
        return self._ask(calls.work())

    def report_work(self, report: WorkReport) -> WorkOrders:
        """Tell news of the owner's work; returns what shall stop."""
        return self._ask(calls.report_work(report))

    def cancel_work(self, task_id: str) -> None:
        """Ask for a piece of work to stop. Raises ConfigurationError where it does not run."""
        self._ask(calls.cancel_work(WorkChoice(task_id=task_id)))

    def work_log(self, task_id: str, lines: int) -> list[str]:
        """Return the last lines of the log of a piece of work."""
        return self._ask(calls.work_log(task_id, lines))

    def ranks(self) -> list[Rank]:
        """Return the processes behind ``%%distribute``, in their order."""
        return self._ask(calls.ranks())

    def stop_rank(self, rank: int) -> None:
        """Ask for a rank to stop what it runs. Raises ConfigurationError where it runs nothing."""
        self._ask(calls.stop_rank(RankChoice(rank=rank)))

    def plan(self, target: ResizeTarget) -> ResizePlan:
        """Say what a resize would do."""
        return self._ask(calls.plan(target))

    def resize(self, request: ResizeRequest) -> ResizeOperation:
        """Begin a resize."""
        return self._ask(calls.resize(request))

    def cancel_resize(self) -> ResizeOperation:
        """Go back to the size before the running resize."""
        return self._ask(calls.cancel_resize())

    def openapi(self) -> dict[str, Any]:
        """Return the OpenAPI document."""
        return self._ask(calls.openapi())

    def _ask(self, call: calls.Call[_T]) -> _T:
        seconds = _SECONDS_TO_ANSWER if call.seconds is None else call.seconds
        connection = _UnixConnection(self._path, seconds + call.waits)
        try:
            connection.request(call.method, call.target, call.content)
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
        return call.decode(content)


def _error(content: bytes, status: int) -> Exception:
    try:
        body = decode(content, type=ErrorBody)
    except msgspec.MsgspecError:
        message = f"The supervisor answered {status} without a reason."
        return RuntimeLostError(message)
    return error_from_body(body.error, body.message, body.action, body.fields)
