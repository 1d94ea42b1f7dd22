"""A real Jupyter server for tests, and a browser tab's connection to one of its kernels."""

from __future__ import annotations

import json
import subprocess
import sys
import urllib.error
import urllib.request
import uuid
from typing import TYPE_CHECKING, Any

import websocket
from tests.kernel.support import wait_until

if TYPE_CHECKING:
    from tests.kernel.support import Place


class Server:
    """A Jupyter server in a place of its own; ``options`` are for its command line."""

    def __init__(self, place: Place, *options: str, **environment: str) -> None:
        command = [
            *(sys.executable, "-m", "jupyter", "server", "--no-browser", "--allow-root", "--port=0"),
            *("--IdentityProvider.token=open", f"--ServerApp.root_dir={place.path}"),
            *options,
        ]
        self.log = (place.path / "server.log").open("wb")
        self.process = subprocess.Popen(
            command, env=place.environment(**environment), cwd=place.path, stdout=self.log, stderr=self.log
        )
        facts = place.path / f"run/jpserver-{self.process.pid}.json"
        wait_until(lambda: facts.exists() and facts.read_text().endswith("}"), 60, "the server is up")
        self.port = json.loads(facts.read_text())["port"]
        wait_until(self._answers, 30, "the server answers")

    def _answers(self) -> bool:
        try:
            self.call("GET", "status")
        except urllib.error.URLError:
            return False
        return True

    def call(self, method: str, path: str, body: dict[str, Any] | None = None) -> Any:
        """Call the REST API."""
        url = f"http://127.0.0.1:{self.port}/api/{path}"
        headers = {"Authorization": "token open", "Content-Type": "application/json"}
        data = None if body is None else json.dumps(body).encode()
        with urllib.request.urlopen(
            urllib.request.Request(url, data=data, headers=headers, method=method), timeout=30
        ) as reply:
            return json.loads(reply.read() or b"null")

    def kernels(self) -> dict[str, str]:
        """Execution state of each kernel by its id."""
        return {kernel["id"]: kernel["execution_state"] for kernel in self.call("GET", "kernels")}

    def end(self) -> None:
        """Ask it to end itself and its kernels, and wait."""
        self.process.terminate()
        self.process.wait(30)
        self.log.close()


class Tab:
    """A browser tab's connection to a kernel."""

    def __init__(self, server: Server, kernel_id: str) -> None:
        url = f"ws://127.0.0.1:{server.port}/api/kernels/{kernel_id}/channels?token=open"
        self.socket = websocket.create_connection(url, timeout=60)

    def send(self, channel: str, kind: str, content: dict[str, Any]) -> str:
        """Send a request and return its id."""
        message_id = uuid.uuid4().hex
        header = {
            "msg_id": message_id,
            "msg_type": kind,
            "username": "",
            "session": "tab",
            "version": "5.4",
            "date": "2026-01-01T00:00:00Z",
        }
        message = {"header": header, "parent_header": {}, "metadata": {}, "content": content}
        self.socket.send(json.dumps({**message, "channel": channel, "buffers": []}))
        return message_id

    def wait_for(self, kind: str, parent: str) -> None:
        """Read until a message of ``kind`` that answers ``parent``."""
        while True:
            message = json.loads(self.socket.recv())
            if message["msg_type"] == kind and message["parent_header"].get("msg_id") == parent:
                return
