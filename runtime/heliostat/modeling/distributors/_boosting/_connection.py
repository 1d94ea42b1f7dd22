"""Be connected to a runtime, starting one where there is none."""

from __future__ import annotations

import sys


def connect() -> str | None:
    """Make sure that Ray is connected; returns the runtime's own directory, if it is a local one."""
    from heliostat import _handle
    from heliostat._messages.cluster import Provider

    ray = sys.modules.get("ray")
    if _handle.current() is None and ray is not None and ray.is_initialized():
        # The caller's own cluster; a second one beside it would only take its CPUs.
        return None
    status = _handle.init().wait()
    return status.session_dir if status.provider is Provider.LOCAL else None


def connected() -> bool:
    """Whether there is a runtime to use, without starting one."""
    ray = sys.modules.get("ray")
    return ray is not None and bool(ray.is_initialized())
