"""HTTP on a Unix socket without Heliostat's own client, so that a test may say anything."""

from __future__ import annotations

import contextlib
import http.client
import socket
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import msgspec

from heliostat._messages.base import ErrorBody

if TYPE_CHECKING:
    from pathlib import Path


@dataclass(frozen=True)
class Answer:
    """What came back."""

    status: int
    content_type: str | None
    content: bytes

    def decode(self, kind: Any) -> Any:
        """Read the body strictly as ``kind``."""
        return msgspec.json.decode(self.content, type=kind)

    @property
    def error(self) -> ErrorBody:
        """The body of a refusal."""
        assert self.status >= 400
        body: ErrorBody = self.decode(ErrorBody)
        return body


def ask(path: Path, method: str, url: str, body: bytes | None = None, seconds: float = 30.0) -> Answer:
    """Send one request to the Unix socket ``path``; ``url`` is whole, with version and query."""
    with contextlib.closing(socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)) as connected:
        connected.settimeout(seconds)
        connected.connect(str(path))
        connection = http.client.HTTPConnection("localhost")
        connection.sock = connected
        connection.request(method, url, body)
        response = connection.getresponse()
        return Answer(response.status, response.getheader("Content-Type"), response.read())


def send_raw(path: Path, content: bytes, seconds: float = 30.0) -> bytes:
    """Send bytes that need not be HTTP and return all that comes back until the end."""
    with contextlib.closing(socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)) as connected:
        connected.settimeout(seconds)
        connected.connect(str(path))
        with contextlib.suppress(BrokenPipeError, ConnectionResetError):
            connected.sendall(content)
            connected.shutdown(socket.SHUT_WR)
        received = b""
        with contextlib.suppress(ConnectionResetError):
            while part := connected.recv(65536):
                received += part
        return received
