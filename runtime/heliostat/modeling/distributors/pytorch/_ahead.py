"""Workers that are there, with torch imported, before a notebook trains.

Who imports ``PyTorchDistributor`` is going to train. Two processes that import torch take some
seconds, which the person needs to write the function.
"""

from __future__ import annotations

import contextlib
import threading
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from heliostat._runtime import Runtime

IMPORTS = "heliostat.modeling.distributors.pytorch._imports"
"""Module with all that a rank imports."""
_MOST = 4
"""Workers that are started ahead; each holds the memory that torch takes."""
_BOOT_TIMEOUT_S = 120.0


def prepare() -> None:
    """Start workers behind the caller, where this process has a local runtime, or one that boots."""
    from heliostat import _handle

    runtime = _handle.current()
    if runtime is not None:
        thread = threading.Thread(target=_prepare, args=(runtime,), name="heliostat-ahead", daemon=True)
        thread.start()


def _prepare(runtime: Runtime) -> None:
    # Whatever is wrong shows when somebody trains.
    with contextlib.suppress(Exception):
        status = runtime.wait(_BOOT_TIMEOUT_S)
        from heliostat._messages.cluster import Provider

        if status.provider is not Provider.LOCAL or status.resources is None or status.resources.gpus:
            return
        import ray

        from heliostat.modeling._workers import Size, pool

        count = min(int(status.resources.cpus), _MOST)
        pool.prepare(Size(cpus=1), count, ray.get_runtime_context().get_node_id(), IMPORTS)
