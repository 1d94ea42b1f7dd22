"""The kernel and the application that launches it.

At start the kernel spawns the runtime's supervisor and goes on at once: it answers requests
and runs plain Python while Ray boots elsewhere. What can go wrong with the runtime never
stops the kernel; it is kept in :attr:`HeliostatKernel.runtime_error` and the magics tell it.
"""

from __future__ import annotations

import asyncio
import os
import sys
import threading
from functools import partial
from typing import TYPE_CHECKING, Any

from ipykernel.kernelapp import IPKernelApp
from IPython.core.release import version as ipython_version
from traitlets import List, Type, default

import heliostat
from heliostat import _owner
from heliostat._cluster import early_calls, rescue
from heliostat.exceptions import HeliostatError, RuntimeUnavailableError
from heliostat_kernel.status import HonestStatus

if TYPE_CHECKING:
    from collections.abc import Callable

__all__ = ["HeliostatKernel", "HeliostatKernelApp"]

AUTOSTART_SWITCH = "HELIOSTAT_AUTOSTART"
EXTENSION = "heliostat"
FIRST_REPLY_SECONDS = 0.15
"""How long the runtime leaves the kernel to itself, for the reply to the first cell."""
STOP_SECONDS = 3.0
"""Longest wait for the runtime at shutdown: the server kills a kernel after 5 s, and the
supervisor cleans up by itself when its owner is gone."""


class HeliostatKernel(HonestStatus):
    """IPython's kernel, owner of one runtime."""

    implementation = "heliostat"
    implementation_version = heliostat.__version__

    runtime_error: HeliostatError | None = None
    """Why no runtime was spawned at start; ``None`` when one was, or when none was asked for."""

    @property
    def banner(self) -> str:  # type: ignore[override]  # a property in IPythonKernel too
        """First lines of a console; part of the reply to ``kernel_info_request``."""
        return (
            f"Heliostat {heliostat.__version__} on IPython {ipython_version}.\n"
            "A Ray runtime boots behind this kernel; %runtime shows it.\n"
        )

    help_links = List(
        [
            {"text": f"{name} Reference", "url": url}
            for name, url in (
                ("Python", f"https://docs.python.org/{sys.version_info[0]}.{sys.version_info[1]}"),
                ("IPython", "https://ipython.readthedocs.io/en/stable/"),
                ("Ray", "https://docs.ray.io/en/latest/"),
                ("XGBoost", "https://xgboost.readthedocs.io/en/stable/"),
                ("DuckDB", "https://duckdb.org/docs/stable/"),
                ("pandas", "https://pandas.pydata.org/pandas-docs/stable/"),
            )
        ]
    ).tag(config=True)

    def __init__(self, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self._answered = threading.Event()

    async def execute_request(self, stream: Any, ident: Any, parent: Any) -> None:
        """Run a cell; from the end of the first one the runtime may take its share of the time."""
        await super().execute_request(stream, ident, parent)
        self._answered.set()

    def start(self) -> None:
        """Begin to answer requests; called once, by the application, before its loop runs."""
        super().start()
        _owner.note_kernel(getattr(self.parent, "connection_file", ""))
        rescue.install()
        if os.environ.get(AUTOSTART_SWITCH, "") != "0":
            # On a thread: the kernel is ready to talk while what this needs is imported.
            spawner = threading.Thread(target=self._spawn_runtime, name="heliostat-spawn", daemon=True)
            early_calls.after_ray_import(partial(_wait_for, spawner))
            spawner.start()

    def _spawn_runtime(self) -> None:
        self._answered.wait(FIRST_REPLY_SECONDS)
        try:
            from heliostat import _handle

            _handle.init(wait=False)
        except HeliostatError as error:
            self.runtime_error = error
        except Exception as error:
            # The kernel must live, whatever the runtime does.
            self.runtime_error = RuntimeUnavailableError(
                f"The runtime was not started: {str(error) or type(error).__name__}.",
                "Python cells work; mend the cause and run %runtime start.",
            )

    async def do_shutdown(self, restart: bool) -> dict[str, Any]:
        """Stop the runtime, then the kernel; called on the control thread, also at restart."""
        await _within(STOP_SECONDS, _stop_runtime)
        reply: dict[str, Any] = super().do_shutdown(restart)
        return reply


def _wait_for(spawner: threading.Thread, ray: Any) -> None:
    """End the import of Ray when the runtime is spawned, and Ray knows that it is to be used.

    A cell that used Ray sooner would start a cluster of its own.
    """
    spawner.join()
    early_calls.catch_up(ray)


def _stop_runtime() -> None:
    from heliostat import _handle

    _handle.shutdown()


async def _within(seconds: float, stop: Callable[[], None]) -> None:
    """Run ``stop`` on a thread and wait for it at most ``seconds``; its errors are its own.

    The thread is a daemon: a stop that hangs must not keep the process from ending.
    """
    loop = asyncio.get_running_loop()
    done = asyncio.Event()

    def run() -> None:
        try:
            stop()
        finally:
            loop.call_soon_threadsafe(done.set)

    threading.Thread(target=run, name="heliostat-stop", daemon=True).start()
    try:
        await asyncio.wait_for(done.wait(), seconds)
    except TimeoutError:
        return


class HeliostatKernelApp(IPKernelApp):
    """Launches the kernel with the magics loaded."""

    kernel_class = Type(  # type: ignore[assignment]  # a trait in the base as well
        HeliostatKernel,
        klass="ipykernel.kernelbase.Kernel",
        help="The Kernel subclass to be used.",
    ).tag(config=True)

    @default("default_extensions")
    def _default_default_extensions(self) -> list[str]:
        return ["storemagic", EXTENSION]
