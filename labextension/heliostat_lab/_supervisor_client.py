"""Asks a supervisor over its Unix socket without holding up the server's event loop."""

from __future__ import annotations

import socket
from typing import TYPE_CHECKING, Any, TypeVar

import msgspec
from tornado.httputil import url_concat
from tornado.netutil import Resolver
from tornado.simple_httpclient import HTTPTimeoutError, SimpleAsyncHTTPClient

from heliostat._messages import (
    API_VERSION,
    CellAccount,
    ErrorBody,
    Manifest,
    Node,
    ResizeOperation,
    ResizePlan,
    ResizeRequest,
    ResizeTarget,
    RestartRequest,
    RuntimeStatus,
    Sample,
    Work,
    WorkChoice,
)
from heliostat.exceptions import RuntimeLostError, RuntimeUnavailableError, error_from_body

if TYPE_CHECKING:
    from tornado.httpclient import HTTPResponse

SECONDS_TO_ANSWER = 5.0
_SECONDS_TO_CHANGE = 60.0
_SECONDS_TO_RESTART = 180.0
_RECENT_SECONDS = 3.0
_OLDEST_SECONDS = 60.0
_T = TypeVar("_T")


class _SocketFile(Resolver):
    """Resolves every host name to one Unix socket."""

    def initialize(self, path: str = "") -> None:
        self._path = path

    async def resolve(self, *_args: Any, **_kwargs: Any) -> list[tuple[int, Any]]:
        return [(socket.AF_UNIX, self._path)]


class SupervisorClient:
    """Speaks with the supervisor that wrote ``manifest``. Close it when done.

    Every method raises RuntimeLostError when nobody listens, RuntimeUnavailableError when no
    answer that can be read comes in time, and else the error that the supervisor names.
    """

    def __init__(self, manifest: Manifest) -> None:
        self._runtime_id = manifest.runtime_id
        resolver = _SocketFile(path=manifest.socket)
        self._http = SimpleAsyncHTTPClient(force_instance=True, resolver=resolver)

    def close(self) -> None:
        """Close the connection."""
        self._http.close()

    async def status(self, after: int | None = None, wait: float = 0.0) -> RuntimeStatus:
        """What the runtime is doing; with ``after``, once the version is above it or ``wait`` s later."""
        query = {} if after is None else {"after": str(after), "wait": f"{wait:g}"}
        return await self._ask("/runtime", RuntimeStatus, query=query, seconds=SECONDS_TO_ANSWER + wait)

    async def samples(self, since: float) -> list[Sample]:
        """Readings taken after ``since`` (Unix seconds), oldest first."""
        return await self._ask("/samples", list[Sample], query={"since": f"{since:.6f}"})

    async def latest_sample(self, now: float) -> Sample | None:
        """The newest reading before ``now`` (Unix seconds), if it is not a minute old."""
        for seconds in (_RECENT_SECONDS, _OLDEST_SECONDS):
            samples = await self.samples(now - seconds)
            if samples:
                return samples[-1]
        return None

    async def nodes(self) -> list[Node]:
        """The nodes, head first."""
        return await self._ask("/nodes", list[Node])

    async def cells(self) -> list[CellAccount]:
        """What each cell used, oldest first."""
        return await self._ask("/cells", list[CellAccount])

    async def work(self) -> list[Work]:
        """Long work of the owner, oldest first."""
        return await self._ask("/tasks", list[Work])

    async def cancel_work(self, choice: WorkChoice) -> None:
        """Have a piece of work stop."""
        await self._ask("/tasks/cancel", None, choice)

    async def work_log(self, task_id: str) -> list[str]:
        """Last lines of the log of a piece of work."""
        return await self._ask("/tasks/log", list[str], query={"task_id": task_id})

    async def plan(self, target: ResizeTarget) -> ResizePlan:
        """What a resize would do."""
        return await self._ask("/resize/plan", ResizePlan, target)

    async def resize(self, request: ResizeRequest) -> ResizeOperation:
        """Begin a resize."""
        return await self._ask("/resize", ResizeOperation, request, seconds=_SECONDS_TO_CHANGE)

    async def cancel_resize(self) -> ResizeOperation:
        """Go back to the size before the running resize."""
        return await self._ask("/resize/cancel", ResizeOperation, _NO_BODY, seconds=_SECONDS_TO_CHANGE)

    async def restart(self, request: RestartRequest) -> RuntimeStatus:
        """Boot Ray anew; returns when it is up or has failed."""
        return await self._ask("/runtime/restart", RuntimeStatus, request, seconds=_SECONDS_TO_RESTART)

    async def stop(self) -> None:
        """Begin to take the runtime down."""
        await self._ask("/runtime/stop", None, _NO_BODY)

    async def _ask(
        self,
        path: str,
        answer: type[_T] | None,
        body: msgspec.Struct | bytes | None = None,
        *,
        query: dict[str, str] | None = None,
        seconds: float | None = None,
    ) -> _T:
        """GET without a ``body``, POST with one."""
        wait = SECONDS_TO_ANSWER if seconds is None else seconds
        url = url_concat(f"http://supervisor/{API_VERSION}{path}", query or {})
        content = body if body is None or isinstance(body, bytes) else msgspec.json.encode(body)
        method = "GET" if body is None else "POST"
        try:
            response = await self._http.fetch(
                url, method=method, body=content, raise_error=False, request_timeout=wait
            )
        except HTTPTimeoutError as error:
            message = f"Runtime {self._runtime_id} did not answer in {wait:g} s."
            raise RuntimeUnavailableError(message, "If it stays so, restart the kernel.") from error
        except (OSError, RuntimeError) as error:
            message = f"The supervisor of runtime {self._runtime_id} is gone."
            raise RuntimeLostError(message, "Restart the kernel to get a new runtime.") from error
        return self._decode(response, answer)

    def _decode(self, response: HTTPResponse, answer: type[_T] | None) -> _T:
        try:
            if response.code < 400:
                return msgspec.json.decode(response.body or b"null", type=answer)
            refusal = msgspec.json.decode(response.body, type=ErrorBody)
        except msgspec.MsgspecError as error:
            message = f"The supervisor of runtime {self._runtime_id} sent what cannot be read: {error}."
            action = "Kernel and server may have different versions of Heliostat: update the older one."
            raise RuntimeUnavailableError(message, action) from error
        raise error_from_body(refusal.error, refusal.message, refusal.action, refusal.fields)


_NO_BODY = b""
