"""A rank: IPython's kernel on the main thread of a Ray actor.

The kernel's loop is one call of the actor, :meth:`RankActor.serve`. To hand over objects, which
travel through Ray's object store, the driver queues :meth:`RankActor.receive` or
:meth:`RankActor.export` and another ``serve`` behind it, and has the loop end: so everything
runs on the main thread, one after the other, and Ray knows who owns what.
"""

from __future__ import annotations

import contextlib
import faulthandler
import os
import signal
import sys
import tempfile
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

from heliostat._ranks._facts import STACKS_SIGNAL, Prepared

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from heliostat._ranks._facts import Place, RankFacts

__all__ = ["RankActor"]

_real_exit = os._exit


class RankActor:
    """The actor's class; wrapped by ``ray.remote`` where it is made."""

    def __init__(self, facts: RankFacts) -> None:
        # Read when numeric libraries are imported, which nothing has done yet.
        os.environ["OMP_NUM_THREADS"] = str(facts.threads)
        os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
        with contextlib.suppress(OSError):
            os.chdir(facts.directory)
        for entry in ("", *facts.path):
            if entry not in sys.path:
                sys.path.insert(0, entry)
        self._app: Any = None

    def prepare(self) -> Prepared:
        """Start to listen; returns how to connect."""
        import ray

        from heliostat._ranks._application import new_application

        context = ray.get_runtime_context()
        host = ray.util.get_node_ip_address()
        # Ray starts its workers with the signal blocked.
        signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGINT})
        crash_file = self._keep_last_words()
        self._app = new_application(host)
        return Prepared(
            pid=os.getpid(),
            started_at=_started_at(),
            node_id=context.get_node_id(),
            raylet_pid=os.getppid(),
            host=host,
            devices=os.environ.get("CUDA_VISIBLE_DEVICES", "")
            if context.get_accelerator_ids()["GPU"]
            else "",
            crash_file=crash_file,
            connection=_plain(self._app.get_connection_info()),
        )

    def settle(self, place: Place) -> None:
        """Take a place in the group; its names come into the user's scope."""
        self._app.kernel.settle(place)

    def serve(self) -> None:
        """Run cells until the driver wants something else of this process."""
        self._app.serve()

    def receive(self, names: Sequence[str], copy: bool, *values: Any) -> None:
        """Bind variables. Arrays of the object store are read-only, so ``copy`` makes them private."""
        if copy:
            import copy as copying

            values = tuple(copying.deepcopy(value) for value in values)
        self._app.kernel.receive(dict(zip(names, values, strict=True)))

    def export(self, names: Sequence[str]) -> Any:
        """Return variables by name; they were found to be there before."""
        return self._app.kernel.export(names)

    def _keep_last_words(self) -> str:
        """Have exit codes and crashes written where the driver finds them after our end."""
        path = Path(tempfile.gettempdir()) / f"heliostat-rank-{os.getpid()}-{time.monotonic_ns()}.txt"
        descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_APPEND, 0o600)
        faulthandler.enable(file=descriptor, all_threads=True)
        faulthandler.register(STACKS_SIGNAL, file=descriptor, all_threads=True, chain=False)
        own = os.getpid()

        def leave(code: int) -> None:
            if os.getpid() == own:  # and not in a child that was forked
                os.write(descriptor, f"\nexit code {code}\n".encode())
            _real_exit(code)

        os._exit = leave  # type: ignore[assignment]
        return str(path)


def _plain(info: Mapping[str, Any]) -> dict[str, Any]:
    return {name: value.decode() if isinstance(value, bytes) else value for name, value in info.items()}


def _started_at() -> float:
    import psutil

    return psutil.Process().create_time()
