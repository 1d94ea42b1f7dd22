"""A supervisor with as many nodes as one likes, whose figures change every second."""

from __future__ import annotations

import asyncio
import os
import random
import tempfile
import threading
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

import msgspec
import psutil
from tests.support.messages import ready
from tornado.httpserver import HTTPServer
from tornado.netutil import bind_unix_socket
from tornado.web import Application, RequestHandler

from heliostat._messages.cluster import Limits, Node, Provider, Resources
from heliostat._messages.runtime import Manifest, Owner, RuntimeStatus
from heliostat._messages.usage import HostUse, ProcessUse, RayUse, Sample
from heliostat._supervisor.processes import machine_id

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

__all__ = ["SimulatedSupervisor", "simulated_sample"]

_GIB = 2**30


class SimulatedSupervisor:
    """Serves on a Unix socket, from a thread with a loop of its own, while its ``with`` block runs.

    ``answers`` has what is answered in place of made-up figures, by the last part of the path:
    a message, or a function that makes one.
    """

    def __init__(
        self,
        runtime_directory: Path,
        kernel_ids: Sequence[str],
        nodes: int,
        answers: Mapping[str, Any] | None = None,
    ) -> None:
        self.answers = dict(answers or {})
        self._directory = Path(tempfile.mkdtemp(prefix="hs-"))
        self._manifests = [
            runtime_directory / f"heliostat-sim{index}.json" for index in range(len(kernel_ids))
        ]
        self._kernel_ids, self._nodes = kernel_ids, nodes
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        asyncio.run_coroutine_threadsafe(self._serve(), self._loop).result()
        me = Owner(pid=os.getpid(), started_at=psutil.Process().create_time())
        for path, kernel_id in zip(self._manifests, self._kernel_ids, strict=True):
            manifest = Manifest(
                runtime_id=path.stem.removeprefix("heliostat-"),
                version=1,
                owner=msgspec.structs.replace(me, kernel_id=kernel_id),
                supervisor=me,
                socket=str(self._directory / "s"),
                directory=str(self._directory),
                provider=Provider.LOCAL,
                created_at=time.time(),
                machine=machine_id(),
            )
            path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
            path.write_bytes(msgspec.json.encode(manifest))
            path.chmod(0o600)
        return self

    def __exit__(self, *_: object) -> None:
        for path in self._manifests:
            path.unlink(missing_ok=True)
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()

    async def _serve(self) -> None:
        server = HTTPServer(
            Application([(r"/v1/(.*)", _Handler, {"nodes": self._nodes, "said": self.answers})])
        )
        server.add_socket(bind_unix_socket(str(self._directory / "s"), mode=0o600))


class _Handler(RequestHandler):
    def initialize(self, nodes: int, said: dict[str, Any]) -> None:
        self._nodes, self._said = nodes, said

    async def get(self, path: str) -> None:
        if path == "runtime" and self.get_query_argument("after", ""):
            await asyncio.sleep(float(self.get_query_argument("wait", "0")))
        answers: dict[str, Any] = {
            "runtime": _status(self._nodes),
            "samples": [simulated_sample(self._nodes)],
            "nodes": [_node(index) for index in range(self._nodes)],
            **self._said,
        }
        answer = answers.get(path, [])
        self.finish(msgspec.json.encode(answer() if callable(answer) else answer))


def _node(index: int) -> Node:
    return Node(
        node_id=f"{index:056x}",
        name=f"node-{index}",
        head=index == 0,
        state="alive",
        address=f"10.0.0.{index}",
        cpus=8,
        gpus=0,
        memory_bytes=32 * _GIB,
        object_store_bytes=8 * _GIB,
        # A node's share changes now and then, not every second.
        cpus_used=float(random.Random(index + int(time.time()) // 10).randrange(9)),
        gpus_used=0.0,
    )


def simulated_sample(nodes: int) -> Sample:
    """Return a reading whose figures are other ones each time."""
    cpus = 8.0 * nodes
    return Sample(
        at=time.time(),
        host=HostUse(
            cpu_percent=random.uniform(0, 800),
            cpus=8,
            memory_used_bytes=random.randrange(8 * _GIB, 16 * _GIB),
            memory_limit_bytes=32 * _GIB,
            shm_used_bytes=_GIB,
            shm_limit_bytes=16 * _GIB,
            disk_used_bytes=100 * _GIB,
            disk_limit_bytes=500 * _GIB,
        ),
        processes=[
            ProcessUse(
                pid=index,
                name=f"ray::worker{index}",
                role="worker",
                cpu_seconds=1.0,
                cpu_percent=random.uniform(0, 100),
                memory_bytes=_GIB,
            )
            for index in range(10)
        ],
        gpus=[],
        ray=RayUse(
            cpus=cpus,
            cpus_used=random.uniform(0, cpus),
            gpus=0,
            gpus_used=0,
            memory_bytes=32 * _GIB * nodes,
            memory_used_bytes=0,
            object_store_bytes=8 * _GIB * nodes,
            object_store_used_bytes=random.randrange(_GIB),
            pending=[],
        ),
    )


def _status(nodes: int) -> RuntimeStatus:
    size = Resources(
        cpus=8 * nodes,
        gpus=0,
        memory_bytes=32 * _GIB * nodes,
        object_store_bytes=8 * _GIB * nodes,
        nodes=nodes,
    )
    return msgspec.structs.replace(
        ready(),
        runtime_id="sim",
        started_at=time.time() - 60,
        owner=Owner(pid=os.getpid(), started_at=1.0),
        supervisor_pid=os.getpid(),
        address="127.0.0.1:6379",
        resources=size,
        limits=Limits(cpus=999, gpus=0, memory_bytes=999 * _GIB, object_store_bytes=_GIB, nodes=200),
    )
