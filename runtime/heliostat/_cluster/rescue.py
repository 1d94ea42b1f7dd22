"""Free a cell that waits in Ray for something that will never come.

When the GCS or the supervisor dies, a ``ray.get`` waits for ever: nobody is left to tell it.
The main thread is freed by a signal; Ray looks for signals twice a second while it waits, and
lets through nothing but a KeyboardInterrupt, so the reason is printed beside it. Other threads
cannot be freed, so Ray is not shut down under their feet, which would crash the process.
"""

from __future__ import annotations

import signal
import sys
import threading
import time
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable
    from types import FrameType

    from heliostat.exceptions import HeliostatError

_NUMBER: int | None = getattr(signal, "SIGRTMIN", 0) + 7 if hasattr(signal, "SIGRTMIN") else None
_WAITING = frozenset({"get", "wait", "get_objects", "fetch_local"})
_LOOK_AGAIN_SECONDS = 0.5
_pending: tuple[HeliostatError, Callable[[], None]] | None = None


def install() -> None:
    """Take the signal; does nothing off the main thread, or where somebody else has it."""
    if _NUMBER is None or threading.current_thread() is not threading.main_thread():
        return
    if signal.getsignal(_NUMBER) is signal.SIG_DFL:
        signal.signal(_NUMBER, _interrupt)


def _interrupt(number: int, frame: FrameType | None) -> None:
    del number
    global _pending
    pending, _pending = _pending, None
    if pending is None or not _is_in_ray(frame):
        return
    error, on_told = pending
    on_told()
    print(error, file=sys.stderr)
    raise KeyboardInterrupt(str(error))


def free_main_thread(error: HeliostatError, on_told: Callable[[], None], until: Callable[[], bool]) -> None:
    """Interrupt the main thread when it waits in Ray, now or later, and say why.

    A cell may come to its ``ray.get`` only after the news, so a thread looks again until the user
    has been told. ``on_told`` is called in the main thread then; the thread ends when ``until`` holds.
    """

    def watch() -> None:
        while not until() and _can_signal():
            _interrupt_if_waiting(error, on_told)
            time.sleep(_LOOK_AGAIN_SECONDS)

    threading.Thread(target=watch, name="heliostat-rescue", daemon=True).start()


def _can_signal() -> bool:
    return _NUMBER is not None and signal.getsignal(_NUMBER) is _interrupt


def _interrupt_if_waiting(error: HeliostatError, on_told: Callable[[], None]) -> None:
    global _pending  # noqa: PLW0603 - see above
    main = threading.main_thread().ident
    if _NUMBER is not None and main is not None and _is_in_ray(sys._current_frames().get(main)):
        _pending = (error, on_told)
        signal.pthread_kill(main, _NUMBER)


def threads_in_ray() -> list[str]:
    """Names of threads other than this one that are inside a Ray call now."""
    frames = sys._current_frames()
    here = threading.get_ident()
    return [
        thread.name
        for thread in threading.enumerate()
        if thread.ident is not None and thread.ident != here and _is_in_ray(frames.get(thread.ident))
    ]


def _is_in_ray(frame: FrameType | None) -> bool:
    """Whether ``frame`` is below a waiting call of Ray's."""
    while frame is not None:
        module = frame.f_globals.get("__name__", "")
        if module in ("ray._private.worker", "ray.util.client.worker") and frame.f_code.co_name in _WAITING:
            return True
        frame = frame.f_back
    return False
