"""``%jobs``, ``%logs`` and ``%cancel``: long work as the notebook that does it sees it."""

from __future__ import annotations

import contextlib
import threading
from typing import TYPE_CHECKING

import pytest

from heliostat import _progress as progress
from heliostat._progress import WorkerSnapshot
from heliostat.exceptions import ConfigurationError, TaskCancelledError

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from tests.magics.support import Cells


@pytest.fixture
def task(tmp_path: Path) -> Iterator[progress.Task]:
    """Work that another thread does until it is cancelled."""
    started = threading.Event()
    told: list[progress.Task] = []
    log = tmp_path / "work.log"
    log.write_text("".join(f"line {index}\n" for index in range(100)))

    def work() -> None:
        with (
            contextlib.suppress(TaskCancelledError),
            progress.task("xgboost", "a fit", total=50, unit="rounds") as task,
        ):
            stop = threading.Event()
            task.on_cancel(stop.set)
            worker = WorkerSnapshot(rank=0, pid=7, node="here", rows=5, memory_bytes=1 << 30)
            task.update(done=12, metrics={"rmse": 0.25}, workers=[worker], log_path=str(log))
            told.append(task)
            started.set()
            assert stop.wait(30)
            task.check()

    thread = threading.Thread(target=work)
    thread.start()
    assert started.wait(10)
    yield told[0]
    told[0].cancel()
    thread.join(10)


def test_work_is_listed_looked_at_and_cancelled(cells: Cells, task: progress.Task) -> None:
    """The list shows how far it is, one piece its workers and log; cancelling ends it."""
    key = task.snapshot.task_id
    listed = repr(cells.run("%jobs --running").result)
    assert key in listed
    assert "12 of 50 rounds" in listed
    assert "rmse 0.25" in listed
    one = repr(cells.run(f"%jobs {key[:8]}").result)
    assert "1 GiB" in one
    assert cells.run("%logs -n 2").stdout == "line 98\nline 99\n"
    assert cells.run(f"%logs {key} -n 1").stdout == "line 99\n"
    assert "1 GiB" in repr(cells.run("%resources --by job").result)
    assert cells.complete("%cancel ") == [key]
    assert cells.run("%cancel").stdout == f"a fit ({key}) was asked to stop.\n"
    assert task.cancelled


@pytest.mark.parametrize(
    ("line", "said"),
    [("%cancel nope", "no work with the id"), ("%logs nope", "no work"), ("%jobs zz", "no work")],
)
def test_refuses_by_name(cells: Cells, line: str, said: str) -> None:
    """What is not there is said, with where to look."""
    ran = cells.run(line)
    assert isinstance(ran.error, ConfigurationError)
    assert said in str(ran.error)
    assert "%jobs" in str(ran.error)
