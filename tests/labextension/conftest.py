"""A real Jupyter server with the extension, and supervisors that speak their HTTP for real."""

from __future__ import annotations

import asyncio
import os
import socket
from typing import TYPE_CHECKING, Any

import msgspec
import psutil
import pytest
from pytest_jupyter.jupyter_core import *  # noqa: F403 - fixtures of this folder alone
from pytest_jupyter.jupyter_server import *  # noqa: F403 - as a plugin they would run in every folder
from tornado.httpserver import HTTPServer
from tornado.netutil import bind_unix_socket
from tornado.web import Application, RequestHandler

from heliostat._messages.cluster import Provider
from heliostat._messages.runtime import Manifest, Owner
from heliostat._supervisor.processes import machine_id

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from jupyter_server.serverapp import ServerApp


@pytest.fixture  # type: ignore[no-redef]
def jp_server_config() -> dict[str, Any]:
    """Load the extension, as the wheel's configuration file does."""
    return {"ServerApp": {"jpserver_extensions": {"heliostat_lab": True}}}


class Answers:
    """What a supervisor answers, by path: status and body. Changed by the tests."""

    def __init__(self) -> None:
        self.by_path: dict[str, tuple[int, bytes]] = {}
        self.queries: list[str] = []
        self.bodies: list[tuple[str, bytes]] = []
        self.news = asyncio.Event()

    def set(self, path: str, message: Any, status: int = 200) -> None:
        """Answer ``message`` on ``path``; bytes go out as they are."""
        body = message if isinstance(message, bytes) else msgspec.json.encode(message)
        self.by_path[path] = status, body


class _Handler(RequestHandler):
    def initialize(self, answers: Answers) -> None:
        self._answers = answers

    async def get(self) -> None:
        self._answers.queries.append(self.request.query)
        if self.get_query_argument("after", None) is not None:
            # As the supervisor does: the answer comes when there is news.
            await self._answers.news.wait()
            self._answers.news.clear()
        status, body = self._answers.by_path[self.request.path]
        self.set_status(status)
        self.finish(body)

    def post(self) -> None:
        self._answers.bodies.append((self.request.path, self.request.body))
        status, body = self._answers.by_path[self.request.path]
        self.set_status(status)
        self.finish(body)


@pytest.fixture
def socket_path(tmp_path: Path) -> Path:
    """Where the supervisor listens."""
    return tmp_path / "supervisor.sock"


@pytest.fixture
def supervisor(jp_asyncio_loop: Any, socket_path: Path) -> Iterator[Answers]:
    """HTTP on a Unix socket, in the server's own event loop."""
    answers = Answers()

    async def start() -> HTTPServer:
        server = HTTPServer(Application([(".*", _Handler, {"answers": answers})]))
        server.add_socket(bind_unix_socket(str(socket_path), mode=0o600))
        return server

    server = jp_asyncio_loop.run_until_complete(start())
    yield answers
    server.stop()
    jp_asyncio_loop.run_until_complete(server.close_all_connections())


@pytest.fixture
def silent_socket(socket_path: Path) -> Iterator[None]:
    """A supervisor that accepts and never answers."""
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(socket_path))
        listener.listen()
        yield


@pytest.fixture
def kernel_id(jp_serverapp: ServerApp, jp_asyncio_loop: asyncio.AbstractEventLoop) -> str:
    """Id of a real kernel of the server; the server ends it."""
    started = jp_serverapp.kernel_manager.start_kernel(kernel_name="python3")
    return str(jp_asyncio_loop.run_until_complete(started))


class Manifests:
    """Writes manifests where the server looks for them."""

    def __init__(self, socket_path: Path) -> None:
        self._socket = socket_path
        self._started_at = psutil.Process().create_time()

    def write(self, kernel_id: str, runtime_id: str = "r1", created_at: float = 1.0) -> Manifest:
        """Write a manifest of a runtime of ``kernel_id`` whose supervisor is this process."""
        from heliostat._supervisor.manifest import manifest_path

        owner = Owner(pid=os.getpid(), started_at=self._started_at, kernel_id=kernel_id)
        manifest = Manifest(
            machine=machine_id(),
            runtime_id=runtime_id,
            version=1,
            owner=owner,
            supervisor=Owner(pid=os.getpid(), started_at=self._started_at),
            socket=str(self._socket),
            directory=str(self._socket.parent),
            provider=Provider.LOCAL,
            created_at=created_at,
        )
        path = manifest_path(runtime_id)
        path.write_bytes(msgspec.json.encode(manifest))
        path.chmod(0o600)
        return manifest


@pytest.fixture
def manifests(jp_environ: None, socket_path: Path, monkeypatch: pytest.MonkeyPatch) -> Manifests:
    """Manifests of this test alone: the directories are the test's own."""
    monkeypatch.setenv("HELIOSTAT_TMPDIR", "")
    return Manifests(socket_path)
