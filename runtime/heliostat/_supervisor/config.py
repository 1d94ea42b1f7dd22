"""What a supervisor is started with: one file in the runtime's private directory."""

from __future__ import annotations

from pathlib import Path

import msgspec

from heliostat._messages.base import Message
from heliostat._messages.cluster import Provider
from heliostat._messages.resizing import ResizeTarget
from heliostat._messages.runtime import Owner
from heliostat._paths import write_private

FILE = "config.json"
SOCKET = "supervisor.sock"
TOKEN = "token"  # noqa: S105 - a file name
LOG = "supervisor.log"
RAY = "r"
"""Subdirectory for Ray, which opens its directory to everybody; short for the sake of sockets."""


class SupervisorConfig(Message, frozen=True, kw_only=True):
    """Written by the owner before it starts the supervisor."""

    runtime_id: str
    directory: str
    machine: str
    owner: Owner
    target: ResizeTarget
    address: str | None = None
    """Ray cluster to attach to; ``None`` boots a local one."""
    token_path: str | None = None
    """Token of the cluster to attach to; a local one uses the runtime's own."""

    @property
    def provider(self) -> Provider:
        """Who owns the Ray cluster."""
        return Provider.LOCAL if self.address is None else Provider.ATTACHED

    @property
    def path(self) -> Path:
        """The runtime's private directory."""
        return Path(self.directory)

    def write(self) -> None:
        """Leave this where ``read_config`` finds it."""
        write_private(self.path / FILE, msgspec.json.encode(self))


def read_config(directory: Path) -> SupervisorConfig:
    """Read what the owner wrote."""
    return msgspec.json.decode((directory / FILE).read_bytes(), type=SupervisorConfig)
