"""The one runtime that a process owns: start it, look at it, shut it down."""

from __future__ import annotations

import os
import threading
import warnings

from heliostat._cluster import rescue
from heliostat._launcher import launch
from heliostat._messages.resizing import ResizeTarget
from heliostat._runtime import Runtime
from heliostat._sizes import Count, Size, make_target
from heliostat.exceptions import HeliostatError

__all__ = ["current", "init", "shutdown"]

_lock = threading.Lock()
_current: Runtime | None = None


def init(
    address: str | None = None,
    *,
    cpus: Count = None,
    gpus: Count = None,
    memory: Size = None,
    object_store_memory: Size = None,
    nodes: Count = None,
    wait: bool = True,
) -> Runtime:
    """Start a runtime owned by this process, or return the one that is there.

    Parameters
    ----------
    address:
        ``host:port`` of a Ray cluster to attach to; ``None`` takes ``HELIOSTAT_ADDRESS``, and
        boots a local one where that is not set.
    cpus, gpus, nodes:
        Totals to boot with; default is what the machine has, on one node.
    memory, object_store_memory:
        Bytes, or text such as ``"4GiB"``.
    wait:
        Return only when Ray is connected. With ``False`` the boot goes on behind the caller.

    Raises
    ------
    ConfigurationError
        An argument cannot be used, or a directory cannot be written; nothing was started.
    BootError
        The runtime did not come up.
    """
    global _current  # noqa: PLW0603 - one runtime a process
    rescue.install()
    chosen = address or os.environ.get("HELIOSTAT_ADDRESS") or None
    target = make_target(
        cpus=cpus, gpus=gpus, memory=memory, object_store_memory=object_store_memory, nodes=nodes
    )
    if chosen is not None:
        from heliostat._cluster.attached import parse_address

        parse_address(chosen)
    with _lock:
        if _current is not None and (not _current.alive or _current.failed):
            _current.stop()
            _current = None
        was_there = _current is not None
        if _current is None:
            _current = _launched(target, chosen)
        runtime = _current
    if wait:
        runtime.wait()
    if was_there and (address is not None or _would_change(runtime, target)):
        message = "The runtime is there already and keeps its size: resize() or restart() change it."
        warnings.warn(message, stacklevel=2)
    return runtime


def _would_change(runtime: Runtime, target: ResizeTarget) -> bool:
    """Whether a runtime has another size than ``target``; one that cannot tell yet may have."""
    try:
        return target != ResizeTarget() and bool(runtime.plan(target).changes)
    except HeliostatError:
        return True


def _launched(target: ResizeTarget, address: str | None) -> Runtime:
    launched = launch(target, address)
    try:
        return Runtime(launched)
    except BaseException:
        # Interrupted in between: nobody would have a handle on it.
        launched.process.terminate()
        raise


def _forget_after_fork() -> None:
    """A forked child owns no runtime: its parent does."""
    global _current, _lock
    _current, _lock = None, threading.Lock()


os.register_at_fork(after_in_child=_forget_after_fork)


def current() -> Runtime | None:
    """Return the runtime of this process, if one was started (it may still be booting)."""
    return _current


def shutdown() -> None:
    """Stop the runtime of this process, if there is one."""
    global _current
    with _lock:
        runtime, _current = _current, None
    if runtime is not None:
        runtime.stop()
