"""``heliostat cancel``: long work of any of the user's runtimes, asked to stop from a terminal."""

from __future__ import annotations

import contextlib
from pathlib import Path
from typing import TYPE_CHECKING

from heliostat.exceptions import ConfigurationError, HeliostatError

if TYPE_CHECKING:
    from collections.abc import Iterator

    from heliostat._client import SupervisorClient
    from heliostat._messages.work import Work

__all__ = ["cancel"]


def cancel(task_id: str | None) -> str:
    """Ask the piece of work whose id begins so to stop; without one, the only one that runs.

    Returns
    -------
    str
        What was asked to stop, for the terminal.

    Raises
    ------
    ConfigurationError
        None or several run that could be meant; the error lists those that do.
    """
    from heliostat import _calls as calls
    from heliostat._messages.work import WorkChoice

    running = [*_running()]
    found = [(client, work) for client, work in running if work.task_id.startswith(task_id or "")]
    if len(found) != 1:
        begins = f" whose id begins with {task_id!r}" if task_id else ""
        message = f"{'No' if not found else 'More than one piece of'} work runs{begins}."
        listed = [f"\n  {work.task_id}  {work.name}, process {work.pid}" for _, work in running]
        raise ConfigurationError(message, f"Running now:{''.join(listed) or ' nothing.'}")
    client, work = found[0]
    client.ask(calls.cancel_work(WorkChoice(task_id=work.task_id)))
    return f"{work.name} ({work.task_id}) was asked to stop."


def _running() -> Iterator[tuple[SupervisorClient, Work]]:
    from heliostat import _calls as calls
    from heliostat._client import SupervisorClient
    from heliostat._supervisor.manifest import list_manifests

    for manifest in list_manifests():
        client = SupervisorClient(Path(manifest.socket))
        # One may end at any time, and the others are worth asking.
        with contextlib.suppress(HeliostatError):
            known = client.ask(calls.work())
            yield from ((client, work) for work in known if work.state.value == "running")
