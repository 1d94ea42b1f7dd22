"""Makes the kernel of a rank, and runs its loop."""

from __future__ import annotations

import gc
import logging
import os
import sys
import threading
from pathlib import Path
from typing import Any

import zmq
from ipykernel.kernelapp import IPKernelApp

from heliostat._ranks._kernel import RankKernel
from heliostat._ranks._stream import RankStream

__all__ = ["RankApplication", "new_application"]

_UNLIMITED = 0


class _NoThread:
    """Stands for the thread of the shell channel, which a rank does not have: it is the main one."""

    def __init__(self) -> None:
        self.parent_thread = threading.main_thread()

    def __bool__(self) -> bool:
        return False


class RankApplication(IPKernelApp):
    """Makes the kernel, without files and without a parent to watch: Ray sees to its end."""

    published = False
    """Whether anything was sent on IOPub since this was set to false."""

    def init_control(self, context: Any) -> None:
        """Answer the shell channel on the main thread itself."""
        super().init_control(context)
        self.shell_channel_thread = _NoThread()

    def init_poller(self) -> None:
        """Watch nobody."""

    def init_connection_file(self) -> None:
        """Read no file."""

    def write_connection_file(self, **kwargs: Any) -> None:
        """Write no file: the keys are in it."""

    def init_signal(self) -> None:
        """Leave signals to the kernel."""

    def init_iopub(self, context: Any) -> None:
        """Publish without a limit, above which ZeroMQ would drop output."""
        context.setsockopt(zmq.SNDHWM, _UNLIMITED)
        super().init_iopub(context)
        thread: Any = self.iopub_thread
        send = thread.send_multipart

        def note_and_send(*args: Any, **kwargs: Any) -> None:
            self.published = True
            send(*args, **kwargs)

        thread.send_multipart = note_and_send

    def init_crash_handler(self) -> None:
        """Keep ours."""

    def init_io(self) -> None:
        """Send no output into Ray's log as well."""
        super().init_io()
        with Path(os.devnull).open("wb") as nowhere:
            for stream in (sys.stdout, sys.stderr):
                copy = getattr(stream, "_original_stdstream_copy", None)
                if copy is not None:
                    os.dup2(nowhere.fileno(), copy)

    def serve(self) -> None:
        """Run the loop until the group wants the main thread for something else, once for each wish."""
        kernel: Any = self.kernel
        while not kernel.leaves:
            self.io_loop.start()
        kernel.leaves -= 1


def new_application(host: str) -> RankApplication:
    """Make the kernel of this process and let it listen on ``host``, with keys of its own."""
    public, secret = zmq.curve_keypair()
    os.environ.pop("JPY_PARENT_PID", None)
    app: RankApplication = RankApplication.instance(
        ip=host,
        kernel_class=RankKernel,
        curve_publickey=public,
        curve_secretkey=secret,
        quiet=True,
        log_level=50,
        outstream_class=f"{RankStream.__module__}.{RankStream.__name__}",
    )
    app.initialize(["--HistoryManager.enabled=False"])
    app.log.setLevel(logging.CRITICAL)  # Ray's logging has all loggers make their records
    from tornado.ioloop import IOLoop

    app.io_loop = IOLoop.current()
    app.kernel.start()
    # What is there now stays; the collector need not go through it again.
    gc.collect()
    gc.freeze()
    return app
