"""Waits for a resize that the supervisor carries out, and says how it ended."""

from __future__ import annotations

from typing import TYPE_CHECKING

from heliostat import _calls as calls
from heliostat._messages.resizing import ResizeState
from heliostat.exceptions import ResizeError, ResizeTimeoutError, RuntimeLostError

if TYPE_CHECKING:
    from collections.abc import Callable

    from heliostat._client import SupervisorClient
    from heliostat._messages.resizing import ResizeOperation

__all__ = ["wait_for_resize"]


def wait_for_resize(
    client: SupervisorClient,
    operation: ResizeOperation,
    minimum_nodes: int | None,
    progress: Callable[[ResizeOperation], None] | None,
) -> ResizeOperation:
    """Return the operation when it is through, or when ``minimum_nodes`` are there.

    ``progress`` is called with the operation each time it changes.

    Raises
    ------
    ResizeError
        It failed.
    ResizeTimeoutError
        It was not reached in time, and the runtime has its former size again.
    RuntimeLostError
        The runtime failed, or was restarted in between.
    """
    status = client.ask(calls.status())
    while True:
        latest = status.resize
        if latest is None or latest.operation_id != operation.operation_id:
            message = "The runtime was restarted during the resize."
            raise RuntimeLostError(message)
        if progress is not None:
            progress(latest)
        if status.failure is not None:
            raise RuntimeLostError(status.failure.what, status.failure.action)
        enough = minimum_nodes is not None and latest.current.nodes >= minimum_nodes
        if latest.state.finished or enough:
            break
        status = client.ask(calls.status(after=status.version, wait=30.0))
    if latest.state is ResizeState.ROLLED_BACK:
        raise ResizeTimeoutError(latest.message, "Free what it waited for, or use force=True.")
    if latest.state is ResizeState.FAILED:
        raise ResizeError(latest.message, "See %runtime log.")
    return latest
