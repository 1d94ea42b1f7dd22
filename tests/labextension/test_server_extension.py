"""The REST endpoints of the server extension, on a real Jupyter server."""

from __future__ import annotations

import json
import time
from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING, Any

import msgspec
import pytest
from jupyter_server.auth.identity import User
from tests.support.messages import ready, sample
from tornado.httpclient import HTTPClientError, HTTPResponse
from tornado.web import create_signed_value

import heliostat
from heliostat._messages.base import ErrorBody
from heliostat._messages.runtime import Manifest
from heliostat_lab import _supervisor_client
from heliostat_lab._handlers import handlers
from heliostat_lab._limits import HeliostatLimits
from heliostat_lab._messages import RuntimeView, VersionInfo

if TYPE_CHECKING:
    from pathlib import Path

    from jupyter_server.serverapp import ServerApp

    from .conftest import Answers, Manifests

Fetch = Callable[..., Awaitable[HTTPResponse]]
ROOT = ("heliostat", "api")


def login_cookie(server: ServerApp) -> str:
    """Return the cookie of somebody who logged in with a browser."""
    provider: Any = server.identity_provider
    secret, user = (
        server.web_app.settings["cookie_secret"],
        provider.user_to_cookie(User(username="somebody")),
    )
    # The name has the host in it, by either of its names.
    names = [f"username-{host}-{server.port}" for host in ("localhost", "127-0-0-1")]
    return "; ".join(f"{name}={create_signed_value(secret, name, user).decode()}" for name in names)


async def refusal(fetch: Fetch, *path: str, **more: Any) -> tuple[int, ErrorBody]:
    """Fetch what is refused, and return the status and the body."""
    with pytest.raises(HTTPClientError) as caught:
        await fetch(*ROOT, *path, **more)
    response = caught.value.response
    assert response is not None
    return response.code, msgspec.json.decode(response.body, type=ErrorBody)


def endpoints(kernel_id: str) -> list[tuple[str, str]]:
    """Method and path of everything that is served, with that kernel's id where there is one."""
    found = []
    for pattern, handler, _ in handlers("/", HeliostatLimits()):
        for method in sorted({"get", "post"} & vars(handler).keys()):
            path = pattern.replace(r"([\w-]+)", kernel_id, 1).replace(r"([\w-]+)", "w1")
            before, _, rest = path.partition("(")
            actions = rest.rstrip(")").split("|")
            found += [(method.upper(), (before + action).lstrip("/")) for action in actions]
    return found


ENDPOINTS = endpoints("another-servers-kernel")


def test_every_action_has_its_endpoint() -> None:
    """The table below is made from the routes themselves, so none can be forgotten."""
    assert len(ENDPOINTS) == len(set(ENDPOINTS)) == 13
    assert ("POST", "heliostat/api/runtimes/another-servers-kernel/stop-rank") in ENDPOINTS
    assert ("GET", "heliostat/api/stream") in ENDPOINTS


@pytest.mark.parametrize(("method", "path"), ENDPOINTS)
async def test_credentials_are_needed(jp_fetch: Fetch, method: str, path: str) -> None:
    """Without credentials every endpoint answers 403, and does nothing."""
    body = b"" if method == "POST" else None
    with pytest.raises(HTTPClientError) as caught:
        await jp_fetch(path, method=method, body=body, headers={"Authorization": "token wrong"})
    assert caught.value.code == 403


@pytest.mark.parametrize(
    ("method", "path"), [each for each in ENDPOINTS if "another-servers-kernel" in each[1]]
)
async def test_kernel_of_another_server(
    jp_fetch: Fetch, manifests: Manifests, method: str, path: str
) -> None:
    """A kernel that is not this server's is not found at any endpoint, though its runtime is there."""
    manifests.write("another-servers-kernel")
    body = b"" if method == "POST" else None
    code, error = await refusal(jp_fetch, *path.split("/")[2:], method=method, body=body)
    assert code == 404
    assert "no kernel" in error.message


async def test_version(jp_fetch: Fetch) -> None:
    """The version endpoint tells the versions of package and API."""
    response = await jp_fetch(*ROOT, "version")
    expected = VersionInfo(version=heliostat.__version__, api="v1")
    assert msgspec.json.decode(response.body, type=VersionInfo) == expected


async def test_status_and_latest_sample_are_relayed(
    jp_fetch: Fetch, kernel_id: str, manifests: Manifests, supervisor: Answers
) -> None:
    """A kernel's runtime is shown with its status and the newest of its recent samples."""
    manifests.write(kernel_id)
    now = time.time()
    supervisor.set("/v1/runtime", ready())
    supervisor.set("/v1/samples", [sample(now - 1), sample(now)])
    response = await jp_fetch(*ROOT, "runtimes", kernel_id)
    view = msgspec.json.decode(response.body, type=RuntimeView)
    assert (view.status, view.sample) == (ready(), sample(now))
    assert abs(view.at - now) < 5
    asked = [query for query in supervisor.queries if query.startswith("since=")]
    assert len(asked) == 1
    assert float(asked[0].removeprefix("since=")) > now - 10


async def test_no_sample_yet(
    jp_fetch: Fetch, kernel_id: str, manifests: Manifests, supervisor: Answers
) -> None:
    """Before the first reading the sample is null, and the status is shown."""
    manifests.write(kernel_id)
    supervisor.set("/v1/runtime", ready())
    supervisor.set("/v1/samples", [])
    response = await jp_fetch(*ROOT, "runtimes", kernel_id)
    assert json.loads(response.body)["sample"] is None


async def test_runtimes_of_this_server_only(
    jp_fetch: Fetch, kernel_id: str, manifests: Manifests, supervisor: Answers
) -> None:
    """The list has this server's kernels, and the newest runtime of each."""
    manifests.write("another-servers-kernel", "r0")
    manifests.write(kernel_id, "r1", created_at=1.0)
    newest = manifests.write(kernel_id, "r2", created_at=2.0)
    response = await jp_fetch(*ROOT, "runtimes")
    assert msgspec.json.decode(response.body, type=list[Manifest]) == [newest]


async def test_kernel_without_runtime(jp_fetch: Fetch, kernel_id: str, manifests: Manifests) -> None:
    """A kernel without a runtime is 404 with an ErrorBody that says what to do."""
    code, body = await refusal(jp_fetch, "runtimes", kernel_id)
    assert code == 404
    assert body.error == "RuntimeUnavailableError"
    assert "load_ext heliostat" in body.action


async def test_supervisor_gone(
    jp_fetch: Fetch, kernel_id: str, manifests: Manifests, socket_path: Path
) -> None:
    """A runtime whose socket nobody serves is 502 and named as lost."""
    manifests.write(kernel_id)
    assert not socket_path.exists()
    code, body = await refusal(jp_fetch, "runtimes", kernel_id)
    assert (code, body.error) == (502, "RuntimeLostError")


@pytest.mark.usefixtures("silent_socket")
async def test_supervisor_silent(
    jp_fetch: Fetch, kernel_id: str, manifests: Manifests, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A supervisor that does not answer is 504 after the time it has, and other requests go on."""
    monkeypatch.setattr(_supervisor_client, "SECONDS_TO_ANSWER", 0.3)
    manifests.write(kernel_id)
    code, body = await refusal(jp_fetch, "runtimes", kernel_id)
    assert (code, body.error) == (504, "RuntimeUnavailableError")


async def test_refusal_of_the_supervisor(
    jp_fetch: Fetch, kernel_id: str, manifests: Manifests, supervisor: Answers
) -> None:
    """An error of the supervisor reaches the browser in its own words."""
    manifests.write(kernel_id)
    said = ErrorBody(error="AuthenticationError", message="Not yours.", action="Ask.", fields={"uid": 1})
    supervisor.set("/v1/runtime", said, status=403)
    assert await refusal(jp_fetch, "runtimes", kernel_id) == (403, said)


@pytest.mark.parametrize("body", [b"{}", b"<html>", b"null"])
async def test_answer_that_cannot_be_read(
    jp_fetch: Fetch, kernel_id: str, manifests: Manifests, supervisor: Answers, body: bytes
) -> None:
    """An answer that is no RuntimeStatus is an error that names the likely cause."""
    manifests.write(kernel_id)
    supervisor.set("/v1/runtime", body)
    code, error = await refusal(jp_fetch, "runtimes", kernel_id)
    assert code == 504
    assert "versions" in error.action


async def test_polling_is_no_activity(jp_fetch: Fetch, jp_serverapp: ServerApp, manifests: Manifests) -> None:
    """Polling leaves the server's last activity as it was, so that idle servers can shut down."""
    before = jp_serverapp.web_app.last_activity()  # type: ignore[no-untyped-call]
    await jp_fetch(*ROOT, "runtimes")
    await jp_fetch(*ROOT, "version")
    assert jp_serverapp.web_app.last_activity() == before  # type: ignore[no-untyped-call]
