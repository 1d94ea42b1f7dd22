"""Calls that only clean up. They never boot a cluster: without a connection Ray does, for any call.

What belonged to a cluster is gone with it, so there is nothing to do then.
"""

from __future__ import annotations

import contextlib
import sys
from typing import Any

__all__ = ["has_ended", "is_connected", "kill_actor", "remove_reservation"]


def is_connected() -> bool:
    """Whether this process is a driver of some cluster. Does not import Ray."""
    ray = sys.modules.get("ray")
    return ray is not None and bool(ray.is_initialized())


def kill_actor(actor: Any) -> None:
    """Have Ray end an actor's process at once; whatever happens, nothing is raised."""
    if is_connected():
        import ray

        with contextlib.suppress(Exception):
            ray.kill(actor, no_restart=True)


def remove_reservation(reservation: Any) -> None:
    """Give the CPUs and GPUs of a placement group back; whatever happens, nothing is raised."""
    if is_connected():
        from ray.util.placement_group import remove_placement_group

        with contextlib.suppress(Exception):
            remove_placement_group(reservation)


def has_ended(reference: Any) -> bool:
    """Whether a call has ended, by what Ray knows; true where there is no Ray any more."""
    if not is_connected():
        return True
    import ray

    return bool(ray.wait([reference], timeout=0, fetch_local=False)[0])
