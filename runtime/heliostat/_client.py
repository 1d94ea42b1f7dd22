"""Speak with a supervisor over its Unix socket: plain HTTP, typed on both sides."""

from __future__ import annotations

import http.client
import socket
from typing import TYPE_CHECKING, TypeVar

import msgspec
from msgspec.json import decode

from heliostat._messages.base import ErrorBody
from heliostat.exceptions import AuthenticationError, RuntimeLostError, error_from_body

if TYPE_CHECKING:
    from pathlib import Path

    from heliostat._calls import Call


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
    """Makes the calls of ``heliostat._calls``. Each is one connection, so threads may share it."""

    def __init__(self, path: Path) -> None:
        self._path = path

    def ask(self, call: Call[_T]) -> _T:
        """Make a call and return its answer.

        Raises
        ------
        RuntimeLostError
            The supervisor is gone.
        AuthenticationError
            It is another user's.
        HeliostatError
            Whatever the supervisor refuses with.
        """
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
