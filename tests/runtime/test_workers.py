"""The pool of workers, on a real runtime."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import threading
import time
import warnings
from typing import TYPE_CHECKING, Any

import psutil
import pytest
from tests.support.trainings import until

from heliostat import _handle
from heliostat.exceptions import ConfigurationError
from heliostat.modeling._workers import (
    Failure,
    Layout,
    PeerLostError,
    RunFailedError,
    Said,
    WorkerContext,
    cause,
    lease,
    pool,
    training_error,
)
from heliostat.modeling._workers._hub import Hub
from heliostat.modeling._workers._pool import IDLE_VARIABLE

if TYPE_CHECKING:
    from heliostat._runtime import Runtime

pytestmark = pytest.mark.usefixtures("runtime")
ONE, TWO = Layout(1, 1), Layout(2, 1)


def where(context: WorkerContext) -> dict[str, Any]:
    """What a function finds around it."""
    import sys

    return {
        "pid": os.getpid(),
        "rank": (context.rank, context.size),
        "main": threading.current_thread() is threading.main_thread(),
        "omp": (os.environ.get("OMP_WAIT_POLICY"), os.environ.get("OMP_NUM_THREADS")),
        "mine": os.environ.get("MINE"),
        "heavy": [name for name in ("xgboost", "lightgbm", "torch") if name in sys.modules],
    }


def test_a_function_runs_on_the_main_thread_of_a_worker_that_is_set_up() -> None:
    """OpenMP's settings are there before anything numeric is imported; each rank has its own variables."""
    with lease(Layout(2, 1, environment=(("HELIOSTAT_TEST", "fresh"),))) as group:
        found = group.start(where, [(), ()], [{"MINE": "a"}, {"MINE": "b"}]).results()
        again = group.start(where, [(), ()]).results()
    assert [each["rank"] for each in found] == [(0, 2), (1, 2)]
    assert all(each["main"] and each["omp"] == ("PASSIVE", "1") for each in found)
    assert [each["mine"] for each in found] == ["a", "b"]
    assert [each["heavy"] for each in found] == [[], []]
    assert [each["mine"] for each in again] == [None, None]


def test_the_second_call_finds_its_workers_warm() -> None:
    """The same processes come back in a fraction of the time, hold no CPU in between, and end when freed."""
    import ray

    def called() -> tuple[set[int], float]:
        begun = time.monotonic()
        with lease(TWO) as group:
            pids = {each["pid"] for each in group.start(where, [(), ()]).results()}
        return pids, time.monotonic() - begun

    pool.free()
    first, cold = called()
    until(lambda: ray.available_resources().get("CPU") == 2, 20, "idle workers hold no CPU")
    warm = [called() for _ in range(3)]
    assert [pids for pids, _ in warm] == [first] * 3
    # Against the start of processes on the same machine: a time alone says how busy it is.
    assert min(seconds for _, seconds in warm) < cold / 4
    assert pool.free() == 2
    until(lambda: not any(psutil.pid_exists(pid) for pid in first), 20, "the workers are gone")


def test_idle_workers_end_by_themselves(runtime: Runtime, monkeypatch: pytest.MonkeyPatch) -> None:
    """They go after the time that is set, and before a resize; the setting must be a time."""
    monkeypatch.setenv(IDLE_VARIABLE, "0.1")
    with lease(ONE) as group:
        pid = group.workers[0].pid
    until(lambda: not psutil.pid_exists(pid), 20, "the worker is gone after its time")
    monkeypatch.setenv(IDLE_VARIABLE, "60")
    with lease(ONE) as group:
        pid = group.workers[0].pid
    assert pid in pool.pids()
    runtime.resize(cpus=1)
    until(lambda: not psutil.pid_exists(pid), 20, "the worker is gone before the resize")
    runtime.resize(cpus=2)
    monkeypatch.setenv(IDLE_VARIABLE, "soon")
    with pytest.raises(ConfigurationError, match="not a time"), lease(ONE):
        pass


def test_functions_and_values_of_a_notebook_travel() -> None:
    """Closures and classes that cannot be imported come by value, both ways, in order, while it runs."""
    scope: dict[str, Any] = {"__name__": "__main__"}
    exec("class Point:\n    def __init__(self, x): self.x = x\n", scope)
    point = scope["Point"]
    offset = 40

    def talk(context: WorkerContext, base: int) -> Any:
        context.send(point(base))
        answer = context.receive(timeout=10)
        return point(answer + offset), context.gather(context.rank * 10)

    with lease(TWO) as group:
        run = group.start(talk, [(1,), (2,)])
        heard: dict[int, int] = {}
        while len(heard) < 2:
            event = run.next(10)
            assert isinstance(event, Said)
            heard[event.rank] = event.value.x
            run.send(event.rank, event.value.x)
        results = run.results()
    assert heard == {0: 1, 1: 2}
    assert [result.x for result, _ in results] == [41, 42]
    assert [gathered for _, gathered in results] == [[0, 10], [0, 10]]


def test_the_true_cause_is_told_with_its_rank() -> None:
    """A rank that fails because its peer did is not blamed; exceptions that cannot travel are told."""

    class Odd(Exception):  # noqa: N818
        def __reduce__(self) -> str:
            message = "no"
            raise TypeError(message)

    def fail(context: WorkerContext) -> None:
        if context.rank == 0:
            message = "connection reset"
            raise PeerLostError(message)
        time.sleep(0.2)
        message = "bad row"
        raise Odd(message)

    with lease(TWO) as group, pytest.raises(RunFailedError) as failed:
        group.start(fail, [(), ()]).results()
    error = training_error(failed.value.cause)
    assert (error.rank, str(error)) == (1, "Training failed on rank 1: Odd: bad row")
    assert "in fail" in failed.value.cause.trace
    assert len(failed.value.failures) == 2


def exits(_: WorkerContext) -> None:
    """End the process with a code."""
    os._exit(7)


def exits_politely(_: WorkerContext) -> None:
    """Ask Python to end."""
    raise SystemExit(3)


def is_killed(_: WorkerContext) -> None:
    """Die of a signal."""
    os.kill(os.getpid(), signal.SIGKILL)


def crashes(_: WorkerContext) -> None:
    """Die of a wrong pointer."""
    import ctypes

    ctypes.string_at(0)


def is_killed_after_its_child_crashed(context: WorkerContext) -> None:
    """Have a forked child die of a wrong pointer, and be killed."""
    if (child := os.fork()) == 0:
        crashes(context)
    assert os.WIFSIGNALED(os.waitpid(child, 0)[1])
    is_killed(context)


@pytest.mark.parametrize(
    ("function", "told", "code"),
    [
        (exits, "ended itself with exit code 7", 7),
        (is_killed, "was killed", -9),
        (is_killed_after_its_child_crashed, "was killed", -9),
        (crashes, "crashed: Segmentation fault", None),
    ],
)
def test_a_death_is_told_with_what_is_known_of_it(function: Any, told: str, code: int | None) -> None:
    """The failure names rank and cause, and another process takes the rank's place."""
    begun = time.monotonic()
    with lease(ONE) as group:
        pid = group.workers[0].pid
        with pytest.raises(RunFailedError, match=told) as failed:
            group.start(function, [()]).results()
        assert time.monotonic() - begun < 10
        assert failed.value.died == [0]
        assert training_error(failed.value.cause).exit_code == code
        assert group.refill() == 1
        assert group.start(where, [()]).results()[0]["pid"] != pid


def test_python_that_asks_to_end_is_an_error() -> None:
    """``sys.exit`` in a function fails that run and leaves the worker there."""
    with lease(ONE) as group:
        with pytest.raises(RunFailedError, match=r"sys.exit\(3\)"):
            group.start(exits_politely, [()]).results()
        assert len(group.start(where, [()]).results()) == 1


def test_functions_can_be_stopped_and_interrupted() -> None:
    """Stop is seen by a function that looks, an interrupt ends one that does not; the workers live on."""

    def looks(context: WorkerContext) -> str:
        context.send("here")
        while not context.stopping:
            time.sleep(0.005)
        return "stopped"

    def spins(context: WorkerContext) -> None:
        context.send("here")
        while True:
            pass

    with lease(ONE) as group:
        run = group.start(looks, [()])
        assert run.next(10) == Said(0, "here")
        run.stop()
        assert run.results() == ["stopped"]
        run = group.start(spins, [()])
        assert run.next(10) == Said(0, "here")
        begun = time.monotonic()
        run.interrupt()
        event = run.next(10)
        assert isinstance(event, Failure)
        assert isinstance(event.error, KeyboardInterrupt)
        assert time.monotonic() - begun < 1
        assert len(group.start(where, [()]).results()) == 1


def test_a_hung_worker_says_where_it_is_and_can_be_replaced() -> None:
    """Stacks come even while C code holds the GIL; a rank that is killed is brought up anew."""

    def hangs(context: WorkerContext) -> None:
        import ctypes

        context.send("here")
        ctypes.PyDLL(None).sleep(60)  # with the GIL held

    with lease(TWO) as group:
        before = [worker.pid for worker in group.workers]
        run = group.start(hangs, [(), ()])
        assert {run.next(10), run.next(10)} == {Said(0, "here"), Said(1, "here")}
        assert run.pending == {0, 1}
        until(lambda: all("in hangs" in text for text in run.stacks().values()), 5, "both say where")
        group.kill_busy()
        assert group.refill() == 2
        after = [each["pid"] for each in group.start(where, [(), ()]).results()]
    assert set(after).isdisjoint(before)


def test_leaving_by_an_error_ends_the_workers_at_once() -> None:
    """An interrupt frees CPUs and memory within a second, whatever the workers were doing."""
    import ray

    pids: list[int] = []
    begun = 0.0

    def interrupted() -> None:
        nonlocal begun
        with lease(TWO) as group:
            pids.extend(worker.pid for worker in group.workers)
            group.start(lambda _: time.sleep(60), [(), ()])
            begun = time.monotonic()
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        interrupted()
    until(lambda: not any(psutil.pid_exists(pid) for pid in pids), 1, "the workers are gone")
    assert time.monotonic() - begun < 1
    until(lambda: ray.available_resources().get("CPU") == 2, 5, "both CPUs are free again")


def test_cpus_that_stay_in_use_are_an_error_with_the_line_that_helps() -> None:
    """Waiting for CPUs ends after a time, with what is free and how to grow."""
    with (
        lease(ONE),
        pytest.raises(ConfigurationError, match="%resize cpus=3") as refused,
        lease(TWO, placement_timeout=0.3),
    ):
        pass
    assert (refused.value.required, refused.value.available) == (2, 1)


def test_strangers_are_not_let_in() -> None:
    """Who does not know the key is cut off and nothing that it sent is read."""
    hub = Hub("127.0.0.1")
    with socket.create_connection((hub.address.host, hub.address.port)) as stranger:
        stranger.settimeout(5)
        assert b"#CHALLENGE#" in stranger.recv(200)
        stranger.sendall(b"\x00\x00\x00\x05hello")
        received = b"x"
        while received:
            received = stranger.recv(200)
    hub.close()


def test_the_cause_is_the_rank_that_failed_by_itself() -> None:
    """A broken connection on one rank does not hide the error of another, even a later one."""
    lost = Failure(0, 1.0, PeerLostError("connection closed"))
    own = Failure(1, 2.0, ValueError("bad row"))
    assert cause([lost, own]) is own
    assert cause([lost]) is lost


def test_idle_workers_do_not_bring_ray_back() -> None:
    """After the runtime is shut down, looking after the pool boots no cluster of Ray's own.

    A child that is forked then frees no handle of a worker: of these Ray would be told.
    """
    code = (
        "import gc, heliostat, os, time, ray, threading\n"
        "from heliostat.modeling._workers import Layout, lease\n"
        "from heliostat.modeling._workers._pool import pool\n"
        "from heliostat.modeling._workers._worker import all_workers\n"
        "heliostat.init(cpus=1)\n"
        "with lease(Layout(1, 1)): pass\n"
        "assert pool.pids()\n"
        "heliostat.shutdown()\n"
        "deadline = time.monotonic() + 20\n"
        "while any(t.name == 'heliostat-workers' for t in threading.enumerate()):\n"
        "    assert time.monotonic() < deadline\n"
        "    time.sleep(0.05)\n"
        "assert not ray.is_initialized(), 'Ray was booted by the clean-up'\n"
        "child = os.fork()\n"
        "if child == 0:\n"
        "    gc.collect()\n"
        "    os._exit(0 if len(all_workers) == 1 else 1)\n"
        "assert os.waitpid(child, 0)[1] == 0, 'a handle was freed in a child'\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, timeout=90, check=False
    )
    assert done.returncode == 0, done.stderr


def test_to_ask_for_the_size_that_is_there_is_no_mistake(runtime: Runtime) -> None:
    """A script's first line may stand in a notebook: only another size is warned of."""
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert _handle.init(cpus=2) is runtime
    with pytest.warns(UserWarning, match="keeps its size"):
        assert _handle.init(cpus=1) is runtime
