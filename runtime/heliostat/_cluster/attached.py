"""A Ray cluster that somebody else booted: looked at and used, never ended."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
import threading
from ipaddress import ip_address
from typing import TYPE_CHECKING

import psutil

from heliostat._cluster.control import ClusterControl, ClusterView
from heliostat._cluster.environment import attached_environment
from heliostat.exceptions import AuthenticationError, BootError, ConfigurationError

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

_PROBE_SECONDS = 15.0
_REACHED = "reached"
_PROBE = (
    "import sys; from heliostat._cluster.control import ClusterControl; "
    f"ClusterControl(sys.argv[1]).view(); print({_REACHED!r}, flush=True)"
)


def parse_address(address: str) -> tuple[str, int]:
    """Split ``host:port``. Raises ConfigurationError."""
    host, _, port = address.rpartition(":")
    if "://" in address or not host or not port.isdigit() or not 0 < int(port) < 65536:
        message = f"{address!r} is not the address of a Ray cluster."
        raise ConfigurationError(
            message, "Give host:port of its GCS, such as 10.0.0.5:6379.", address=address
        )
    return host, int(port)


class AttachedCluster:
    """Handle on a foreign cluster, for the supervisor."""

    def __init__(self, address: str, token_path: Path | None) -> None:
        self._host, self._port = parse_address(address)
        self.address = address
        self._token_path = token_path
        self._control: ClusterControl | None = None

    def attach(self, on_step: Callable[[str], None]) -> ClusterView:
        """Reach the cluster and read it.

        Raises
        ------
        BootError
            Nothing listens at the address, it is not a Ray cluster, or it has no node here that a
            driver could join.
        AuthenticationError
            The cluster asks for a token and ours is missing or wrong.
        """
        self._require_token_file()
        self._require_listener()
        on_step(f"{self.address} listens")
        self._require_access()
        on_step("access granted")
        self._control = ClusterControl(self.address)
        view = self._control.view()
        if not view.nodes:
            message = f"The Ray cluster at {self.address} has no nodes."
            raise BootError(message, "Start its head again.", address=self.address)
        self._require_node_here(view)
        return view

    def view(self) -> ClusterView:
        """Read the cluster."""
        if self._control is None:
            message = "not attached"
            raise RuntimeError(message)
        return self._control.view()

    def daemons(self) -> dict[int, str]:
        """None of its processes is ours."""
        return {}

    def close(self) -> None:
        """Let go; the cluster goes on."""
        self._control = None

    def _require_token_file(self) -> None:
        if self._token_path is None or os.access(self._token_path, os.R_OK):
            return
        message = f"The token file {self._token_path} is not there or cannot be read."
        action = "Set RAY_AUTH_TOKEN_PATH to a file with the cluster's token, then attach again."
        raise AuthenticationError(message, action, address=self.address)

    def _require_node_here(self, view: ClusterView) -> None:
        # Ray's driver speaks through a raylet of its own machine; it looks for one without end.
        found = {node.address for node in view.nodes}
        ours = {address.address for each in psutil.net_if_addrs().values() for address in each}
        if any(address in ours and not ip_address(address).is_loopback for address in found):
            return
        where = ", ".join(sorted(found))
        message = f"The Ray cluster at {self.address} has no node that can be joined from here, only {where}."
        action = f"Start a node on this machine: ray start --address={self.address}."
        raise BootError(message, action, address=self.address, nodes=sorted(found))

    def _require_listener(self) -> None:
        try:
            with socket.create_connection((self._host, self._port), timeout=5.0):
                return
        except OSError as error:
            why = error.strerror or str(error) or "no answer in 5 s"
            message = f"No Ray cluster can be reached at {self.address}: {why}."
            action = "Check the address, and that the cluster runs and can be reached from this machine."
            raise BootError(message, action, address=self.address) from error

    def _require_access(self) -> None:
        # Ray's client retries a refusal for 20 s and prints it only; a process can be read and ended.
        command = [sys.executable, "-c", _PROBE, self.address]
        environment = {**os.environ, **attached_environment(self._token_path)}
        process = subprocess.Popen(
            command, env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
        )
        said: list[str] = []
        timer = threading.Timer(_PROBE_SECONDS, process.kill)
        timer.start()
        with process:
            for line in process.stdout or ():
                said.append(line)
                if "InvalidAuthToken" in line or "authentication token" in line:
                    process.kill()
                    timer.cancel()
                    self._refuse_token()
        timer.cancel()
        # Not by its exit code: the supervisor collects children and may have taken it.
        if any(line.strip() == _REACHED for line in said):
            return
        message = f"What listens at {self.address} is no Ray cluster, or one of another version."
        raise BootError(
            message, "Check that both sides run Ray 2.60.", address=self.address, said="".join(said[-5:])
        )

    def _refuse_token(self) -> None:
        message = f"The Ray cluster at {self.address} refuses our token."
        if self._token_path is None and "RAY_AUTH_TOKEN" not in os.environ:
            message = f"The Ray cluster at {self.address} asks for a token and none is given."
        action = "Set RAY_AUTH_TOKEN_PATH to a file with the cluster's token, then attach again."
        raise AuthenticationError(message, action, address=self.address)
