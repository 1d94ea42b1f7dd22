"""What each word of ``%runtime`` does; imported when the magic is first used."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

from IPython.core.error import UsageError

from heliostat import _handle
from heliostat.exceptions import BootError, HeliostatError, RuntimeLostError
from heliostat_magics._events import clear_start_error, start_error
from heliostat_magics._view import LOG_LINES, RuntimeView

if TYPE_CHECKING:
    from IPython.core.interactiveshell import InteractiveShell

    from heliostat._messages.runtime import RuntimeStatus
    from heliostat._messages.usage import Sample
    from heliostat._runtime import Runtime
    from heliostat_magics._arguments import RuntimeArguments

__all__ = ["act"]

_RECENT_SECONDS = 10.0


def act(shell: InteractiveShell, arguments: RuntimeArguments) -> RuntimeView | None:
    """Do what was asked for, and return what is to be shown."""
    if arguments.command == "log":
        _print_log(arguments.lines)
        return None
    if arguments.command == "stop":
        _stop()
        return None
    if arguments.command in _ACTIONS:
        _ACTIONS[arguments.command](arguments)
        clear_start_error(shell)
    return _look(shell, all_steps=arguments.command == "steps")


def _look(shell: InteractiveShell, *, all_steps: bool) -> RuntimeView:
    """Take the picture that is shown."""
    runtime = _handle.current()
    if runtime is None:
        return RuntimeView(None, None, time.time(), error=start_error(shell))
    try:
        status = runtime.status()
        sample = _latest_sample(runtime, status)
    except RuntimeLostError as error:
        log_tail = tuple(runtime.log_tail(LOG_LINES))
        return RuntimeView(None, None, time.time(), error=error, log_tail=log_tail)
    return RuntimeView(status, sample, time.time(), all_steps=all_steps)


def _latest_sample(runtime: Runtime, status: RuntimeStatus) -> Sample | None:
    """Return the last reading, unless it is too old to be called the present."""
    if not status.state.usable:
        return None
    samples = runtime.samples(time.time() - _RECENT_SECONDS)
    return samples[-1] if samples else None


def _start(arguments: RuntimeArguments) -> None:
    runtime = _living()
    if runtime is None:
        runtime = _init(arguments)
    elif not _running(runtime):
        runtime.restart(arguments.target)
    elif arguments.sized:
        msg = "A runtime is there already; %runtime restart gives it other sizes"
        raise UsageError(msg)
    _wait(runtime)


def _restart(arguments: RuntimeArguments) -> None:
    runtime = _living()
    if runtime is None:
        runtime = _init(arguments)
    else:
        runtime.restart(arguments.target)
    _wait(runtime)


def _attach(arguments: RuntimeArguments) -> None:
    runtime = _living()
    if runtime is not None and _running(runtime):
        msg = "A runtime is there already; run %runtime stop before attaching to another"
        raise UsageError(msg)
    if runtime is not None:
        _handle.shutdown()
    _wait(_handle.init(arguments.address, wait=False))


_ACTIONS = {"start": _start, "restart": _restart, "attach": _attach}


def _living() -> Runtime | None:
    """Return the runtime of this process; one whose supervisor is gone is given up here."""
    runtime = _handle.current()
    if runtime is None:
        return None
    try:
        runtime.status()
    except RuntimeLostError:
        _handle.shutdown()
        return None
    return runtime


def _running(runtime: Runtime) -> bool:
    state = runtime.status().state
    return state.usable or not state.settled


def _init(arguments: RuntimeArguments) -> Runtime:
    target = arguments.target
    return _handle.init(
        cpus=target.cpus,
        gpus=target.gpus,
        memory=target.memory_bytes,
        object_store_memory=target.object_store_bytes,
        nodes=target.nodes,
        wait=False,
    )


def _wait(runtime: Runtime) -> None:
    """Wait until the runtime is usable, and print its steps as they are done."""
    printed = 0

    def progress(status: RuntimeStatus) -> None:
        nonlocal printed
        for step in status.steps[printed:]:
            print(f"{step.elapsed:6.2f} s  {step.name}", flush=True)
        printed = len(status.steps)

    try:
        runtime.wait(progress=progress)
    except BootError:
        for line in runtime.log_tail(LOG_LINES):
            print(line)
        raise


def _stop() -> None:
    if _handle.current() is None:
        print("There is no runtime to stop.")
        return
    _handle.shutdown()
    print("The runtime is stopped; variables of this notebook stay.")


def _print_log(lines: int) -> None:
    runtime = _handle.current()
    if runtime is None:
        message = "There is no runtime, so there is no log."
        raise HeliostatError(message, "Start one with %runtime start.")
    print("\n".join(runtime.log_tail(lines)) or "The log is empty.")
