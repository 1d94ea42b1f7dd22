"""Who this process is to the runtime that it will own. Light: set before anything is imported."""

from __future__ import annotations

import re
from pathlib import Path

_CONNECTION_FILE = re.compile(r"kernel-(?P<kernel_id>.+)\.json")

kernel_id: str | None = None
"""Jupyter's id of the kernel that this process is, by which its server finds the runtime."""


def kernel_id_of(connection_file: str) -> str | None:
    """Jupyter's id of the kernel, which the server writes into the connection file's name."""
    match = _CONNECTION_FILE.fullmatch(Path(connection_file).name)
    return match["kernel_id"] if match else None


def note_kernel(connection_file: str) -> None:
    """Remember that this process is the kernel with that connection file."""
    global kernel_id  # noqa: PLW0603 - a process is one kernel
    kernel_id = kernel_id_of(connection_file)
