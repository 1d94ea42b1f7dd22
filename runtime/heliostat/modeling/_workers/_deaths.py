"""Why a worker ended: what it said itself, what the kernel counted, what Ray knows."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from heliostat._oom import Watch

_FATAL = re.compile(r"^Fatal Python error: (?P<what>.+)$", re.MULTILINE)


@dataclass(frozen=True)
class Death:
    """How a worker's process ended.

    ``code`` is its exit code where it is known; ``out_of_memory`` is whether that was the cause, or
    may have been: the text says which.
    """

    text: str
    code: int | None = None
    out_of_memory: bool = False


def explain(reference: Any, *, code: int | None, text: str, watch: Watch, pid: int) -> Death:
    """Explain the end of a worker.

    Parameters
    ----------
    reference:
        Result of the actor's endless call, which Ray fails when it learns of the death.
    code, text:
        What the worker said: the code it exited with, the crash that the interpreter wrote.
    watch:
        Was made before the process began.
    pid:
        Of its process, if that was one of this machine; else 0: the kernel's words are of this one.
    """
    if code is not None:
        return Death(f"its process ended itself with exit code {code}", code)
    fatal = _FATAL.search(text)
    if fatal is not None:
        return Death(f"its process crashed: {fatal['what']}\n{text[fatal.start() :].strip()}")
    told = _told_by_ray(reference)
    found = watch.killed(pid) if pid else False
    if found or "OutOfMemory" in told or "low memory" in told:
        return Death("its process was killed for want of memory", -9, out_of_memory=True)
    if found is None:
        suspicion = "perhaps for want of memory: the system ended some process for that meanwhile"
        return Death(f"its process was killed, {suspicion}", -9, out_of_memory=True)
    return Death("its process was killed (SIGKILL, or an end that it could not report)", -9)


def _told_by_ray(reference: Any) -> str:
    import ray

    try:
        ray.get(reference, timeout=1.0)
    except ray.exceptions.RayError as error:
        return f"{type(error).__name__} {error}"
    return ""
