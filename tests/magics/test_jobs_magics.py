"""``%jobs``, ``%logs`` and ``%cancel``: long work as the notebook that does it sees it, and others."""

from __future__ import annotations

import contextlib
import re
import threading
from typing import TYPE_CHECKING

import pytest
from tests.kernel.support import Place, StartedKernel, new_manager, wait_until
from tests.support.foreign import Foreign

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


TRAINS = """
import numpy, pandas, sys
from heliostat.modeling.distributors.xgboost import XGBEstimator, XGBScalingConfig
frame = pandas.DataFrame(numpy.random.default_rng(0).random((2000, 3)), columns=list("abc"))
scaling = XGBScalingConfig(num_workers=1, num_cpu_per_worker=1, use_gpu=False)
XGBEstimator(n_estimators=10**6, scaling_config=scaling).fit(frame, input_cols=["a", "b"], label_col="c")
"""


def running(kernel: StartedKernel, kind: str) -> str:
    """Wait until ``%jobs`` of a kernel lists running work of that kind, and return the line of the table."""
    found: list[str] = []

    def look() -> bool:
        found[:] = [line for line in kernel.run("%jobs --running").text.splitlines() if kind in line]
        return bool(found)

    wait_until(look, 40, f"{kind} runs")
    return found[0]


def test_ranks_and_scripts_are_listed_and_cancelled_from_the_notebook(tmp_path: Path) -> None:
    """Cells on ranks in the background, and a training of a script that the notebook has started."""
    place = Place()
    kernel = StartedKernel(new_manager(place), place.environment(), place.path)
    try:
        assert kernel.run("%runtime start --cpus 2", timeout=90).error == ""
        begun = kernel.run("%%distribute -n 1 --noblock\nimport time\nkept = 5\ntime.sleep(600)", timeout=60)
        assert begun.error == ""
        line = running(kernel, "distribute")
        ranks = kernel.run("%resources --by rank").text
        assert re.search(r"^rank 0 +import time +\d+ ", ranks, re.MULTILINE), ranks
        assert "asked to stop" in kernel.run(f"%cancel {line.split()[0]}").stdout
        wait_until(lambda: "Nothing runs." in kernel.run("%jobs --running").text, 15, "the cell has ended")
        assert kernel.run("%%distribute\nkept").stdout == "5\n"
        script = tmp_path / "train.py"
        log = tmp_path / "log"
        log.write_text("packed\n")
        script.write_text(
            "import ray\nray.init(log_to_driver=False)\nfrom heliostat import _progress\n"
            "with _progress.task('packing', 'pack') as task:\n"
            f"    task.update(log_path={str(log)!r})\n{TRAINS}"
        )
        kernel.run(
            "import subprocess, sys\nscript = subprocess.Popen("
            f"[sys.executable, {str(script)!r}], stderr=subprocess.PIPE, text=True)"
        )
        line = running(kernel, "xgboost")
        pid = kernel.run("script.pid").text
        assert f"process {pid}" in line
        key = line.split()[0]
        wait_until(lambda: "rounds" in kernel.run("%resources --by job").text, 20, "rounds are told")
        assert kernel.run(f"%jobs {key}").text.startswith("XGBEstimator.fit")
        assert kernel.run("%logs").stdout == "packed\n"
        assert "keeps no log" in kernel.run(f"%logs {key}").error
        assert kernel.run(f"%cancel {key}").error == ""
        ended = kernel.run("print(script.communicate(timeout=30)[1])", timeout=40).stdout
        assert "XGBEstimator.fit was cancelled" in ended
        assert "cancelled" in kernel.run("%jobs").text
    finally:
        kernel.end()
        place.remove()


def test_notebooks_on_one_cluster_see_and_cancel_each_others_work() -> None:
    """A query and a training of one notebook are seen in the other, which can end them."""
    place, cluster = Place(), Foreign("disabled")
    environment = place.environment()
    kernels = [StartedKernel(new_manager(place), environment, place.path) for _ in range(2)]
    works, watches = kernels
    try:
        for kernel in kernels:
            attached = kernel.run(f"%runtime attach {cluster.address}", timeout=60)
            assert attached.text.startswith("Runtime ready"), attached.error
        query = "%%sql\nSELECT count(*) FROM range(20000000000) t(i) WHERE i % 7 = 3"
        for code, kind in ((query, "sql"), (TRAINS, "xgboost")):
            message = works.client.execute(code)
            line = running(watches, kind)
            assert "process" in line
            assert "asked to stop" in watches.run(f"%cancel {line.split()[0]}").stdout
            reply = works.reply(message, timeout=30)
            assert reply["content"]["ename"] == "TaskCancelledError"
        wait_until(lambda: "Nothing runs." in watches.run("%jobs --running").text, 10, "all has ended")
        assert watches.run("%cancel").error.startswith("ConfigurationError: Nothing runs.")
    finally:
        for kernel in kernels:
            kernel.end()
        cluster.end()
        place.remove()
