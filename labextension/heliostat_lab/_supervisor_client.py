"""Asks a supervisor over its Unix socket without holding up the server's event loop."""

from __future__ import annotations

import socket
from typing import TYPE_CHECKING, Any, TypeVar

import msgspec
from tornado.httputil import url_concat
from tornado.netutil import Resolver
from tornado.simple_httpclient import HTTPTimeoutError, SimpleAsyncHTTPClient

from heliostat._messages import API_VERSION, ErrorBody, Manifest, RuntimeStatus, Sample
from heliostat.exceptions import RuntimeLostError, RuntimeUnavailableError, error_from_body

if TYPE_CHECKING:
    from tornado.httpclient import HTTPResponse

SECONDS_TO_ANSWER = 5.0
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
    """Reads from the supervisor that wrote ``manifest``. Close it when done.

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

    async def status(self) -> RuntimeStatus:
        """What the runtime is doing now."""
        return await self._get("/runtime", RuntimeStatus)

    async def latest_sample(self, now: float) -> Sample | None:
        """The newest reading before ``now`` (Unix seconds), if it is not a minute old."""
        for seconds in (_RECENT_SECONDS, _OLDEST_SECONDS):
            samples = await self._get("/samples", list[Sample], since=f"{now - seconds:.3f}")
            if samples:
                return samples[-1]
        return None

    async def _get(self, path: str, answer: type[_T], **query: str) -> _T:
        url = url_concat(f"http://supervisor/{API_VERSION}{path}", query)
        try:
            response = await self._http.fetch(url, raise_error=False, request_timeout=SECONDS_TO_ANSWER)
        except HTTPTimeoutError as error:
            message = f"Runtime {self._runtime_id} did not answer in {SECONDS_TO_ANSWER:g} s."
            raise RuntimeUnavailableError(message, "If it stays so, restart the kernel.") from error
        except (OSError, RuntimeError) as error:
            message = f"The supervisor of runtime {self._runtime_id} is gone."
            raise RuntimeLostError(message, "Restart the kernel to get a new runtime.") from error
        return self._decode(response, answer)

    def _decode(self, response: HTTPResponse, answer: type[_T]) -> _T:
        try:
            if response.code < 400:
                return msgspec.json.decode(response.body, type=answer)
            refusal = msgspec.json.decode(response.body, type=ErrorBody)
        except msgspec.MsgspecError as error:
            message = f"The supervisor of runtime {self._runtime_id} sent what cannot be read: {error}."
            action = "Kernel and server may have different versions of Heliostat: update the older one."
            raise RuntimeUnavailableError(message, action) from error
        raise error_from_body(refusal.error, refusal.message, refusal.action, refusal.fields)
