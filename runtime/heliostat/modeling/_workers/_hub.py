"""The driver's side of the connections: one listener, one thread for each connection."""

from __future__ import annotations

import contextlib
import secrets
import socket
import threading
from multiprocessing.connection import Connection, Listener, answer_challenge, deliver_challenge
from typing import TYPE_CHECKING

from heliostat.modeling._workers._wire import KEY_BYTES, Address, Hello

if TYPE_CHECKING:
    from collections.abc import Callable

    Joined = Callable[[Hello, Connection], None]

_SECONDS_TO_PROVE = 10.0


class Hub:
    """Takes in workers. ``expect`` says who may come and who hears of it, on the connection's thread."""

    def __init__(self, host: str) -> None:
        self._listener = Listener((host, 0), backlog=128)
        bound = self._listener.address
        self.address = Address(str(bound[0]), int(bound[1]), secrets.token_bytes(KEY_BYTES))
        self._expected: dict[str, Joined] = {}
        threading.Thread(target=self._accept, name="heliostat-hub", daemon=True).start()

    def expect(self, token: str, joined: Joined) -> None:
        """Let a worker in that says ``token``; it may come with several connections."""
        self._expected[token] = joined

    def forget(self, token: str) -> None:
        """Let no one in with ``token`` any more."""
        self._expected.pop(token, None)

    def close(self) -> None:
        """Listen no more. Connections that are there stay."""
        with contextlib.suppress(OSError):
            self._listener.close()

    def _accept(self) -> None:
        while True:
            try:
                connection = self._listener.accept()
            except OSError:
                return
            # On a thread of its own: whoever does not prove itself must not keep the others waiting.
            threading.Thread(
                target=self._take_in, args=(connection,), name="heliostat-worker", daemon=True
            ).start()

    def _take_in(self, connection: Connection) -> None:
        try:
            with _limited(connection):
                deliver_challenge(connection, self.address.key)
                answer_challenge(connection, self.address.key)
                hello = connection.recv()
            joined = self._expected.get(hello.token)
        except Exception:
            connection.close()
            return
        if joined is None:
            connection.close()
        else:
            joined(hello, connection)


@contextlib.contextmanager
def _limited(connection: Connection):  # type: ignore[no-untyped-def]  # noqa: ANN202
    """Cut the connection when the peer has not proved itself in time."""
    raw = socket.socket(fileno=connection.fileno())
    timer = threading.Timer(_SECONDS_TO_PROVE, lambda: raw.shutdown(socket.SHUT_RDWR))
    timer.daemon = True
    timer.start()
    try:
        yield
    finally:
        timer.cancel()
        raw.detach()
