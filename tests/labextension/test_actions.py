"""What the panel can change through the server: relayed, limited by the administrator, and guarded."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import msgspec
import pytest
from tests.support.messages import GIB, ready
from tornado.httpclient import HTTPClientError, HTTPResponse

from heliostat._messages.base import ErrorBody
from heliostat._messages.cluster import Resources
from heliostat._messages.resizing import (
    Losses,
    ResizeOperation,
    ResizePlan,
    ResizeRequest,
    ResizeState,
    ResizeTarget,
)
from heliostat._messages.runtime import RestartRequest
from heliostat._messages.work import RankChoice, WorkChoice
from heliostat_lab._limits import HeliostatLimits, check, clamp
from heliostat_lab._messages import LogTail

from .test_server_extension import ROOT, Fetch, login_cookie, refusal

if TYPE_CHECKING:
    from pathlib import Path

    from .conftest import Answers, Manifests

ACTIONS = ("plan", "resize", "cancel-resize", "cancel-work", "stop-rank", "restart", "stop")
SIZE = Resources(cpus=1, gpus=0, memory_bytes=GIB, object_store_bytes=GIB, nodes=1)


def plan() -> ResizePlan:
    """Return a plan as a supervisor makes it."""
    return ResizePlan(
        current=SIZE,
        target=msgspec.structs.replace(SIZE, cpus=2),
        changes=[],
        losses=Losses(),
        waits_for=[],
        warnings=[],
        estimated_seconds=0.5,
        command="%resize cpus=2",
    )


def operation() -> ResizeOperation:
    """Return a resize that runs."""
    return ResizeOperation(
        operation_id="o1",
        state=ResizeState.RUNNING,
        plan=plan(),
        started_at=1.0,
        ended_at=None,
        current=SIZE,
        waiting_for=[],
        message="",
    )


async def post(fetch: Fetch, kernel_id: str, action: str, body: Any = None) -> HTTPResponse:
    """Ask for an action as the panel does."""
    content = b"" if body is None else msgspec.json.encode(body)
    return await fetch(*ROOT, "runtimes", kernel_id, action, method="POST", body=content)


@pytest.mark.parametrize("action", ACTIONS)
async def test_a_foreign_page_cannot_act(jp_fetch: Fetch, jp_serverapp: Any, action: str) -> None:
    """A request that carries a login cookie but no XSRF token, as another site's would, is refused."""
    login = {"Cookie": login_cookie(jp_serverapp), "Authorization": ""}
    own_page = {"Referer": f"http://127.0.0.1:{jp_serverapp.port}/lab"}
    seen = await jp_fetch(*ROOT, "runtimes", headers={**login, **own_page})
    assert seen.code == 200
    with pytest.raises(HTTPClientError) as caught:
        await jp_fetch(*ROOT, "runtimes", "k1", action, method="POST", body=b"", headers=login)
    response = caught.value.response
    assert response is not None
    assert (response.code, b"_xsrf" in response.body) == (403, True)


async def test_a_plan_and_a_resize_are_relayed(
    jp_fetch: Fetch, kernel_id: str, manifests: Manifests, supervisor: Answers
) -> None:
    """The supervisor gets what the panel sent, and the panel gets its answer."""
    manifests.write(kernel_id)
    supervisor.set("/v1/resize/plan", plan())
    supervisor.set("/v1/resize", operation())
    supervisor.set("/v1/resize/cancel", operation())
    target = ResizeTarget(cpus=2)
    answer = await post(jp_fetch, kernel_id, "plan", target)
    assert msgspec.json.decode(answer.body, type=ResizePlan) == plan()
    request = ResizeRequest(target=target, force=True)
    answer = await post(jp_fetch, kernel_id, "resize", request)
    assert msgspec.json.decode(answer.body, type=ResizeOperation) == operation()
    await post(jp_fetch, kernel_id, "cancel-resize")
    paths = [path for path, _ in supervisor.bodies]
    assert paths == ["/v1/resize/plan", "/v1/resize", "/v1/resize/cancel"]
    assert msgspec.json.decode(supervisor.bodies[0][1], type=ResizeTarget) == target
    assert msgspec.json.decode(supervisor.bodies[1][1], type=ResizeRequest) == request


async def test_restart_and_stop_are_relayed(
    jp_fetch: Fetch, kernel_id: str, manifests: Manifests, supervisor: Answers
) -> None:
    """Restart answers with the new status; stop has nothing to say."""
    manifests.write(kernel_id)
    supervisor.set("/v1/runtime/restart", ready())
    supervisor.set("/v1/runtime/stop", b"")
    restarted = await post(jp_fetch, kernel_id, "restart", RestartRequest())
    assert b'"state":"ready"' in restarted.body
    stopped = await post(jp_fetch, kernel_id, "stop")
    assert stopped.body == b"null"


async def test_work_is_cancelled_and_its_log_shown(
    jp_fetch: Fetch, kernel_id: str, manifests: Manifests, supervisor: Answers
) -> None:
    """Cancelling names the piece of work, stopping the rank; a log is the supervisor's answer."""
    manifests.write(kernel_id)
    supervisor.set("/v1/tasks/cancel", b"")
    supervisor.set("/v1/ranks/stop", b"")
    supervisor.set("/v1/tasks/log", ["epoch 1", "epoch 2"])
    await post(jp_fetch, kernel_id, "cancel-work", WorkChoice(task_id="w1"))
    await post(jp_fetch, kernel_id, "stop-rank", RankChoice(rank=2))
    assert supervisor.bodies == [
        ("/v1/tasks/cancel", b'{"task_id":"w1"}'),
        ("/v1/ranks/stop", b'{"rank":2}'),
    ]
    answer = await jp_fetch(*ROOT, "runtimes", kernel_id, "tasks", "w1")
    assert msgspec.json.decode(answer.body, type=LogTail).lines == ["epoch 1", "epoch 2"]
    assert "task_id=w1&lines=100" in supervisor.queries


@pytest.mark.parametrize("body", [b"[]", b'{"target": {"cpus": "two"}}', b'{"unknown": 1}', b"{"])
async def test_a_wrong_body_changes_nothing(
    jp_fetch: Fetch, kernel_id: str, manifests: Manifests, supervisor: Answers, body: bytes
) -> None:
    """What is not the action's request is 400 with the reason, and does not reach the supervisor."""
    manifests.write(kernel_id)
    code, error = await refusal(jp_fetch, "runtimes", kernel_id, "resize", method="POST", body=body)
    assert (code, error.error) == (400, "ConfigurationError")
    assert "not a ResizeRequest" in error.message
    assert supervisor.bodies == []


async def test_the_supervisors_refusal_comes_through(
    jp_fetch: Fetch, kernel_id: str, manifests: Manifests, supervisor: Answers
) -> None:
    """A size that cannot be had is told in the supervisor's words."""
    manifests.write(kernel_id)
    said = ErrorBody(error="ResizeError", message="There are 2 CPUs.", action="Ask for less.")
    supervisor.set("/v1/resize/plan", said, status=400)
    code, body = await refusal(jp_fetch, "runtimes", kernel_id, "plan", method="POST", body=b'{"cpus": 99}')
    assert (code, body) == (400, said)


async def test_the_log_is_shown(
    jp_fetch: Fetch, kernel_id: str, manifests: Manifests, supervisor: Answers, socket_path: Path
) -> None:
    """The last lines of the supervisor's log, and none where there is no log."""
    manifests.write(kernel_id)
    answer = await jp_fetch(*ROOT, "runtimes", kernel_id, "log")
    assert msgspec.json.decode(answer.body, type=LogTail).lines == []
    lines = [f"line {number}" for number in range(5000)]
    from heliostat._supervisor.config import LOG

    (socket_path.parent / LOG).write_text("\n".join(lines))
    answer = await jp_fetch(*ROOT, "runtimes", kernel_id, "log")
    assert msgspec.json.decode(answer.body, type=LogTail).lines == lines[-100:]


class TestAdministratorsLimits:
    """``c.HeliostatLimits`` in the server's configuration."""

    @pytest.fixture
    def jp_server_config(self) -> dict[str, Any]:
        """A server that allows four CPUs, no GPU, 8 GiB and two nodes."""
        limits = {"max_cpus": 4, "max_gpus": 0, "max_memory": "8GiB", "max_nodes": 2}
        return {
            "ServerApp": {"jpserver_extensions": {"heliostat_lab": True}},
            "HeliostatLimits": limits,
        }

    @pytest.fixture
    def behind(self, kernel_id: str, manifests: Manifests, supervisor: Answers) -> tuple[str, Answers]:
        """A kernel with a runtime behind it."""
        manifests.write(kernel_id)
        return kernel_id, supervisor

    @pytest.mark.parametrize(
        ("target", "says"),
        [
            (ResizeTarget(cpus=5), "5 cpus were asked for; this server allows 4."),
            (ResizeTarget(gpus=1), "1 gpus were asked for; this server allows 0."),
            (ResizeTarget(memory_bytes=9 * GIB), "9 GiB of memory were asked for; this server allows 8 GiB."),
            (ResizeTarget(nodes=3), "3 nodes were asked for; this server allows 2."),
        ],
    )
    async def test_more_is_refused(
        self, jp_fetch: Fetch, behind: tuple[str, Answers], target: ResizeTarget, says: str
    ) -> None:
        """Plan, resize and restart beyond the ceilings never reach the supervisor."""
        kernel_id, supervisor = behind
        bodies = {
            "plan": target,
            "resize": ResizeRequest(target=target),
            "restart": RestartRequest(target=target),
        }
        for action, body in bodies.items():
            content = msgspec.json.encode(body)
            code, error = await refusal(jp_fetch, "runtimes", kernel_id, action, method="POST", body=content)
            assert (code, error.error, error.message) == (400, "ResizeError", says)
        assert supervisor.bodies == []

    async def test_the_panel_offers_no_more(
        self, jp_fetch: Fetch, kernel_id: str, manifests: Manifests, supervisor: Answers
    ) -> None:
        """The limits that a status shows are lowered to the ceilings."""
        manifests.write(kernel_id)
        supervisor.set("/v1/runtime", ready())
        supervisor.set("/v1/samples", [])
        answer = await jp_fetch(*ROOT, "runtimes", kernel_id)
        assert b'"limits":{"cpus":4,"gpus":0,"memory_bytes":8589934592' in answer.body


def test_without_ceilings_nothing_is_limited() -> None:
    """The defaults set no ceiling."""
    ceilings = HeliostatLimits().ceilings()
    assert ceilings == {}
    check(ResizeTarget(cpus=10**6), ceilings)
    assert clamp(ready(), ceilings) == ready()
