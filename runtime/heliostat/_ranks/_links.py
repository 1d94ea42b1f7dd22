"""The connections of a process group, and how to cut them.

A rank that waits in a collective of gloo is in C code and cannot be interrupted; gloo's own abort
does nothing. It wakes up with an error as soon as one of its connections breaks. So the sockets
that appear while the group is formed are noted, and shut down when the rank is to stop.
"""

from __future__ import annotations

import contextlib
import os
import socket

__all__ = ["cut", "sockets"]

_OPEN_FILES = "/proc/self/fd"


def sockets() -> dict[int, str]:
    """The open sockets of this process: descriptor and identity."""
    found = {}
    with contextlib.suppress(OSError):
        for name in os.listdir(_OPEN_FILES):  # noqa: PTH208 - plain names are wanted
            with contextlib.suppress(OSError):
                target = os.readlink(f"{_OPEN_FILES}/{name}")  # noqa: PTH115 - likewise
                if target.startswith("socket:"):
                    found[int(name)] = target
    return found


def cut(links: dict[int, str], store_port: int) -> None:
    """Shut down those of ``links`` that are still what they were. Any thread may call this.

    The connections to the group's store, on ``store_port``, are left: PyTorch aborts without it.
    """
    for descriptor, identity in sockets().items():
        if links.get(descriptor) == identity:
            with contextlib.suppress(OSError), socket.socket(fileno=os.dup(descriptor)) as link:
                ports = {link.getsockname()[1], link.getpeername()[1]}
                if link.family in (socket.AF_INET, socket.AF_INET6) and store_port not in ports:
                    link.shutdown(socket.SHUT_RDWR)
