"""Make this process a Ray driver of its runtime: connect, guard what comes too early, let go."""

from __future__ import annotations

import contextlib
import gc
import itertools
import os
import re
import sys
import weakref
from typing import TYPE_CHECKING, Any

from heliostat._cluster import environment, rescue
from heliostat._cluster.early_calls import real_init
from heliostat._cluster.fast_import import import_ray
from heliostat.exceptions import RuntimeUnavailableError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path


before_shutdown: list[Callable[[], None]] = []
"""Called when this process is about to let go of its cluster: from then on, Ray must not be asked."""

_DEATH = re.compile(
    r"A worker died or was killed while executing a task.*?Worker PID: (\d+)[^\n]*", re.DOTALL
)

_connections: weakref.WeakKeyDictionary[object, int] = weakref.WeakKeyDictionary()
_numbers = itertools.count()

_former: dict[str, str | None] = {}
"""What the variables that we set were before; ``None`` for one that was not set."""


def prepare(token_path: Path | None, *, local: bool) -> None:
    """Set what Ray reads from the environment. Call before anything imports Ray."""
    restore()
    _former.update({name: os.environ.get(name) for name in environment.NAMES})
    if local and token_path is not None:
        environment.apply(environment.local_environment(token_path), os.environ)
    else:
        environment.enter_attached(token_path, os.environ)
    _apply_settings(local=local)


def restore() -> None:
    """Put the environment back as it was, so that Ray can be used without a runtime."""
    if not _former:
        return
    for name, value in _former.items():
        os.environ.pop(name, None)
        if value is not None:
            os.environ[name] = value
    _former.clear()
    _apply_settings(local=False)


def _apply_settings(*, local: bool) -> None:
    constants = sys.modules.get("ray._private.ray_constants")
    if constants is not None:
        constants.ENABLE_RAY_CLUSTER = not local  # type: ignore[attr-defined]
        _read_settings_anew()


def _read_settings_anew() -> None:
    """Ray reads mode and token once, when it is imported; each runtime has a token of its own."""
    with contextlib.suppress(ImportError, AttributeError):
        from ray._raylet import AuthenticationTokenLoader, Config

        Config.initialize("")
        AuthenticationTokenLoader.instance().reset_cache()


def connect(address: str, *, show_output: bool) -> None:
    """Become a driver of the cluster at ``address``. Takes 30 ms once Ray is imported.

    ``show_output`` has Ray's log monitor, where the cluster runs one, send here what tasks print.
    """
    ray = import_ray()
    # Ray warns that it sets no signal handlers off the main thread; the kernel has its own.
    real_init(ray)(
        address=address,
        log_to_driver=show_output,
        logging_level="ERROR",
        namespace="heliostat",
        ignore_reinit_error=True,
    )
    _tell_deaths_in_a_sentence()
    # Scripts that the user starts from a cell join the same runtime.
    os.environ["RAY_ADDRESS"] = address


def _tell_deaths_in_a_sentence() -> None:
    """Ray describes each death of a worker in 1,000 characters, although whoever waits is told the reason."""
    with contextlib.suppress(ImportError, AttributeError):
        from ray._private import worker

        whole = worker.print_to_stdstream
        if getattr(whole, "__module__", "") == __name__:
            return

        def shortened(data: dict[str, Any], ignore_prefix: bool) -> None:
            lines = [
                _DEATH.sub(r"A worker process, PID \1, died or was killed.", line) for line in data["lines"]
            ]
            whole({**data, "lines": lines}, ignore_prefix)

        worker.print_to_stdstream = shortened


def connected_to() -> str | None:
    """Address of the cluster that this process is a driver of. Does not import Ray."""
    ray = sys.modules.get("ray")
    if ray is None or not ray.is_initialized():
        return None
    return str(ray.get_runtime_context().gcs_address)


def job_id() -> str | None:
    """Id of this driver's job; ``None`` while it is not connected."""
    ray = sys.modules.get("ray")
    if ray is None or not ray.is_initialized():
        return None
    return str(ray.get_runtime_context().get_job_id())


def connection() -> str | None:
    """Name this driver's connection: another one after each ``ray.init``, ``None`` without one.

    Stays out of Ray's core, which ends the process when a thread asks it something beside a
    ``ray.shutdown()`` on another.
    """
    worker = getattr(sys.modules.get("ray._private.worker"), "global_worker", None)
    if worker is None or not worker.connected:
        return None
    try:
        # Ray makes one for each connection.
        number = _connections.setdefault(worker.node, next(_numbers))
        name = f"{worker.gcs_client.address} {number}"
    except (AttributeError, TypeError):
        return None
    return name


def disconnect(address: str | None) -> None:
    """Let go of the cluster at ``address``, dead or alive; any other connection is left alone.

    Raises
    ------
    RuntimeUnavailableError
        Another thread waits in a Ray call. Shutting Ray down under it would crash the process.
    """
    ray = sys.modules.get("ray")
    if ray is None or address is None or connected_to() != address:
        return
    waiting = rescue.threads_in_ray()
    if waiting:
        message = f"Ray cannot be let go: thread {waiting[0]!r} still waits in a Ray call."
        raise RuntimeUnavailableError(message, "End that thread, or restart the kernel.")
    os.environ.pop("RAY_ADDRESS", None)
    for leave in before_shutdown:
        leave()
    with _no_collection(), contextlib.suppress(Exception):
        ray.shutdown()


@contextlib.contextmanager
def _no_collection() -> Iterator[None]:
    """Hold Python's garbage collection off: on another thread it may free a handle of an actor.

    Ray ends the process when that happens in the middle of a shutdown.
    """
    enabled = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if enabled:
            gc.enable()
