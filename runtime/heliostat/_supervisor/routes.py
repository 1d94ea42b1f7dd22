"""What the supervisor can be asked: the table behind the API, its OpenAPI document and its docs."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

from heliostat import __version__
from heliostat._messages.cluster import Node
from heliostat._messages.resizing import ResizeOperation, ResizePlan, ResizeRequest, ResizeTarget
from heliostat._messages.runtime import DriverEvent, RestartRequest, RuntimeState, RuntimeStatus
from heliostat._messages.usage import CellAccount, CellEvent, Sample
from heliostat._messages.work import Rank, RankChoice, Work, WorkChoice, WorkOrders, WorkReport
from heliostat._supervisor.api import Route, openapi
from heliostat.exceptions import ConfigurationError, ResizeError, RuntimeUnavailableError

if TYPE_CHECKING:
    from heliostat._supervisor.resizer import Resizer
    from heliostat._supervisor.supervisor import Supervisor

_LONGEST_WAIT = 60.0


class Operations:
    """The API's operations on one supervisor."""

    def __init__(self, supervisor: Supervisor) -> None:
        self._supervisor = supervisor

    async def status(self, after: int = -1, wait: float = 0.0) -> RuntimeStatus:
        """Answer at once, or when the version is above ``after`` (at most ``wait`` s later)."""
        if wait < 0:
            message = f"wait is {wait:g}, which is not a time to wait."
            raise ConfigurationError(message, "Give seconds, 0 or more.")
        return await self._supervisor.board.wait(after, min(wait, _LONGEST_WAIT))

    async def stop(self) -> None:
        """Begin to take the runtime down."""
        self._supervisor.request_stop("somebody asked to stop it")

    async def restart(self, request: RestartRequest) -> RuntimeStatus:
        """Boot Ray anew; returns when it is up or has failed."""
        if request.check_only:
            self._supervisor.check_restart(request.target)
        else:
            await self._supervisor.restart(request.target)
        return self._supervisor.board.status

    async def nodes(self) -> list[Node]:
        """The nodes, head first; none while Ray is not up."""
        view = await self._supervisor.view()
        return view.node_messages() if view is not None else []

    async def samples(self, since: float = 0.0) -> list[Sample]:
        """Readings taken after ``since``."""
        return self._supervisor.measuring.samples(since)

    async def cells(self) -> list[CellAccount]:
        """What each cell used."""
        return self._supervisor.measuring.accounts.cells()

    async def note_cell(self, event: CellEvent) -> None:
        """Note that a cell began or ended."""
        self._supervisor.measuring.note(event)

    async def note_driver(self, event: DriverEvent) -> None:
        """Note whether the owner is connected to Ray: a restart lets it let go first."""
        self._supervisor.note_driver(connected=event.connected)

    async def work(self) -> list[Work]:
        """The long work of the owner."""
        return self._supervisor.work.listed()

    async def report_work(self, report: WorkReport) -> WorkOrders:
        """Take in news of the owner's work, and say what shall stop."""
        return self._supervisor.work.note(report)

    async def cancel_work(self, choice: WorkChoice) -> None:
        """Have a piece of work stop; the owner hears of it with its next report."""
        self._supervisor.work.cancel(choice.task_id)

    async def ranks(self) -> list[Rank]:
        """The ranks of the owner."""
        return self._supervisor.work.ranks()

    async def stop_rank(self, choice: RankChoice) -> None:
        """Have a rank stop what it runs; the owner hears of it with its next report."""
        self._supervisor.work.stop_rank(choice.rank)

    async def work_log(self, task_id: str = "", lines: int = 100) -> list[str]:
        """Last lines of the log of a piece of work, by default of the latest."""
        return await asyncio.to_thread(self._supervisor.work.log, task_id, lines)

    async def plan(self, target: ResizeTarget) -> ResizePlan:
        """Say what a resize would do."""
        return await self._resizer().plan(target)

    async def resize(self, request: ResizeRequest) -> ResizeOperation:
        """Begin a resize; its progress is in the status."""
        _check(request)
        return await self._resizer().start(request)

    async def cancel_resize(self) -> ResizeOperation:
        """Go back to the size before the running resize."""
        return await self._resizer().cancel()

    async def openapi(self) -> dict[str, Any]:
        """Describe this API."""
        return document(routes(self))

    def _resizer(self) -> Resizer:
        supervisor = self._supervisor
        status = supervisor.board.status
        if supervisor.config.address is not None:
            message = (
                f"The runtime is attached to {supervisor.config.address}, which Heliostat did not start."
            )
            raise ResizeError(message, "Resize the cluster where it was started.")
        if supervisor.resizer is None or not status.state.usable:
            message = f"The runtime cannot be resized while it is {status.state}."
            action = "Wait until it is ready." if status.state is RuntimeState.STARTING else "See %runtime."
            raise RuntimeUnavailableError(message, action)
        return supervisor.resizer


def _check(request: ResizeRequest) -> None:
    seconds = request.rollback_after_seconds
    if seconds <= 0:
        message = f"rollback_after_seconds is {seconds:g}, which is not a time to wait."
        raise ConfigurationError(message, "Give seconds above 0.")


def routes(operations: Operations) -> list[Route]:
    """Return the table of everything that can be asked."""
    o = operations
    return [
        Route(
            "GET",
            "/runtime",
            "State of the runtime; with after and wait, as soon as its version is above after.",
            RuntimeStatus,
            o.status,
            query={"after": int, "wait": float},
        ),
        Route("POST", "/runtime/stop", "Take the runtime down; the supervisor exits.", None, o.stop),
        Route(
            "POST",
            "/runtime/restart",
            "Boot Ray anew, with other sizes if given.",
            RuntimeStatus,
            o.restart,
            RestartRequest,
        ),
        Route("GET", "/nodes", "Ray's nodes, head first.", list[Node], o.nodes),
        Route(
            "GET",
            "/samples",
            "Readings taken after since, oldest first; 15 minutes are kept.",
            list[Sample],
            o.samples,
            query={"since": float},
        ),
        Route("GET", "/cells", "What each cell used, oldest first.", list[CellAccount], o.cells),
        Route("POST", "/cells", "Note that a cell began or ended.", None, o.note_cell, CellEvent),
        Route(
            "POST",
            "/driver",
            "Note that the owner is about to connect to Ray, or has let go of it.",
            None,
            o.note_driver,
            DriverEvent,
        ),
        Route("GET", "/tasks", "Long work of the owner, oldest first.", list[Work], o.work),
        Route(
            "POST",
            "/tasks",
            "News of the owner's work; answers what shall stop.",
            WorkOrders,
            o.report_work,
            WorkReport,
        ),
        Route("POST", "/tasks/cancel", "Have a piece of work stop.", None, o.cancel_work, WorkChoice),
        Route("GET", "/ranks", "The processes behind %%distribute, in their order.", list[Rank], o.ranks),
        Route("POST", "/ranks/stop", "Have a rank stop what it runs.", None, o.stop_rank, RankChoice),
        Route(
            "GET",
            "/tasks/log",
            "Last lines of the log of a piece of work.",
            list[str],
            o.work_log,
            query={"task_id": str, "lines": int},
        ),
        Route(
            "POST",
            "/resize/plan",
            "What a resize would do; changes nothing.",
            ResizePlan,
            o.plan,
            ResizeTarget,
        ),
        Route(
            "POST",
            "/resize",
            "Begin a resize; progress is in the status.",
            ResizeOperation,
            o.resize,
            ResizeRequest,
        ),
        Route(
            "POST",
            "/resize/cancel",
            "Go back to the size before the running resize.",
            ResizeOperation,
            o.cancel_resize,
        ),
        Route("GET", "/openapi.json", "This document.", dict[str, Any], o.openapi),
    ]


def document(table: list[Route]) -> dict[str, Any]:
    """Return the OpenAPI document of the supervisor."""
    return openapi(table, "Heliostat supervisor", __version__)
