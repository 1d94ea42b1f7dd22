"""REST endpoints of the server extension, all below ``heliostat/api``.

=====================================  =======================================================
``GET runtimes``                       manifests of the living runtimes of this server's kernels
``GET runtimes/KERNEL_ID``             status and latest sample of one (``RuntimeView``)
``GET runtimes/KERNEL_ID/log``         last lines of its supervisor's log (``LogTail``)
``POST runtimes/KERNEL_ID/plan``       ``ResizeTarget`` -> ``ResizePlan``; changes nothing
``POST runtimes/KERNEL_ID/resize``     ``ResizeRequest`` -> ``ResizeOperation``
``POST runtimes/KERNEL_ID/cancel-resize``   -> ``ResizeOperation``
``POST runtimes/KERNEL_ID/restart``    ``RestartRequest`` -> ``RuntimeStatus``
``POST runtimes/KERNEL_ID/stop``       take it down; the kernel and its variables stay
``POST runtimes/KERNEL_ID/cancel-work``     ``WorkChoice``: have a piece of work stop
``POST runtimes/KERNEL_ID/stop-rank``       ``RankChoice``: have a rank stop what it runs
``GET runtimes/KERNEL_ID/tasks/TASK_ID``    last lines of the log of a piece of work (``LogTail``)
``WebSocket stream``                   live updates of any number of runtimes (``_stream``)
``GET version``                        versions of the package and of the API (``VersionInfo``)
=====================================  =======================================================

Every answer with a status of 400 or more that is made here is an ``ErrorBody``. Reading these
does not count as use of the server: an idle server still shuts down when told to.
"""

from __future__ import annotations

import asyncio
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import msgspec
from jupyter_server.base.handlers import APIHandler
from jupyter_server.utils import url_path_join
from tornado import web

import heliostat
from heliostat import _calls as calls
from heliostat._messages.base import API_VERSION, ErrorBody, Message
from heliostat._messages.resizing import ResizeRequest, ResizeTarget
from heliostat._messages.runtime import RestartRequest, RuntimeStatus
from heliostat._messages.work import RankChoice, WorkChoice
from heliostat._supervisor.config import LOG
from heliostat._tail import tail_if_any
from heliostat.exceptions import (
    AuthenticationError,
    ConfigurationError,
    HeliostatError,
    RuntimeLostError,
    RuntimeUnavailableError,
)
from heliostat_lab._kernels import Kernels
from heliostat_lab._limits import HeliostatLimits, check, clamp
from heliostat_lab._messages import LogTail, RuntimeView, VersionInfo
from heliostat_lab._stream import StreamHandler
from heliostat_lab._supervisor_client import SupervisorClient

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from heliostat._messages.runtime import Manifest

_STATUS_OF: tuple[tuple[type[HeliostatError], int], ...] = (
    (AuthenticationError, 403),
    (ConfigurationError, 400),
    (RuntimeLostError, 502),
    (RuntimeUnavailableError, 504),
)
_T = TypeVar("_T")
_WITH_BODY: dict[str, tuple[type[Message], Callable[[Any], calls.Call[Any]]]] = {
    "plan": (ResizeTarget, calls.plan),
    "resize": (ResizeRequest, calls.resize),
    "restart": (RestartRequest, calls.restart),
    "cancel-work": (WorkChoice, calls.cancel_work),
    "stop-rank": (RankChoice, calls.stop_rank),
}
_WITHOUT_BODY: dict[str, Callable[[], calls.Call[Any]]] = {
    "cancel-resize": calls.cancel_resize,
    "stop": calls.stop,
}
_LOG_LINES = 100


class _Handler(APIHandler):
    # Read by APIHandler: the panel's polling must not keep an idle server alive.
    _track_activity = False

    def initialize(self, limits: HeliostatLimits) -> None:
        self._limits = limits

    @property
    def _kernels(self) -> Kernels:
        return Kernels(self.kernel_manager)

    def _answer(self, message: Any) -> None:
        self.finish(msgspec.json.encode(message))

    def _refuse(self, status: int, error: HeliostatError) -> None:
        self.set_status(status)
        name = type(error).__name__
        self._answer(ErrorBody(error=name, message=error.message, action=error.action, fields=error.fields))

    async def _relay(
        self, kernel_id: str, ask: Callable[[SupervisorClient, Manifest], Awaitable[Any]]
    ) -> None:
        """Answer with what ``ask`` gets from the kernel's supervisor; 404 when there is none."""
        try:
            manifest = await self._kernels.require(kernel_id)
        except RuntimeUnavailableError as error:
            self._refuse(404, error)
            return
        client = SupervisorClient(manifest)
        try:
            answer = await ask(client, manifest)
        except HeliostatError as error:
            status = next((code for kind, code in _STATUS_OF if isinstance(error, kind)), 502)
            self._refuse(status, error)
        else:
            self._answer(answer)
        finally:
            client.close()


class RuntimesHandler(_Handler):
    """Lists the runtimes of this server's kernels."""

    @web.authenticated
    async def get(self) -> None:
        """Answer with a list of manifests."""
        self._answer(list((await self._kernels.manifests()).values()))


class RuntimeHandler(_Handler):
    """Tells about the runtime of one kernel."""

    @web.authenticated
    async def get(self, kernel_id: str) -> None:
        """Answer with a ``RuntimeView``, or 404 when there is no such kernel or runtime."""

        async def view(client: SupervisorClient, _: Manifest) -> RuntimeView:
            at = time.time()
            status = clamp(await client.ask(calls.status()), self._limits.ceilings())
            return RuntimeView(at=at, status=status, sample=await client.latest_sample(at))

        await self._relay(kernel_id, view)


class LogHandler(_Handler):
    """Shows the log of one runtime."""

    @web.authenticated
    async def get(self, kernel_id: str) -> None:
        """Answer with a ``LogTail``."""

        async def tail(_: SupervisorClient, manifest: Manifest) -> LogTail:
            lines = await asyncio.to_thread(tail_if_any, Path(manifest.directory) / LOG, _LOG_LINES)
            return LogTail(lines=lines)

        await self._relay(kernel_id, tail)


class WorkLogHandler(_Handler):
    """Shows the log of a piece of work."""

    @web.authenticated
    async def get(self, kernel_id: str, task_id: str) -> None:
        """Answer with a ``LogTail``."""

        async def tail(client: SupervisorClient, _: Manifest) -> LogTail:
            return LogTail(lines=await client.ask(calls.work_log(task_id, _LOG_LINES)))

        await self._relay(kernel_id, tail)


class ActionHandler(_Handler):
    """Changes one runtime. Each action is the supervisor's own, so panel and magics cannot disagree."""

    @web.authenticated
    async def post(self, kernel_id: str, action: str) -> None:
        """Relay an action; 400 for a body that is not the action's."""

        async def act(client: SupervisorClient, _: Manifest) -> Any:
            answer = await client.ask(self._call(action))
            return clamp(answer, self._limits.ceilings()) if isinstance(answer, RuntimeStatus) else answer

        await self._relay(kernel_id, act)

    def _call(self, action: str) -> calls.Call[Any]:
        if action in _WITHOUT_BODY:
            return _WITHOUT_BODY[action]()
        kind, make = _WITH_BODY[action]
        body = self._body(kind)
        wish = body if isinstance(body, ResizeTarget) else getattr(body, "target", None)
        if wish is not None:
            check(wish, self._limits.ceilings())
        return make(body)

    def _body(self, kind: type[_T]) -> _T:
        try:
            return msgspec.json.decode(self.request.body or b"{}", type=kind)
        except msgspec.MsgspecError as error:
            message = f"The request is not a {kind.__name__}: {error}."
            raise ConfigurationError(message) from error


class VersionHandler(_Handler):
    """Tells which versions are spoken here."""

    @web.authenticated
    def get(self) -> None:
        """Answer with a ``VersionInfo``."""
        self._answer(VersionInfo(version=heliostat.__version__, api=API_VERSION))


def handlers(base_url: str, limits: HeliostatLimits) -> list[tuple[str, type[Any], dict[str, Any]]]:
    """Routes of the extension below the server's base URL."""
    root = url_path_join(base_url, "heliostat", "api")
    kernel = url_path_join(root, "runtimes", r"([\w-]+)")
    actions = "|".join([*_WITH_BODY, *_WITHOUT_BODY])
    given = {"limits": limits}
    return [
        (url_path_join(root, "runtimes"), RuntimesHandler, given),
        (kernel, RuntimeHandler, given),
        (url_path_join(kernel, "log"), LogHandler, given),
        (url_path_join(kernel, "tasks", r"([\w-]+)"), WorkLogHandler, given),
        (url_path_join(kernel, f"({actions})"), ActionHandler, given),
        (url_path_join(root, "stream"), StreamHandler, given),
        (url_path_join(root, "version"), VersionHandler, given),
    ]
