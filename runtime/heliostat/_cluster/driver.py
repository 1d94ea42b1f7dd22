"""Make this process a Ray driver of its runtime: connect, guard what comes too early, let go."""

from __future__ import annotations

import contextlib
import logging
import os
import sys
import threading
from typing import TYPE_CHECKING, Any

from heliostat._cluster import environment, rescue
from heliostat._cluster.fast_import import import_ray
from heliostat.exceptions import RuntimeUnavailableError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

_log = logging.getLogger(__name__)


def prepare(token_path: Path | None, *, local: bool) -> None:
    """Set what Ray reads from the environment. Call before anything imports Ray."""
    chosen = (
        environment.local_environment(token_path)
        if local and token_path is not None
        else environment.attached_environment(token_path)
    )
    environment.apply(chosen, os.environ)
    constants = sys.modules.get("ray._private.ray_constants")
    if constants is not None:
        constants.ENABLE_RAY_CLUSTER = not local  # type: ignore[attr-defined]
        _forget_token()


def _forget_token() -> None:
    """Ray keeps the first token it read for the life of the process; each runtime has its own."""
    with contextlib.suppress(ImportError, AttributeError):
        from ray._raylet import AuthenticationTokenLoader

        AuthenticationTokenLoader.instance().reset_cache()


def connect(address: str) -> None:
    """Become a driver of the cluster at ``address``. Takes 30 ms once Ray is imported."""
    ray = import_ray()
    if ray.is_initialized():
        return
    real_init = getattr(ray.init, "__wrapped__", ray.init)
    # Ray warns that it sets no signal handlers off the main thread; the kernel has its own.
    real_init(address=address, log_to_driver=False, logging_level="ERROR", namespace="heliostat")
    # Scripts that the user starts from a cell join the same runtime.
    os.environ["RAY_ADDRESS"] = address


def disconnect() -> None:
    """Let go of the cluster, dead or alive; the process goes on.

    Raises
    ------
    RuntimeUnavailableError
        Another thread waits in a Ray call. Shutting Ray down under it would crash the process.
    """
    ray = sys.modules.get("ray")
    if ray is None or not ray.is_initialized():
        return
    waiting = rescue.threads_in_ray()
    if waiting:
        message = f"Ray cannot be let go: thread {waiting[0]!r} still waits in a Ray call."
        raise RuntimeUnavailableError(message, "End that thread, or restart the kernel.")
    os.environ.pop("RAY_ADDRESS", None)
    with contextlib.suppress(Exception):
        ray.shutdown()


def is_connected() -> bool:
    """Whether this process is a driver now. Does not import Ray."""
    ray = sys.modules.get("ray")
    return bool(ray is not None and ray.is_initialized())


def warm_worker() -> None:
    """Have a worker on its way, so that the first cell with a task need not wait for it."""
    ray = import_ray()

    def nothing() -> None:
        """Return at once."""

    # Nobody waits for the result: a thread that did would keep Ray from being shut down.
    ray.remote(num_cpus=0)(nothing).remote()


@contextlib.contextmanager
def early_calls_wait() -> Iterator[None]:
    """While open, a Ray call in another thread waits instead of starting a cluster of its own.

    Ray starts a local cluster on the first call of a process that has none. During the boot of
    a runtime that would be a second, heavier one. Imports Ray.
    """
    fresh = "ray" not in sys.modules
    if fresh:
        # Nothing may slip in between the end of the import and the taking of the lock.
        os.environ["RAY_ENABLE_AUTO_CONNECT"] = "0"
    import_ray()
    try:
        from ray._private import auto_init_hook
    except ImportError:
        yield
        return
    with auto_init_hook.auto_init_lock:
        if fresh:
            del os.environ["RAY_ENABLE_AUTO_CONNECT"]
            auto_init_hook.enable_auto_connect = True
        yield


_init_guard = threading.Lock()


def guard_init(wait_until_connected: Callable[[], bool]) -> None:
    """Make ``ray.init()`` without an address mean this runtime.

    Notebooks written for plain Ray begin with ``ray.init()``. Here it waits for the runtime and
    returns its context; with the address of another cluster it does what it always did, and it
    starts a cluster of its own when ``wait_until_connected`` says that there is no runtime.
    """
    ray = import_ray()
    with _init_guard:
        if hasattr(ray.init, "__wrapped__"):
            return
        real: Callable[..., Any] = ray.init

        def init(address: str | None = None, *args: Any, **kwargs: Any) -> Any:
            if address in (None, "auto") and wait_until_connected():
                kwargs["ignore_reinit_error"] = True
                for sized in ("num_cpus", "num_gpus", "object_store_memory", "resources"):
                    if kwargs.pop(sized, None) is not None:
                        _log.warning(
                            "ray.init(%s=...) is ignored: the runtime has its size; see %%resize", sized
                        )
                return real(os.environ.get("RAY_ADDRESS"), *args, **kwargs)
            return real(address, *args, **kwargs)

        init.__wrapped__ = real  # type: ignore[attr-defined]
        init.__doc__ = real.__doc__
        ray.init = init
