"""Long work of an owner: listed by its supervisor, cancelled from outside, told to nobody else."""

from __future__ import annotations

from typing import TYPE_CHECKING

import msgspec
import pytest
from tests.support.owner import wait_for

from heliostat import _calls as calls
from heliostat._client import SupervisorClient
from heliostat._messages.work import Rank, RankChoice, Work, WorkChoice, WorkReport, WorkState, WorkWorker
from heliostat._supervisor.config import SOCKET
from heliostat._supervisor.work import WorkList
from heliostat.exceptions import ConfigurationError

if TYPE_CHECKING:
    from pathlib import Path

    from tests.support.owner import Owner

_LOOP = """
def count():
    with progress.task("test", "counting", total=1000, unit="steps") as task:
        for step in range(1000):
            task.check()
            workers = [progress.WorkerSnapshot(rank=0, pid=7, memory_bytes=5)]
            task.update(done=step, metrics={"loss": 1 / (step + 1)}, workers=workers)
            time.sleep(0.05)
"""
_RANKS = """
from heliostat import _ranks
group = _ranks.start(_ranks.Wish(ranks=2))
run = group.run("import ctypes, time\\ntime.sleep(60) if rank else ctypes.PyDLL(None).sleep(60)")
"""


@pytest.fixture(scope="module")
def client(owner: Owner) -> SupervisorClient:
    """Somebody beside the owner, such as the panel."""
    owner.run("from heliostat import _progress as progress")
    owner.run(_LOOP)
    return SupervisorClient(owner.directory / SOCKET)


def latest(client: SupervisorClient) -> Work | None:
    """The newest piece of work."""
    found = client.ask(calls.work())
    return found[-1] if found else None


def test_work_is_seen_while_it_runs_and_cancelled_from_outside(
    owner: Owner, client: SupervisorClient
) -> None:
    """Progress reaches the supervisor while the owner's main thread works; cancelling ends the work."""
    owner.run("runtime.cell_started('c7')")
    owner.send("try:\n    count()\nexcept heliostat.HeliostatError as error:\n    ended = str(error)")
    wait_for(lambda: (work := latest(client)) is not None and work.done > 2, 10)
    work = latest(client)
    assert work is not None
    assert (work.kind, work.name, work.total, work.unit) == ("test", "counting", 1000, "steps")
    assert (work.cell_id, work.state) == ("c7", WorkState.RUNNING)
    assert work.metrics["loss"] < 1
    assert work.workers[0].memory_bytes == 5
    client.ask(calls.cancel_work(WorkChoice(task_id=work.task_id)))
    owner.answer(5)
    assert "counting was cancelled" in owner.run("ended")
    wait_for(lambda: (work := latest(client)) is not None and work.state is WorkState.CANCELLED, 5)
    with pytest.raises(ConfigurationError, match="does not run any more"):
        client.ask(calls.cancel_work(WorkChoice(task_id=work.task_id)))


def test_failures_are_told_with_their_reason(owner: Owner, client: SupervisorClient) -> None:
    """Work that fails is listed as failed, with what it raised."""
    owner.run(
        "def fail():\n    with progress.task('test', 'failing'):\n        raise ValueError('no rows')\n"
        "try:\n    fail()\nexcept ValueError:\n    pass"
    )
    wait_for(lambda: (work := latest(client)) is not None and work.state is WorkState.FAILED, 5)
    work = latest(client)
    assert work is not None
    assert work.message == "no rows"


def test_a_log_is_read_by_its_work(owner: Owner, client: SupervisorClient, tmp_path: Path) -> None:
    """Last lines of the log that a task names; a task without one says so."""
    log = tmp_path / "work.log"
    log.write_text("\n".join(f"line {number}" for number in range(5000)))
    owner.run(
        "def logged(path):\n    with progress.task('test', 'logged') as task:\n"
        f"        task.update(log_path=path)\nlogged({str(log)!r})"
    )
    wait_for(lambda: (work := latest(client)) is not None and work.log_path is not None, 5)
    work = latest(client)
    assert work is not None
    assert client.ask(calls.work_log(work.task_id, 2)) == ["line 4998", "line 4999"]
    log.unlink()
    with pytest.raises(ConfigurationError, match="cannot be read"):
        client.ask(calls.work_log(work.task_id, 2))
    with pytest.raises(ConfigurationError, match="no work with the id"):
        client.ask(calls.work_log("nobody", 2))


def test_ranks_are_listed_named_and_stopped_one_by_one(owner: Owner, client: SupervisorClient) -> None:
    """The supervisor knows the ranks; one is interrupted alone, one that holds its GIL is ended."""
    owner.run(_RANKS)
    wait_for(lambda: [rank.state for rank in client.ask(calls.ranks())] == ["busy", "busy"], 10)
    ranks = client.ask(calls.ranks())
    assert [rank.doing for rank in ranks] == ["import ctypes, time"] * 2
    names = {rank.pid: f"rank {rank.rank}" for rank in ranks}

    def named() -> dict[int, str]:
        return {process.pid: process.name for process in client.ask(calls.samples(0))[-1].processes}

    wait_for(lambda: names.items() <= named().items(), 5)
    client.ask(calls.stop_rank(RankChoice(rank=1)))
    wait_for(lambda: [rank.state for rank in client.ask(calls.ranks())] == ["busy", "idle"], 5)
    with pytest.raises(ConfigurationError, match="Rank 1 is idle"):
        client.ask(calls.stop_rank(RankChoice(rank=1)))
    with pytest.raises(ConfigurationError, match="no rank 7"):
        client.ask(calls.stop_rank(RankChoice(rank=7)))
    client.ask(calls.stop_rank(RankChoice(rank=0)))
    assert client.ask(calls.ranks())[0].stop_requested
    wait_for(lambda: client.ask(calls.ranks())[0].state == "dead", 15)
    owner.run("_ranks.stop()")
    wait_for(lambda: client.ask(calls.ranks()) == [], 5)


def work(task_id: str, state: WorkState) -> Work:
    """Return a piece of work."""
    return Work(task_id=task_id, kind="test", name="n", unit="", state=state, started_at=1.0, updated_at=1.0)


def test_the_list_is_bounded_and_keeps_what_runs() -> None:
    """Of the finished pieces the latest are kept; one that runs stays however old it is."""
    works = WorkList()
    works.note(WorkReport(work=[work("running", WorkState.RUNNING)]))
    for number in range(150):
        works.note(WorkReport(work=[work(str(number), WorkState.DONE)]))
    listed = [piece.task_id for piece in works.listed()]
    assert len(listed) == 100
    assert listed[0] == "running"
    assert listed[-1] == "149"


def test_orders_stand_until_the_work_has_ended() -> None:
    """A wish to cancel is repeated with each answer until the owner reports the end."""
    works = WorkList()
    running, ended = work("w", WorkState.RUNNING), work("w", WorkState.CANCELLED)
    assert works.note(WorkReport(work=[running])).cancel == []
    works.cancel("w")
    assert works.listed()[0].cancel_requested
    assert works.note(WorkReport(work=[])).cancel == ["w"]
    assert works.note(WorkReport(work=[running])).cancel == ["w"]
    assert works.note(WorkReport(work=[ended])).cancel == []


def test_a_rank_is_told_to_stop_once() -> None:
    """The wish is passed on with the next answer alone, and is over when the rank is idle."""
    works = WorkList()
    busy = Rank(rank=3, state="busy", pid=33)
    works.note(WorkReport(ranks=[busy]))
    works.stop_rank(3)
    assert works.note(WorkReport()).stop_ranks == [3]
    assert works.note(WorkReport()).stop_ranks == []
    works.note(WorkReport(ranks=[busy]))
    assert works.ranks()[0].stop_requested
    works.note(WorkReport(ranks=[Rank(rank=3, state="idle", pid=33)]))
    works.note(WorkReport(ranks=[busy]))
    assert not works.ranks()[0].stop_requested


def test_processes_are_called_by_what_they_do() -> None:
    """Ranks and the workers of running work have names; those of ended work have none."""
    works = WorkList()
    training = msgspec.structs.replace(work("w", WorkState.RUNNING), workers=[WorkWorker(rank=1, pid=11)])
    works.note(WorkReport(work=[training], ranks=[Rank(rank=0, state="idle", pid=22)]))
    assert works.names() == {11: "n worker 1", 22: "rank 0"}
    works.note(WorkReport(work=[msgspec.structs.replace(training, state=WorkState.DONE)]))
    assert works.names() == {22: "rank 0"}
