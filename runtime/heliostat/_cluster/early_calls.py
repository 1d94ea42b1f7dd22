"""Make Ray calls that come before the runtime is up wait for it, and ``ray.init()`` mean it.

Ray starts a cluster of its own on the first call of a process that has none. During the boot of
a runtime that would be a second, heavier one. So from the moment Ray is imported, by whichever
thread, until this process is connected, the lock that Ray takes for such a start is held here.
"""

from __future__ import annotations

import importlib.abc
import importlib.util
import logging
import sys
import threading
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from importlib.machinery import ModuleSpec
    from types import ModuleType

_log = logging.getLogger(__name__)
_REAL = "_heliostat_real"
_KEPT_FROM_THE_FIRST = {"namespace", "runtime_env"}
_SIZES = ("num_cpus", "num_gpus", "object_store_memory", "resources")


class EarlyCalls:
    """Holds early calls back from ``hold`` until ``release``.

    ``wait_for_address`` waits for the runtime and returns its address, or ``None`` if there is
    none. ``after_init`` is called when the user's ``ray.init()`` has connected.
    """

    def __init__(self, wait_for_address: Callable[[], str | None], after_init: Callable[[], None]) -> None:
        self._wait_for_address, self._after_init = wait_for_address, after_init
        self._changing = threading.Lock()
        self._lock: threading.Lock | None = None
        self._released = False

    def hold(self) -> None:
        """Begin now if Ray is imported, else at the end of its import."""
        ray = sys.modules.get("ray")
        if ray is not None and hasattr(ray, "init"):
            self._take(ray)
        else:
            _waiting.append(self)
            after_ray_import(catch_up)

    def release(self) -> None:
        """Let them go on: this process is connected, or will not be."""
        with self._changing:
            self._released = True
            if self._lock is not None:
                self._lock.release()
                self._lock = None

    def _take(self, ray: Any) -> None:
        wrap_init(ray, self._wait_for_address, self._after_init)
        try:
            from ray._private.auto_init_hook import auto_init_lock
        except ImportError:
            return
        with self._changing:
            if not self._released and auto_init_lock.acquire(blocking=False):
                self._lock = auto_init_lock


_waiting: list[EarlyCalls] = []
"""Those that hold early calls back as soon as Ray is imported."""


def catch_up(ray: Any) -> None:
    """Begin to hold for all that wait for the import of Ray, which has just been executed."""
    while _waiting:
        _waiting.pop()._take(ray)


def after_ray_import(then: Callable[[Any], None]) -> None:
    """Call ``then`` with Ray at the end of its import, in the importing thread."""
    sys.meta_path.insert(0, _AfterImport("ray", then))


class _AfterImport(importlib.abc.MetaPathFinder):
    """Calls back when a module has been imported, before anybody can use it.

    The search for a module holds a lock that every other import needs; nothing may wait there.
    Its execution holds the lock of this one module only.
    """

    def __init__(self, name: str, then: Callable[[ModuleType], None]) -> None:
        self._name, self._then = name, then

    def find_spec(
        self, fullname: str, path: Sequence[str] | None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        """Find the module as usual and add the call to its loader."""
        del path, target
        if fullname != self._name:
            return None
        sys.meta_path.remove(self)
        spec = importlib.util.find_spec(fullname)
        if spec is None or spec.loader is None:
            return spec
        load = spec.loader.exec_module

        def load_and_call(module: ModuleType) -> None:
            load(module)
            self._then(module)

        spec.loader.exec_module = load_and_call  # type: ignore[method-assign]
        return spec


def wrap_init(ray: Any, wait_for_address: Callable[[], str | None], after_init: Callable[[], None]) -> None:
    """Make ``ray.init()`` without an address wait for this runtime and return its context.

    Notebooks written for plain Ray begin with it. With the address of another cluster it does
    what it always did, and so it does where there is no runtime.
    """
    real: Callable[..., Any] = real_init(ray)

    def init(address: str | None = None, *args: Any, **kwargs: Any) -> Any:
        ours = wait_for_address() if address in (None, "auto") else None
        if ours is None:
            return real(address, *args, **kwargs)
        ignored = [name for name in _SIZES if kwargs.pop(name, None) is not None]
        if ignored:
            _log.warning("ray.init ignores %s: the runtime has its size", ", ".join(ignored))
        if ray.is_initialized() and kwargs.keys() & _KEPT_FROM_THE_FIRST:
            given = ", ".join(sorted(kwargs.keys() & _KEPT_FROM_THE_FIRST))
            _log.warning("ray.init ignores %s: Ray is connected already; ray.shutdown() first", given)
        kwargs["ignore_reinit_error"] = True
        context = real(ours, *args, **kwargs)
        after_init()
        return context

    setattr(init, _REAL, real)
    init.__doc__ = real.__doc__
    ray.init = init


def real_init(ray: Any) -> Callable[..., Any]:
    """Return Ray's own ``init``."""
    found: Callable[..., Any] = getattr(ray.init, _REAL, ray.init)
    return found
