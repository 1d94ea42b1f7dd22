"""The WebSocket of a page: what it tells, when, to whom, and how it ends."""

from __future__ import annotations

import asyncio
import itertools
import os
import signal
import time
from typing import TYPE_CHECKING, Any

import msgspec
import pytest
from tests.support.messages import GIB, ready, sample
from tornado.httpclient import HTTPClientError

from heliostat._messages.cluster import Node
from heliostat._messages.runtime import RuntimeState
from heliostat._messages.usage import CellAccount, ProcessUse
from heliostat_lab._kernel_end import describe_end
from heliostat_lab._messages import StreamRequest, StreamUpdate
from heliostat_lab._relay import thin

from .test_server_extension import login_cookie

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Coroutine, Iterator
    from pathlib import Path

    from jupyter_server.serverapp import ServerApp
    from tornado.websocket import WebSocketClientConnection

    from .conftest import Answers, Manifests

    Connect = Callable[..., Coroutine[Any, Any, WebSocketClientConnection]]
    Open = Callable[..., Awaitable["Page"]]

SECONDS = 10.0


class Page:
    """A browser's page, as far as the server can see."""

    def __init__(self, connection: WebSocketClientConnection) -> None:
        self.connection = connection

    async def follow(self, kernel_id: str, **more: Any) -> None:
        """Ask for the news of a kernel."""
        request = StreamRequest(kernel_id=kernel_id, **{"interval": 0.2, **more})
        await self.connection.write_message(msgspec.json.encode(request))

    async def until(self, right: Callable[[StreamUpdate], object]) -> StreamUpdate:
        """Return the first update that is right."""
        deadline = time.monotonic() + SECONDS
        while True:
            text = await asyncio.wait_for(self.connection.read_message(), deadline - time.monotonic())
            assert text is not None, f"closed: {self.connection.close_reason}"
            update = msgspec.json.decode(text, type=StreamUpdate)
            if right(update):
                return update


@pytest.fixture
def open_page(jp_ws_fetch: Connect, jp_asyncio_loop: asyncio.AbstractEventLoop) -> Iterator[Open]:
    """Open the stream with the server's credentials; pages are closed at the end."""
    pages: list[Page] = []

    async def open_it(**more: Any) -> Page:
        pages.append(Page(await jp_ws_fetch("heliostat", "api", "stream", **more)))
        return pages[-1]

    async def close() -> None:
        for page in pages:
            page.connection.close()
            while page.connection.close_code is None and await page.connection.read_message() is not None:
                pass

    yield open_it
    jp_asyncio_loop.run_until_complete(asyncio.wait_for(close(), SECONDS))


def process_of(server: ServerApp, kernel_id: str) -> int:
    """Process id of a kernel."""
    provisioner: Any = server.kernel_manager.get_kernel(kernel_id).provisioner
    return int(provisioner.pid)


@pytest.fixture
def runtime(manifests: Manifests, kernel_id: str, supervisor: Answers) -> Answers:
    """A runtime at rest behind the kernel."""
    manifests.write(kernel_id)
    supervisor.set("/v1/runtime", ready())
    supervisor.set("/v1/samples", [sample(time.time())])
    supervisor.set("/v1/nodes", [])
    supervisor.set("/v1/cells", [])
    supervisor.set("/v1/tasks", [])
    supervisor.set("/v1/ranks", [])
    return supervisor


async def test_credentials_are_needed(open_page: Open) -> None:
    """Without credentials there is no connection."""
    with pytest.raises(HTTPClientError) as caught:
        await open_page(headers={"Authorization": "token wrong"})
    assert caught.value.code == 403


async def test_another_sites_page_is_kept_out(open_page: Open, jp_serverapp: ServerApp) -> None:
    """A page of another origin cannot open the stream with the login that the browser sends along."""
    login = {"Cookie": login_cookie(jp_serverapp), "Authorization": ""}
    await open_page(headers=login)
    with pytest.raises(HTTPClientError) as caught:
        await open_page(headers={**login, "Origin": "https://elsewhere.example"})
    assert caught.value.code == 403


async def test_everything_comes_at_first_and_then_only_news(
    open_page: Open, runtime: Answers, kernel_id: str
) -> None:
    """Status, history, nodes and cells are there at once; later updates hold what has changed."""
    page = await open_page()
    await page.follow(kernel_id)
    first = await page.until(lambda update: update.status)
    assert first.status == ready()
    readings = await page.until(lambda update: update.samples)
    assert readings.nodes == []
    assert readings.cells == []

    changed = msgspec.structs.replace(ready(), version=2, state=RuntimeState.RESIZING)
    runtime.set("/v1/runtime", changed)
    runtime.news.set()
    update = await page.until(lambda update: update.status)
    assert update.status == changed
    cell = CellAccount(
        cell_id="c1",
        started_at=1.0,
        ended_at=2.0,
        cpu_seconds=0.5,
        gpu_seconds=None,
        peak_memory_bytes=GIB,
        peak_gpu_memory_bytes=None,
    )
    runtime.set("/v1/cells", [cell])
    update = await page.until(lambda update: update.cells)
    assert update.cells == [cell]
    assert update.nodes is None


async def test_a_change_of_state_is_told_at_once(open_page: Open, runtime: Answers, kernel_id: str) -> None:
    """However slow the readings, a new status does not wait for the next."""
    page = await open_page()
    await page.follow(kernel_id, interval=60.0)
    await page.until(lambda update: update.samples)
    runtime.set("/v1/runtime", msgspec.structs.replace(ready(), version=2))
    runtime.news.set()
    assert (await page.until(lambda update: update.status)).status is not None


async def test_a_kernel_without_runtime_says_so_and_gets_one(
    open_page: Open, kernel_id: str, manifests: Manifests, supervisor: Answers
) -> None:
    """A runtime that starts later is found without asking again."""
    page = await open_page()
    await page.follow(kernel_id)
    assert (await page.until(lambda update: not update.present)).problem is None
    for path, message in {
        "/v1/runtime": ready(),
        "/v1/samples": [],
        "/v1/nodes": [],
        "/v1/cells": [],
    }.items():
        supervisor.set(path, message)
    manifests.write(kernel_id)
    assert (await page.until(lambda update: update.status)).status == ready()


async def test_a_foreign_kernel_tells_nothing(
    open_page: Open, runtime: Answers, manifests: Manifests
) -> None:
    """A kernel of another server has no runtime here, though its manifest lies beside ours."""
    manifests.write("another-servers-kernel", "r2")
    page = await open_page()
    await page.follow("another-servers-kernel")
    update = await page.until(lambda _: True)
    assert not update.present
    assert update.status is None


async def test_two_kernels_on_one_connection(
    open_page: Open, runtime: Answers, kernel_id: str, jp_serverapp: ServerApp
) -> None:
    """A page follows several kernels, each by its id, and stops following one alone."""
    other = await jp_serverapp.kernel_manager.start_kernel(kernel_name="python3")
    page = await open_page()
    await page.follow(kernel_id)
    await page.follow(other)
    assert (await page.until(lambda update: update.kernel_id == other)).present is False
    assert (await page.until(lambda update: update.kernel_id == kernel_id)).present
    await page.follow(kernel_id, follow=False)
    runtime.queries.clear()
    await page.follow("nobody")
    await page.until(lambda update: update.kernel_id == "nobody")
    assert not [query for query in runtime.queries if query.startswith("since")]


@pytest.mark.parametrize("message", ["{}", "[1]", "follow", '{"kernel_id": 1}', "x" * 5000])
async def test_nonsense_ends_the_connection(open_page: Open, message: str) -> None:
    """What is not a request is not guessed at."""
    page = await open_page()
    await page.connection.write_message(message)
    assert await asyncio.wait_for(page.connection.read_message(), SECONDS) is None
    assert page.connection.close_code == 1008


async def test_nothing_is_read_for_a_page_that_is_gone(
    open_page: Open, runtime: Answers, kernel_id: str
) -> None:
    """Closing the page ends what the server did for it."""
    page = await open_page()
    await page.follow(kernel_id)
    await page.until(lambda update: update.samples)
    page.connection.close()
    deadline = time.monotonic() + SECONDS
    while time.monotonic() < deadline:
        before = len(runtime.queries)
        await asyncio.sleep(0.5)
        if len(runtime.queries) == before:
            return
    pytest.fail("the supervisor is still asked")


async def test_a_lost_supervisor_is_told_with_its_reason(
    open_page: Open, kernel_id: str, manifests: Manifests, socket_path: Path
) -> None:
    """A runtime whose socket nobody serves is a problem with a sentence, and is looked for again."""
    assert not socket_path.exists()
    manifests.write(kernel_id)
    page = await open_page()
    await page.follow(kernel_id)
    problem = (await page.until(lambda update: update.problem)).problem
    assert problem is not None
    assert (problem.error, problem.action) == (
        "RuntimeLostError",
        "Restart the kernel to get a new runtime.",
    )
    await page.until(lambda update: update.problem)


async def test_a_killed_kernel_is_told(
    open_page: Open, runtime: Answers, kernel_id: str, jp_serverapp: ServerApp
) -> None:
    """While the server still knows how its kernel died, the page hears it."""
    page = await open_page()
    await page.follow(kernel_id)
    await page.until(lambda update: update.samples)
    os.kill(process_of(jp_serverapp, kernel_id), signal.SIGKILL)
    end = (await page.until(lambda update: update.kernel_end)).kernel_end
    assert end is not None
    assert "killed by SIGKILL" in end.what


async def test_a_kernel_killed_for_want_of_memory_is_told_with_figures(
    open_page: Open, runtime: Answers, kernel_id: str, jp_serverapp: ServerApp
) -> None:
    """Killed with memory full, the page hears how full it was, what the kernel held, and who held most."""
    runtime.set("/v1/samples", [TestKernelEnd.reading(23 * GIB)])
    page = await open_page()
    await page.follow(kernel_id)
    await page.until(lambda update: update.samples)
    os.kill(process_of(jp_serverapp, kernel_id), signal.SIGKILL)
    end = (await page.until(lambda update: update.kernel_end)).kernel_end
    assert end is not None
    assert "23 GiB of 24 GiB" in end.what
    assert "It held 3 GiB. The largest process was rank 3 with 12 GiB." in end.what
    assert "Hold less at once" in end.action


async def test_the_stream_is_no_activity(
    open_page: Open, runtime: Answers, kernel_id: str, jp_serverapp: ServerApp
) -> None:
    """Following a runtime does not keep an idle server alive."""
    page = await open_page()
    before = jp_serverapp.web_app.last_activity()  # type: ignore[no-untyped-call]
    await page.follow(kernel_id)
    await page.until(lambda update: update.samples)
    assert jp_serverapp.web_app.last_activity() == before  # type: ignore[no-untyped-call]


def test_history_is_thinned_and_keeps_the_newest() -> None:
    """A long history comes in at most so many points; only the newest names processes."""
    process = ProcessUse(pid=1, name="p", role="owner", cpu_seconds=1.0, cpu_percent=None, memory_bytes=1)
    samples = [msgspec.structs.replace(sample(float(at)), processes=[process]) for at in range(900)]
    kept = thin(samples, 300)
    assert len(kept) <= 300
    assert kept[-1] == samples[-1]
    assert all(not before.processes for before in kept[:-1])
    gaps = {after.at - before.at for before, after in itertools.pairwise(kept)}
    assert gaps == {3.0}
    assert thin([], 300) == []
    assert [s.at for s in thin(samples[:5], 300)] == [0.0, 1.0, 2.0, 3.0, 4.0]


class TestKernelEnd:
    """How the death of a kernel is put into words."""

    @staticmethod
    def reading(used: int) -> Any:
        """A machine of 24 GiB, on which the kernel holds 3 and a worker 12."""
        base = sample(1.0)
        host = msgspec.structs.replace(base.host, memory_used_bytes=used, memory_limit_bytes=24 * GIB)
        processes = [
            ProcessUse(
                pid=1, name="kernel", role="owner", cpu_seconds=1, cpu_percent=None, memory_bytes=3 * GIB
            ),
            ProcessUse(
                pid=2, name="rank 3", role="worker", cpu_seconds=1, cpu_percent=None, memory_bytes=12 * GIB
            ),
        ]
        return msgspec.structs.replace(base, host=host, processes=processes)

    def test_full_memory_is_named_with_figures_and_the_largest_process(self) -> None:
        """A SIGKILL with memory full is put down to memory."""
        end = describe_end(5.0, -9, self.reading(23 * GIB))
        assert end is not None
        assert end.what == (
            "The kernel was killed (SIGKILL), most likely for want of memory:"
            " 23 GiB of 24 GiB were in use when last seen."
            " It held 3 GiB. The largest process was rank 3 with 12 GiB."
        )

    def test_memory_that_filled_between_two_readings(self) -> None:
        """Where the operating system counts a kill for want of memory, the last reading need not be full."""
        end = describe_end(5.0, -9, self.reading(12 * GIB), oom_killed=True)
        assert end is not None
        assert "for want of memory: 12 GiB of 24 GiB were in use when last seen" in end.what

    def test_a_kill_without_need_is_only_a_kill(self) -> None:
        """With memory free, nothing is guessed."""
        end = describe_end(5.0, -9, self.reading(GIB))
        assert end is not None
        assert end.what == "The kernel was killed by SIGKILL. It held 3 GiB."

    def test_orderly_ends_and_codes(self) -> None:
        """Code 0 is nothing to tell; another code is told; a crash has its signal's name."""
        assert describe_end(5.0, 0, None) is None
        crashed, exited = describe_end(5.0, -11, None), describe_end(5.0, 3, None)
        assert crashed is not None
        assert exited is not None
        assert "SIGSEGV" in crashed.what
        assert "code 3" in exited.what


def test_nodes_are_messages() -> None:
    """A hundred nodes are sent once, in less than a single reading's second of the budget."""
    nodes = [
        Node(
            node_id=f"{number:056x}",
            name=f"node-{number}",
            head=number == 0,
            state="alive",
            address="10.0.0.1",
            cpus=8,
            gpus=0,
            memory_bytes=GIB,
            object_store_bytes=GIB,
            cpus_used=1.0,
            gpus_used=0.0,
        )
        for number in range(100)
    ]
    update = StreamUpdate(kernel_id="k", at=1.0, nodes=nodes)
    assert len(msgspec.json.encode(update)) < 60_000
