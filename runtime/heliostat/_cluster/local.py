"""The Ray cluster that a supervisor boots on this machine, and its size.

All of this runs on one thread that lives as long as the supervisor (see ``slim``).
"""

from __future__ import annotations

import contextlib
import logging
import os
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import psutil

from heliostat._cluster import compat, slim
from heliostat._cluster.control import ClusterControl, ClusterView
from heliostat._cluster.parker import Parking
from heliostat._messages.cluster import BootMode

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

_log = logging.getLogger(__name__)
_LOAD_SECONDS = 0.1
"""How long to look which CPUs are busy."""
NODE_MEMORY = 256 << 20
"""Bytes that a further node on this machine may promise to tasks; the head has the rest."""
NODE_OBJECT_STORE = 100 << 20
"""Bytes: further nodes have stores of their own, which cost nothing until they are used."""


def slim_boot() -> bool:
    """Whether the slim boot can be used. ``HELIOSTAT_BOOT=stock`` says no."""
    names = ("slim boot", "no API server", "agent stand-ins", "quick workers")
    return os.environ.get("HELIOSTAT_BOOT") != "stock" and all(compat.has(name) for name in names)


def in_place() -> bool:
    """Whether raylets can be resized while they run. ``HELIOSTAT_IN_PLACE=0`` says no."""
    return os.environ.get("HELIOSTAT_IN_PLACE") != "0" and compat.has("resize in place")


class LocalCluster:
    """A head, further raylets on the same machine, and what we hold parked on them."""

    def __init__(self, directory: Path, session: str) -> None:
        self._directory, self._session = directory, session
        self._head: Any = None
        self._nodes: dict[str, Any] = {}
        self._parking: Parking | None = None
        self.control: ClusterControl | None = None
        self.gpus_installed = 0

    def boot(self, shape: slim.NodeShape, mode: BootMode, on_step: Callable[[str], None]) -> None:
        """Start the head."""
        start = slim.boot_head if mode is BootMode.SLIM else slim.boot_stock_head
        self._head = start(shape, self._directory, self._session, on_step)
        self.gpus_installed = shape.gpus
        self.control = ClusterControl(self._head.gcs_address)
        self._parking = Parking(self._head.gcs_address)

    @property
    def address(self) -> str:
        """Ray's ``host:port``."""
        return str(self._head.gcs_address)

    @property
    def logs(self) -> Path:
        """Directory of Ray's logs."""
        return self._directory / self._session / "logs"

    def daemons(self) -> dict[int, str]:
        """Pids of Ray's daemons and what each is, in words."""
        found: dict[int, str] = {}
        if self._head is None:
            return found
        nodes = [
            ("head", self._head),
            *((f"node {key[:8]}", node) for key, node in dict(self._nodes).items()),
        ]
        for where, node in nodes:
            for kind, processes in node.all_processes.items():
                name = "Ray's GCS server" if kind == "gcs_server" else f"Ray's {kind} of the {where}"
                found.update({int(info.process.pid): name for info in processes})
        return found

    def view(self) -> ClusterView:
        """Read the cluster; what is parked is told apart."""
        if self.control is None:
            message = "the cluster is not booted"
            raise RuntimeError(message)
        seen = self.control.view()
        held = self._parking.held if self._parking is not None else {}
        return replace(seen, parked=dict(held))

    def add_node(self) -> None:
        """Start one more raylet of 1 CPU."""
        shape = slim.NodeShape(1, 0, NODE_MEMORY, NODE_OBJECT_STORE)
        node = slim.boot_worker_node(shape, self.address, self._directory)
        self._nodes[str(node.node_id)] = node

    def drain(self, node_id: str, deadline_seconds: float) -> None:
        """Give a node no more work; its raylet exits by itself when the last of it is done."""
        if self.control is not None:
            self.control.drain(node_id, "resize", deadline_seconds)

    def kill_node(self, node_id: str) -> None:
        """End a raylet with all it holds."""
        node = self._nodes.pop(node_id, None)
        if node is not None:
            with contextlib.suppress(Exception):
                node.kill_all_processes(check_alive=False)

    def forget_exited_nodes(self) -> list[str]:
        """Drop raylets that have exited; returns their node ids."""
        gone = [key for key, node in dict(self._nodes).items() if not node.live_processes()]
        for key in gone:
            self._nodes.pop(key, None)
        return gone

    def set_head(self, totals: Mapping[str, float]) -> None:
        """Ask the head's raylet for new totals, and keep its workers to as many CPUs."""
        if self.control is not None:
            self.control.resize(str(self._head.node_id), totals)

    def park(self, cpus: int, gpus: int) -> None:
        """Hold this many CPUs and GPUs from now on."""
        if self._parking is not None:
            self._parking.want(cpus, gpus)

    def confine(self, cpus: int) -> None:
        """Let Ray's workers run on ``cpus`` CPUs of this machine, the least busy ones.

        Ray's CPUs are bookkeeping; this makes them real. Workers started later inherit it.
        """
        usable = sorted(os.sched_getaffinity(0))
        chosen = set(usable)
        if cpus < len(usable):
            load = psutil.cpu_percent(interval=_LOAD_SECONDS, percpu=True)
            chosen = set(sorted(usable, key=lambda c: load[c] if c < len(load) else 0.0)[: max(1, cpus)])
        for pid in self.daemons():
            _set_affinity(pid, chosen)

    @property
    def parked_cpus(self) -> float:
        """CPUs held by parking actors."""
        return self._parking.held.get("CPU", 0.0) if self._parking is not None else 0.0

    def close(self) -> None:
        """Give back what is parked. The supervisor ends the processes."""
        if self._parking is not None:
            self._parking.close()


def _set_affinity(raylet: int, cpus: set[int]) -> None:
    try:
        tree = [psutil.Process(raylet), *psutil.Process(raylet).children(recursive=True)]
    except psutil.Error:
        return
    for process in tree:
        try:
            threads = [int(entry.name) for entry in Path(f"/proc/{process.pid}/task").iterdir()]
        except OSError:
            continue
        for thread in threads:
            with contextlib.suppress(OSError):
                os.sched_setaffinity(thread, cpus)
