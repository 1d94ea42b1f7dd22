"""Notice at once that the owner of a runtime is gone.

A closed pipe would not do: a process that user code forked may hold it open for ever. Linux
tells through a pidfd; elsewhere the pid and its start time are looked at every second.
"""

from __future__ import annotations

import asyncio
import os
from typing import TYPE_CHECKING

from heliostat._supervisor.processes import Identity

if TYPE_CHECKING:
    from heliostat._messages.runtime import Owner

_POLL_SECONDS = 1.0


async def owner_gone(owner: Owner) -> None:
    """Return when the owner has ended, killed or not."""
    identity = Identity(owner.pid, owner.started_at)
    try:
        descriptor = os.pidfd_open(owner.pid)
    except (AttributeError, OSError):
        while identity.alive():  # noqa: ASYNC110 - nothing tells us here
            await asyncio.sleep(_POLL_SECONDS)
        return
    loop = asyncio.get_running_loop()
    ended = asyncio.Event()
    loop.add_reader(descriptor, ended.set)
    try:
        if identity.alive():
            await ended.wait()
    finally:
        loop.remove_reader(descriptor)
        os.close(descriptor)
