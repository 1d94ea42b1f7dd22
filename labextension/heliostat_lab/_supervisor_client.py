"""Asks a supervisor over its Unix socket without holding up the server's event loop."""

from __future__ import annotations

import socket
from typing import TYPE_CHECKING, Any, TypeVar

import msgspec
from tornado.netutil import Resolver
from tornado.simple_httpclient import HTTPTimeoutError, SimpleAsyncHTTPClient

from heliostat import _calls as calls
from heliostat._messages.base import ErrorBody
from heliostat.exceptions import RuntimeLostError, RuntimeUnavailableError, error_from_body

if TYPE_CHECKING:
    from tornado.httpclient import HTTPResponse

    from heliostat._messages.runtime import Manifest
    from heliostat._messages.usage import Sample

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
    """Makes the calls of ``heliostat._calls`` to the supervisor that wrote ``manifest``. Close it when done.

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

    async def ask(self, call: calls.Call[_T]) -> _T:
        """Make a call and return its answer."""
        seconds = (SECONDS_TO_ANSWER if call.seconds is None else call.seconds) + call.waits
        try:
            response = await self._http.fetch(
                f"http://supervisor{call.target}",
                method=call.method,
                body=call.content,
                raise_error=False,
                request_timeout=seconds,
            )
        except HTTPTimeoutError as error:
            message = f"Runtime {self._runtime_id} did not answer in {seconds:g} s."
            raise RuntimeUnavailableError(message, "If it stays so, restart the kernel.") from error
        except (OSError, RuntimeError) as error:
            message = f"The supervisor of runtime {self._runtime_id} is gone."
            raise RuntimeLostError(message, "Restart the kernel to get a new runtime.") from error
        return self._decode(response, call)

    async def latest_sample(self, now: float) -> Sample | None:
        """The newest reading before ``now`` (Unix seconds), if it is not a minute old."""
        for seconds in (_RECENT_SECONDS, _OLDEST_SECONDS):
            samples = await self.ask(calls.samples(now - seconds))
            if samples:
                return samples[-1]
        return None

    def _decode(self, response: HTTPResponse, call: calls.Call[_T]) -> _T:
        try:
            if response.code < 400:
                return call.decode(response.body)
            refusal = msgspec.json.decode(response.body, type=ErrorBody)
        except msgspec.MsgspecError as error:
            message = f"The supervisor of runtime {self._runtime_id} sent what cannot be read: {error}."
            action = "Kernel and server may have different versions of Heliostat: update the older one."
            raise RuntimeUnavailableError(message, action) from error
        raise error_from_body(refusal.error, refusal.message, refusal.action, refusal.fields)
