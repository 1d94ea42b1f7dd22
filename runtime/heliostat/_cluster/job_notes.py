"""One note that a driver leaves in its cluster for the workers of its job, and may change any time."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Mapping

_NAMESPACE = b"heliostat-note"
_SECONDS = 2.0
"""A cluster that does not answer is not waited for; its runtime is told to be dead elsewhere."""

_left: tuple[str, bytes, bytes] | None = None
"""Connection, job and content of the note that this driver left last."""


def in_worker() -> bool:
    """Whether this process is a worker of Ray's. Asks nobody."""
    return getattr(_worker(), "mode", None) == 1 and bool(getattr(_worker(), "connected", False))


def leave(content: bytes) -> None:
    """Leave a note, as a driver that is connected; otherwise, or if it is there already, do nothing."""
    global _left  # noqa: PLW0603 - one driver in a process
    if "ray" not in sys.modules:
        return
    from heliostat._cluster import driver

    connection = driver.connection()
    if connection is None or in_worker():
        return
    same_connection = _left is not None and _left[0] == connection
    if same_connection and _left is not None and _left[2] == content:
        return
    # A job is asked for once: Ray's core must not be asked beside a shutdown on another thread.
    job = _left[1] if same_connection and _left is not None else (driver.job_id() or "").encode()
    try:
        _worker().gcs_client.internal_kv_put(job, content, True, _NAMESPACE, _SECONDS)
    except Exception:
        return
    _left = (connection, job, content)


def read() -> bytes | None:
    """Return the note of the driver that this worker works for; ``None`` without one."""
    if not in_worker():
        return None
    worker = _worker()
    try:
        job = worker.current_job_id.hex().encode()
        found: bytes | None = worker.gcs_client.internal_kv_get(job, _NAMESPACE, _SECONDS)
    except Exception:
        return None
    return found


def own_variables() -> Mapping[str, str]:
    """Environment variables that whoever started this task or actor gave to it alone."""
    import ray

    try:
        found: Mapping[str, str] = ray.get_runtime_context().runtime_env.get("env_vars") or {}
    except Exception:
        return {}
    return found


def _worker() -> Any:
    return getattr(sys.modules.get("ray._private.worker"), "global_worker", None)
