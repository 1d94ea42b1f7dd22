"""A rank's side of a training: prepare the process, run ``train_func``, leave the process clean.

A rank does not raise: it returns an ``Outcome``, so that the driver sees the true cause and the
user's own lines, and not the broken connection that the other ranks see a moment later.
"""

from __future__ import annotations

import contextlib
import gc
import inspect
import os
import sys
import sysconfig
import tempfile
import threading
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

from heliostat._cluster import train_calls
from heliostat.modeling.distributors.pytorch import _process_group as group
from heliostat.modeling.distributors.pytorch._frames import frames_of, is_lost_peer
from heliostat.modeling.distributors.pytorch._job import End, Outcome, Pulse
from heliostat.modeling.distributors.pytorch._logs import RankLog
from heliostat.modeling.distributors.pytorch._own_cpus import on_own_cpus
from heliostat.modeling.distributors.pytorch._rank_state import RankState, ResizeRequestedError
from heliostat.modeling.distributors.pytorch._rows import RankRows
from heliostat.modeling.distributors.pytorch.context import Context, set_context

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from heliostat.modeling._workers import WorkerContext
    from heliostat.modeling.distributors.pytorch._job import Job

_PULSE_S = 0.5


def train_on_rank(worker: WorkerContext, job: Job) -> Outcome:
    """Run one rank. Called on the main thread of a worker, which may have run others before."""
    log = RankLog(job.log_path, worker.send)
    with log.captured():
        try:
            with _surroundings(job):
                _train(worker, job, log)
            return Outcome(End.RETURNED, time.time())
        except ResizeRequestedError:
            return Outcome(End.RESIZE, time.time())
        except KeyboardInterrupt:
            return Outcome(End.INTERRUPTED, time.time())
        except BaseException as error:
            return _raised(error)


def _train(worker: WorkerContext, job: Job, log: RankLog) -> None:
    store, variables = group.meet(worker, job)
    os.environ.update(variables)
    device = group.share_devices(worker, job)
    with contextlib.ExitStack() as entered:
        entered.enter_context(_threads(job.cpus))
        entered.enter_context(group.process_group(job, device))
        # After the group is up: its threads, which only pass on what comes, run where there is room.
        entered.enter_context(on_own_cpus(job))
        state = RankState(worker, job, _scratch(job))
        entered.callback(state.close)
        entered.enter_context(_context(state))
        entered.enter_context(train_calls.answered(_Answers(worker, state)))
        entered.enter_context(_pulse(worker, state, log))
        _call(job)
        worker.gather(None)  # nobody drops the group while another one computes
        state.publish_model()
    del store


def _call(job: Job) -> None:
    from ray import cloudpickle

    function = cloudpickle.loads(job.function)
    with _as_main(function):
        if _takes_config(function):
            function(dict(job.hyper_params or {}))
        else:
            function()


def _takes_config(function: Callable[..., Any]) -> bool:
    """Whether ``train_func`` has one argument without a default, as Ray Train's may."""
    try:
        parameters = inspect.signature(function).parameters.values()
    except (TypeError, ValueError):
        return False
    positional = (inspect.Parameter.POSITIONAL_ONLY, inspect.Parameter.POSITIONAL_OR_KEYWORD)
    return any(p.default is p.empty and p.kind in positional for p in parameters)


@contextlib.contextmanager
def _as_main(function: Any) -> Iterator[None]:
    """Let the notebook's classes be found in ``__main__``, where ``torch.save`` looks for them."""
    main = sys.modules["__main__"].__dict__
    given = getattr(function, "__globals__", {})
    own = {
        name: value
        for name, value in given.items()
        if getattr(value, "__module__", None) == "__main__" and not name.startswith("__")
    }
    former = {name: main[name] for name in own if name in main}
    main.update(own)
    try:
        yield
    finally:
        for name in own:
            main.pop(name, None)
        main.update(former)


@contextlib.contextmanager
def _surroundings(job: Job) -> Iterator[None]:
    """Variables, directory and path of the driver; at the end all as it was.

    Modules from beside the notebook are forgotten: the next training reads what is then on disk.
    """
    variables, path, directory, modules = dict(os.environ), list(sys.path), Path.cwd(), set(sys.modules)
    sys.path[:] = [*job.paths, *(entry for entry in path if entry not in job.paths)]
    with contextlib.suppress(OSError):
        os.chdir(job.directory)
    try:
        yield
    finally:
        for name in set(sys.modules) - modules:
            if _is_local(sys.modules.get(name), job.directory):
                del sys.modules[name]
        os.chdir(directory)
        sys.path[:] = path
        os.environ.clear()
        os.environ.update(variables)
        gc.collect()


def _is_local(module: Any, directory: str) -> bool:
    file = getattr(module, "__file__", None) or ""
    return file.startswith(directory.rstrip("/") + "/") and not file.startswith(
        (sysconfig.get_path("purelib"), sysconfig.get_path("platlib"))
    )


@contextlib.contextmanager
def _threads(count: int) -> Iterator[None]:
    """Use as many threads as the rank has CPUs, whatever the process was started for."""
    import torch

    former = torch.get_num_threads()
    if count:
        os.environ["OMP_NUM_THREADS"] = str(count)
        torch.set_num_threads(count)
    try:
        yield
    finally:
        torch.set_num_threads(former)


@contextlib.contextmanager
def _context(state: RankState) -> Iterator[None]:
    set_context(Context(state))
    try:
        yield
    finally:
        set_context(None)


@contextlib.contextmanager
def _pulse(worker: WorkerContext, state: RankState, log: RankLog) -> Iterator[None]:
    """Tell twice a second what was done: the steps of every optimizer are counted."""
    from torch.optim.optimizer import register_optimizer_step_post_hook

    counter = _Steps()
    stop = threading.Event()

    def tell() -> None:
        activity = counter.steps + state.reports + log.printed
        worker.send(Pulse(activity, counter.steps, counter.seconds, state.rows, _resident_bytes()))

    def beat() -> None:
        while not stop.wait(_PULSE_S):
            tell()

    thread = threading.Thread(target=beat, name="heliostat-pulse", daemon=True)
    hook = register_optimizer_step_post_hook(counter)
    thread.start()
    try:
        yield
    finally:
        hook.remove()
        stop.set()
        thread.join()
        tell()


class _Steps:
    """Counts and times steps; called by torch after each."""

    def __init__(self) -> None:
        self.steps = 0
        self.seconds: float | None = None
        self._last: float | None = None

    def __call__(self, *_: Any) -> None:
        now = time.perf_counter()
        if self._last is not None:
            took = now - self._last
            self.seconds = took if self.seconds is None else 0.9 * self.seconds + 0.1 * took
        self._last = now
        self.steps += 1


class _Answers:
    """What ``ray.train`` asks."""

    def __init__(self, worker: WorkerContext, state: RankState) -> None:
        self._worker, self._state = worker, state

    @property
    def facts(self) -> dict[str, Any]:
        position = self._state.position
        return {
            "experiment_name": self._state.job.request_id,
            "world_size": position.size,
            "world_rank": position.rank,
            "local_rank": position.local_rank,
            "local_world_size": position.local_size,
            "node_rank": position.node_rank,
        }

    def report(
        self, metrics: Any, source: tuple[Any, str] | None, name: str | None, *, consume: bool
    ) -> None:
        self._state.report_from(metrics, source, name, consume=consume)

    def next_name(self) -> str:
        return self._state.next_name()

    def checkpoint(self) -> tuple[Any, str] | None:
        latest = self._state.latest_checkpoint
        return None if latest is None else (latest.filesystem, latest.path)

    def reported(self) -> list[tuple[tuple[Any, str], Any]]:
        return [((at.filesystem, at.path), metrics) for at, metrics in self._state.reported]

    def shard(self, name: str | None) -> Any:
        rows = self._state.dataset_shard(name)
        return None if rows is None else RankRows(rows)

    def barrier(self) -> None:
        self._worker.gather(None)

    def broadcast(self, value: Any) -> Any:
        return self._worker.gather(value if self._state.position.rank == 0 else None)[0]


def _raised(error: BaseException) -> Outcome:
    from ray import cloudpickle

    frames = frames_of(error.__traceback__, __file__)
    summary = f"{type(error).__name__}: {error}"
    lost = is_lost_peer(error, frames)
    if isinstance(error, SystemExit):
        error = RuntimeError(f"it called sys.exit({error.code!r})")
        summary = str(error)
    try:
        # Traces hold the frames of the training, and with them its tensors.
        pickled = cloudpickle.dumps(error.with_traceback(None))
        cloudpickle.loads(pickled)
    except Exception:
        pickled = None
    return Outcome(End.RAISED, time.time(), pickled, summary, frames, lost)


def _scratch(job: Job) -> Path:
    """A directory that the ranks of one node share."""
    name = f"heliostat-torch-{os.getuid()}-{job.request_id}"
    path = Path(tempfile.gettempdir()) / name
    path.mkdir(mode=0o700, exist_ok=True)
    return path


def _resident_bytes() -> int | None:
    with contextlib.suppress(OSError, ValueError, IndexError):
        return int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")
    return None
