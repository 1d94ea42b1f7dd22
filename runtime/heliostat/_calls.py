"""What can be asked of a supervisor: its API as values, for clients that wait and for those that do not.

A call says where it goes, what it carries, what comes back and how long that may take. Who makes it
is another matter: ``heliostat._client`` blocks, the server extension awaits.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, Generic, TypeVar
from urllib.parse import urlencode

import msgspec

from heliostat._messages.base import API_VERSION
from heliostat._messages.cluster import Node
from heliostat._messages.resizing import ResizeOperation, ResizePlan, ResizeRequest, ResizeTarget
from heliostat._messages.runtime import DriverEvent, RestartRequest, RuntimeStatus
from heliostat._messages.usage import CellAccount, CellEvent, Sample
from heliostat._messages.work import Rank, RankChoice, Work, WorkChoice, WorkOrders, WorkReport

T = TypeVar("T")
_SECONDS_TO_CHANGE = 60.0
_SECONDS_TO_RESTART = 180.0


@dataclass(frozen=True)
class Call(Generic[T]):
    """One request. ``seconds`` is ``None`` where the client's usual patience will do."""

    method: str
    path: str
    answer: Any
    """Type of the answer; ``None``: there is nothing to read."""
    body: msgspec.Struct | None = None
    query: dict[str, Any] = field(default_factory=dict)
    seconds: float | None = None
    waits: float = 0.0
    """Seconds that the supervisor holds the answer back on purpose."""

    @property
    def target(self) -> str:
        """Path and query of the URL."""
        return f"/{API_VERSION}{self.path}" + (f"?{urlencode(self.query)}" if self.query else "")

    @property
    def content(self) -> bytes | None:
        """Body of the request; ``None`` for a GET."""
        if self.method == "GET":
            return None
        return b"" if self.body is None else msgspec.json.encode(self.body)

    def decode(self, content: bytes) -> T:
        """Read the answer. Raises msgspec.MsgspecError where it is not what it should be."""
        return msgspec.json.decode(content or b"null", type=self.answer)  # type: ignore[no-any-return]


def status(after: int | None = None, wait: float = 0.0) -> Call[RuntimeStatus]:
    """State of the runtime; with ``after``, once its version is above it, at most ``wait`` s later."""
    query = {} if after is None else {"after": after, "wait": f"{wait:g}"}
    return Call("GET", "/runtime", RuntimeStatus, query=query, waits=wait)


def stop() -> Call[None]:
    """Begin to take the runtime down."""
    return Call("POST", "/runtime/stop", None)


def restart(request: RestartRequest) -> Call[RuntimeStatus]:
    """Boot Ray anew; answered when it is up or has failed."""
    return Call("POST", "/runtime/restart", RuntimeStatus, request, seconds=_SECONDS_TO_RESTART)


def nodes() -> Call[list[Node]]:
    """The nodes, head first."""
    return Call("GET", "/nodes", list[Node])


def samples(since: float) -> Call[list[Sample]]:
    """Readings taken after ``since`` (Unix seconds), oldest first."""
    return Call("GET", "/samples", list[Sample], query={"since": f"{since:.6f}"})


def cells() -> Call[list[CellAccount]]:
    """What each cell used, oldest first."""
    return Call("GET", "/cells", list[CellAccount])


def note_cell(event: CellEvent) -> Call[None]:
    """Note that a cell began or ended."""
    return Call("POST", "/cells", None, event)


def note_driver(event: DriverEvent) -> Call[None]:
    """Note that the owner is about to connect to Ray, or has let go of it."""
    return Call("POST", "/driver", None, event)


def work() -> Call[list[Work]]:
    """Long work of the owner, oldest first."""
    return Call("GET", "/tasks", list[Work])


def report_work(report: WorkReport) -> Call[WorkOrders]:
    """Tell news of the owner's work; answered with what shall stop."""
    return Call("POST", "/tasks", WorkOrders, report)


def cancel_work(choice: WorkChoice) -> Call[None]:
    """Have a piece of work stop."""
    return Call("POST", "/tasks/cancel", None, choice)


def work_log(task_id: str, lines: int) -> Call[list[str]]:
    """Last lines of the log of a piece of work."""
    return Call("GET", "/tasks/log", list[str], query={"task_id": task_id, "lines": lines})


def ranks() -> Call[list[Rank]]:
    """The processes behind ``%%distribute``."""
    return Call("GET", "/ranks", list[Rank])


def stop_rank(choice: RankChoice) -> Call[None]:
    """Have a rank stop what it runs."""
    return Call("POST", "/ranks/stop", None, choice)


def plan(target: ResizeTarget) -> Call[ResizePlan]:
    """What a resize would do."""
    return Call("POST", "/resize/plan", ResizePlan, target)


def resize(request: ResizeRequest) -> Call[ResizeOperation]:
    """Begin a resize."""
    return Call("POST", "/resize", ResizeOperation, request, seconds=_SECONDS_TO_CHANGE)


def cancel_resize() -> Call[ResizeOperation]:
    """Go back to the size before the running resize."""
    return Call("POST", "/resize/cancel", ResizeOperation, seconds=_SECONDS_TO_CHANGE)


def openapi() -> Call[dict[str, Any]]:
    """The OpenAPI document."""
    return Call("GET", "/openapi.json", dict[str, Any])
