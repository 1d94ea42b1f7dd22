"""The supervisor's API as any HTTP client sees it: answers, strictness, long-poll, description."""

from __future__ import annotations

import contextlib
import http.client
import json
import pickle
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from tests.support.owner import wait_for
from tests.support.raw_http import Answer, ask, send_raw

from heliostat._messages.cluster import Node
from heliostat._messages.resizing import ResizeOperation, ResizePlan
from heliostat._messages.runtime import RuntimeStatus
from heliostat._messages.usage import CellAccount, Sample

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.support.owner import Owner

ROOT = Path(__file__).resolve().parent.parent.parent
_NAMES = {"RuntimeStatus": RuntimeStatus, "ResizeOperation": ResizeOperation, "ResizePlan": ResizePlan}


def _ask(owner: Owner, method: str, path: str, body: Any = None) -> Answer:
    content = body if body is None or isinstance(body, bytes) else json.dumps(body).encode()
    return ask(owner.directory / "supervisor.sock", method, f"/v1{path}", content)


def _status(owner: Owner) -> RuntimeStatus:
    found: RuntimeStatus = _ask(owner, "GET", "/runtime").decode(RuntimeStatus)
    return found


def _what_counts(owner: Owner) -> tuple[object, ...]:
    """All of the status that a refused request must leave as it was."""
    status = _status(owner)
    cells = len(_ask(owner, "GET", "/cells").decode(list[CellAccount]))
    return status.state, status.resources, status.transitions, status.resize, status.address, cells


@pytest.fixture
def unchanged(owner: Owner) -> Iterator[None]:
    """Fail the test if the runtime is not as it was before."""
    before = _what_counts(owner)
    yield
    assert _what_counts(owner) == before


@pytest.mark.parametrize(
    ("method", "path", "body", "kind"),
    [
        ("GET", "/runtime", None, RuntimeStatus),
        ("GET", "/runtime?after=0&wait=0.5", None, RuntimeStatus),
        ("GET", "/nodes", None, list[Node]),
        ("GET", "/samples?since=0", None, list[Sample]),
        ("GET", "/cells", None, list[CellAccount]),
        ("POST", "/cells", {"cell_id": "a", "phase": "start", "at": 1.0}, None),
        ("POST", "/cells", {"cell_id": "a", "phase": "end", "at": 2.0}, None),
        ("POST", "/resize/plan", {"cpus": 1}, ResizePlan),
        ("POST", "/resize", {"target": {"cpus": 2}}, ResizeOperation),
        ("GET", "/openapi.json", None, dict[str, Any]),
    ],
)
def test_every_route_answers_what_its_type_says(
    owner: Owner, method: str, path: str, body: Any, kind: Any
) -> None:
    """Each answer is JSON that decodes strictly as the type in the table of routes."""
    answer = _ask(owner, method, path, body)
    assert answer.status == 200, answer.content
    assert answer.content_type == "application/json"
    if kind is None:
        assert answer.content == b""
    else:
        found = answer.decode(kind)
        assert found or path.startswith("/cells")


def test_a_cell_told_over_http_has_an_account(owner: Owner) -> None:
    """Start and end of a cell make an account with the times that were given."""
    for phase, at in (("start", 100.0), ("end", 101.5)):
        assert _ask(owner, "POST", "/cells", {"cell_id": "told", "phase": phase, "at": at}).status == 200
    accounts = _ask(owner, "GET", "/cells").decode(list[CellAccount])
    (account,) = [account for account in accounts if account.cell_id == "told"]
    assert (account.started_at, account.ended_at) == (100.0, 101.5)


@pytest.mark.usefixtures("unchanged")
@pytest.mark.parametrize(
    ("path", "body", "says"),
    [
        ("/resize", b"", "Input data was truncated"),
        ("/resize", b"{", "truncated"),
        ("/resize", b"\xff\xfe", "malformed"),
        ("/resize", b"[]", "Expected `object`"),
        ("/resize", {}, "missing required field `target`"),
        ("/resize", {"target": {"cpus": 1}, "hurry": True}, "unknown field `hurry`"),
        ("/resize", {"target": {"cpu": 1}}, "unknown field `cpu`"),
        ("/resize", {"target": {"cpus": "1"}}, "Expected `int | null`, got `str`"),
        ("/resize", {"target": {"cpus": 1.5}}, "Expected `int | null`, got `float`"),
        ("/resize", {"target": {"cpus": True}}, "got `bool`"),
        ("/resize", {"target": {"cpus": -1}}, "-1 CPUs cannot be had"),
        ("/resize", {"target": {"cpus": 10**30}}, "CPUs were asked for"),
        ("/resize", {"target": {"nodes": 0}}, "the least is 1"),
        ("/resize", {"target": {"gpus": -2}}, "the least is 0"),
        ("/resize", {"target": {"memory_bytes": -5}}, "too little"),
        ("/resize", b'{"target": {"cpus": 1}, "rollback_after_seconds": NaN}', "malformed"),
        ("/resize", b'{"target": {"cpus": 1}, "rollback_after_seconds": 1e999}', "out of range"),
        ("/resize", {"target": {"cpus": 1}, "rollback_after_seconds": -1}, "not a time to wait"),
        ("/resize", {"target": {"cpus": 1}, "rollback_after_seconds": 0}, "not a time to wait"),
        ("/resize/plan", {"cpus": 4096}, "CPUs were asked for"),
        ("/runtime/restart", {"target": {"cpus": 4096}}, "CPUs were asked for"),
        ("/runtime/restart", {"targets": {}}, "unknown field"),
        ("/cells", {"cell_id": "x", "phase": "pause", "at": 1}, "it can 'start' and 'end'"),
        ("/cells", {"cell_id": "x", "phase": "start"}, "missing required field `at`"),
        ("/cells", b'{"cell_id": "x", "phase": "start", "at": NaN}', "malformed"),
    ],
)
def test_bad_bodies_change_nothing(owner: Owner, path: str, body: Any, says: str) -> None:
    """A body that is not exactly what is asked for is refused with a sentence."""
    answer = _ask(owner, "POST", path, body)
    assert answer.status == 400
    assert says in answer.error.message
    assert answer.error.error in ("ConfigurationError", "ResizeError")


@pytest.mark.usefixtures("unchanged")
@pytest.mark.parametrize(
    ("path", "says"),
    [
        ("/runtime?after=x", "after: Expected `int`"),
        ("/runtime?after=1.5", "after: Expected `int`"),
        ("/runtime?after=0&wait=nan", "wait is nan"),
        ("/runtime?after=0&wait=inf", "wait is inf"),
        ("/runtime?after=0&wait=-1", "not a time to wait"),
        ("/runtime?afther=0", "no parameter 'afther'"),
        ("/runtime?after=%ff", "refused"),
        ("/samples?since=soon", "since: Expected `float`"),
        ("/samples?since=NaN", "since is NaN"),
    ],
)
def test_bad_queries_are_refused(owner: Owner, path: str, says: str) -> None:
    """A query that is not exactly what is asked for is refused, not guessed at."""
    answer = _ask(owner, "GET", path)
    assert answer.status == 400
    assert says in answer.error.message


@pytest.mark.usefixtures("unchanged")
@pytest.mark.parametrize(
    ("method", "path", "status", "says"),
    [
        ("GET", "/nothing", 404, "There is nothing at /v1/nothing"),
        ("POST", "/nothing", 404, "There is nothing at /v1/nothing"),
        ("GET", "/../token", 404, "There is nothing"),
        ("GET", "/openapiXjson", 404, "There is nothing"),
        ("POST", "/nodes", 405, "POST is not offered for /v1/nodes"),
        ("GET", "/resize", 405, "GET is not offered"),
        ("DELETE", "/runtime", 405, "DELETE is not offered"),
        ("PUT", "/runtime", 405, "PUT is not offered"),
        ("BREW", "/runtime", 405, "BREW is not offered"),
    ],
)
def test_what_is_not_there_is_said_in_json(
    owner: Owner, method: str, path: str, status: int, says: str
) -> None:
    """Unknown paths and methods are answered with an error body like any other refusal."""
    answer = _ask(owner, method, path)
    assert answer.status == status
    assert answer.content_type == "application/json"
    assert says in answer.error.message


class _Trap:
    def __init__(self, path: Path) -> None:
        self._path = path

    def __reduce__(self) -> tuple[Any, ...]:
        return Path.touch, (self._path,)


@pytest.mark.usefixtures("unchanged")
def test_no_pickle_is_ever_read(owner: Owner, tmp_path: Path) -> None:
    """A pickle that would run code is refused as any body that is not JSON."""
    trap = tmp_path / "sprung"
    pickle.loads(pickle.dumps(_Trap(trap)))
    assert trap.exists(), "the trap works where pickles are read"
    trap.unlink()
    for path in ("/cells", "/resize", "/resize/plan", "/runtime/restart"):
        assert _ask(owner, "POST", path, pickle.dumps(_Trap(trap))).status == 400
    assert not trap.exists()


@pytest.mark.usefixtures("unchanged")
def test_oversize_and_broken_requests_harm_nobody(owner: Owner) -> None:
    """A body over 1 MiB and bytes that are not HTTP are turned away, and others are served."""
    path = owner.directory / "supervisor.sock"
    head = b"POST /v1/cells HTTP/1.1\r\nHost: localhost\r\nContent-Length: %d\r\n\r\n"
    assert send_raw(path, head % (8 << 20)).startswith(b"HTTP/1.1 400")
    assert send_raw(path, b"\x80\x04\x95not http at all\r\n\r\n")[:12] in (b"", b"HTTP/1.1 400")
    assert send_raw(path, head % 100 + b"{") == b""
    assert _ask(owner, "GET", "/runtime").status == 200


def test_long_poll_answers_at_the_timeout(owner: Owner) -> None:
    """With nothing new the status comes when the wait is over, and is the same."""
    status = _status(owner)
    began = time.monotonic()
    found = _ask(owner, "GET", f"/runtime?after={status.version}&wait=0.6").decode(RuntimeStatus)
    assert time.monotonic() - began >= 0.55
    assert found.version == status.version


def _resize(owner: Owner, cpus: int) -> None:
    """Bring the runtime to another size, and wait until it has it."""
    assert _ask(owner, "POST", "/resize", {"target": {"cpus": cpus}}).status == 200
    wait_for(lambda: (s := _status(owner)).state == "ready" and s.resources and s.resources.cpus == cpus, 20)


def test_long_poll_answers_on_a_change(owner: Owner) -> None:
    """Two clients that wait are both answered as soon as something changes."""
    status = _status(owner)
    seen: list[tuple[float, RuntimeStatus]] = []

    def follow() -> None:
        answer = _ask(owner, "GET", f"/runtime?after={status.version}&wait=20")
        seen.append((time.monotonic(), answer.decode(RuntimeStatus)))

    followers = [threading.Thread(target=follow) for _ in range(2)]
    for follower in followers:
        follower.start()
    time.sleep(0.3)
    assert seen == [], "nothing has changed yet"
    changed = time.monotonic()
    _resize(owner, 1)
    for follower in followers:
        follower.join(20)
    assert len(seen) == 2
    assert all(at - changed < 10.0 and found.version > status.version for at, found in seen)
    _resize(owner, 2)


def test_many_clients_at_once(owner: Owner) -> None:
    """Long-polls of many clients do not hold up anybody else."""
    version = _status(owner).version
    url = f"/runtime?after={version}&wait=30"
    waiting = [threading.Thread(target=_ask, args=(owner, "GET", url)) for _ in range(30)]
    for thread in waiting:
        thread.start()
    assert all(_ask(owner, "GET", "/nodes").status == 200 for _ in range(20))
    assert all(thread.is_alive() for thread in waiting), "answered while the others still wait"
    _resize(owner, 1)
    for thread in waiting:
        thread.join(20)
    _resize(owner, 2)


def _references(part: Any) -> Iterator[str]:
    if isinstance(part, dict):
        for key, value in part.items():
            if key == "$ref":
                yield value
            else:
                yield from _references(value)
    elif isinstance(part, list):
        for value in part:
            yield from _references(value)


def test_openapi_describes_every_route(owner: Owner) -> None:
    """The document lists what is served, its references resolve, and real answers fit its schemas."""
    validator = pytest.importorskip("jsonschema").Draft202012Validator
    document = _ask(owner, "GET", "/openapi.json").decode(dict[str, Any])
    assert document["openapi"].startswith("3.1")
    references = set(_references(document))
    schemas = document["components"]["schemas"]
    assert references
    assert {reference.removeprefix("#/components/schemas/") for reference in references} <= set(schemas)
    for path, operations in document["paths"].items():
        for method, operation in operations.items():
            assert operation["summary"]
            assert set(operation["responses"]) == {"200", "default"}
            if method == "get":
                schema = operation["responses"]["200"]["content"]["application/json"]["schema"]
                validator.check_schema(schema)
                answer = ask(owner.directory / "supervisor.sock", "GET", path).decode(Any)
                validator({**schema, "components": document["components"]}).validate(answer)
            else:
                wrong = ask(owner.directory / "supervisor.sock", "GET", path)
                assert wrong.status == (200 if "get" in operations else 405)


def test_the_document_in_docs_is_the_one_that_is_served(owner: Owner) -> None:
    """``docs/supervisor-api.json`` is what a supervisor answers; ``make types`` writes it."""
    served = _ask(owner, "GET", "/openapi.json").decode(dict[str, Any])
    assert json.loads((ROOT / "docs" / "supervisor-api.json").read_text()) == served
    command = [sys.executable, str(ROOT / "scripts" / "generate_api_docs.py"), "--check"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


def test_the_table_in_docs_names_every_route() -> None:
    """The page about the API has a line for each operation, and for nothing else."""
    document = json.loads((ROOT / "docs" / "supervisor-api.json").read_text())
    page = (ROOT / "docs" / "supervisor-api.md").read_text()
    rows = [line.split("`")[1] for line in page.splitlines() if line.startswith(("| `GET", "| `POST"))]
    served = [f"{m.upper()} {path}" for path, operations in document["paths"].items() for m in operations]
    assert sorted(rows) == sorted(served)


def test_stop_is_answered_and_everything_goes(owner: Owner) -> None:
    """A runtime stopped over HTTP answers first; its socket and directory are then gone."""
    version = _status(owner).version
    assert _ask(owner, "POST", "/runtime/stop").status == 200
    answer = _ask(owner, "GET", f"/runtime?after={version}&wait=5")
    with contextlib.suppress(ConnectionError, FileNotFoundError, http.client.RemoteDisconnected):
        while answer.status == 200:
            version = answer.decode(RuntimeStatus).version
            answer = _ask(owner, "GET", f"/runtime?after={version}&wait=5")
        assert answer.error.error == "RuntimeLostError"
    wait_for(lambda: not owner.directory.exists(), 10)
