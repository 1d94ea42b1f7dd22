"""A Ray cluster that somebody else booted, with a directory and a token of its own."""

from __future__ import annotations

import shutil
import tempfile
from pathlib import Path

from tests.support.owner import Owner, wait_for

from heliostat._supervisor.processes import MARK, marked_with

_TOKEN = "f" * 64
_BOOT = """
from pathlib import Path
import ray
from heliostat._cluster import slim
slim.LOOPBACK = ray.util.get_node_ip_address()
node = slim.boot_head(slim.NodeShape(2, object_store_bytes=100 << 20), Path({directory!r}), "s", print)
ray.init(node.gcs_address, namespace="theirs", log_to_driver=False)
class Counter:
    def __init__(self):
        self.count = 0
    def add(self):
        self.count += 1
        return self.count
counter = ray.remote(num_cpus=0)(Counter).options(name="counter", lifetime="detached").remote()
ray.get(counter.add.remote())
"""


class Foreign:
    """A living cluster with an actor that counts, and files with a right and a wrong token."""

    def __init__(self, mode: str) -> None:
        # Short, since Ray's sockets lie below it.
        self.directory = Path(tempfile.mkdtemp(prefix="f", dir="/tmp"))
        self.token, self.wrong_token = self.directory / "token", self.directory / "wrong"
        self.token.write_text(_TOKEN)
        self.wrong_token.write_text("0" * 64)
        self._mark = self.directory.name
        environment = {"RAY_AUTH_MODE": mode, MARK: self._mark}
        if mode == "token":
            environment["RAY_AUTH_TOKEN_PATH"] = str(self.token)
        self._process = Owner(self.directory, "none", environment)
        self._process.run(_BOOT.format(directory=str(self.directory / "r")), seconds=90)
        self.address: str = self._process.run("node.gcs_address")

    def count(self) -> int:
        """Ask the foreign actor, which fails if it or the cluster is gone."""
        found: int = self._process.run("ray.get(counter.add.remote(), timeout=20)")
        return found

    def actors(self) -> int:
        """How many actors live there, of whomever."""
        found: int = self._process.run(
            "from ray._private.state import actors; sum(a['State'] == 'ALIVE' for a in actors().values())"
        )
        return found

    def end(self) -> None:
        """Take it down with all its processes and files."""
        self._process.run("ray.shutdown(); node.kill_all_processes(check_alive=False)")
        self._process.end()
        for process in marked_with([self._mark]):
            process.kill()
        # Its processes write logs as long as they live.
        wait_for(lambda: not marked_with([self._mark]), 10)
        shutil.rmtree(self.directory)
