"""The one channel on which long work says how far it is, and hears that it shall stop.

Whoever does long work opens a task and keeps it up to date; whoever shows it (a notebook cell, the
supervisor's list of work, a log) subscribes. Neither knows the other::

    with progress.task("xgboost", "XGBEstimator.fit", total=50, unit="rounds") as task:
        for round in range(50):
            task.check()
            task.update(done=round + 1, metrics={"train-rmse": 0.5})

Any thread may call anything here. Listeners run on the thread that updates, so they return at once.
"""

from __future__ import annotations

import contextlib
import os
import threading
import time
import uuid
from dataclasses import dataclass, field, replace
from enum import StrEnum
from typing import TYPE_CHECKING

from heliostat.exceptions import TaskCancelledError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence

__all__ = [
    "SUPERVISOR_VARIABLE",
    "Task",
    "TaskSnapshot",
    "TaskState",
    "WorkerSnapshot",
    "subscribe",
    "task",
    "tasks",
]

SUPERVISOR_VARIABLE = "HELIOSTAT_SUPERVISOR"
"""Set by the owner of a runtime for the scripts that it starts: its supervisor's socket."""
_KEPT = 50
SHOWN_AFTER = 1.0
"""Seconds after which the cell of a task shows a bar, unless the task says otherwise."""
"""Tasks that are remembered; the oldest finished ones go first."""


class TaskState(StrEnum):
    """What became of a task."""

    RUNNING = "running"
    DONE = "done"
    FAILED = "failed"
    CANCELLED = "cancelled"

    @property
    def finished(self) -> bool:
        """Whether nothing more will happen."""
        return self is not TaskState.RUNNING


@dataclass(frozen=True)
class WorkerSnapshot:
    """One process that works for a task. ``None``: not known."""

    rank: int
    pid: int | None = None
    node: str | None = None
    rows: int | None = None
    memory_bytes: int | None = None
    message: str = ""


@dataclass(frozen=True)
class TaskSnapshot:
    """A task at one moment. Times are Unix seconds; ``done`` and ``total`` count ``unit``."""

    task_id: str
    kind: str
    name: str
    unit: str
    state: TaskState
    started_at: float
    updated_at: float
    ended_at: float | None = None
    done: float = 0.0
    total: float | None = None
    metrics: Mapping[str, float] = field(default_factory=dict)
    """The latest value of each metric."""
    workers: Sequence[WorkerSnapshot] = ()
    message: str = ""
    log_path: str | None = None


_lock = threading.RLock()
_tasks: dict[str, Task] = {}
_listeners: list[Callable[[Task], None]] = []
_starter_asked = False


class Task:
    """Work that is under way, for the one who does it. Made by :func:`task`."""

    def __init__(self, snapshot: TaskSnapshot, shown_after: float | None = SHOWN_AFTER) -> None:
        self._snapshot = snapshot
        self.shown_after = shown_after
        """After how many seconds its cell shows a bar; ``None``: never."""
        self._cancelled = threading.Event()
        self._callbacks: list[Callable[[], None]] = []

    @property
    def snapshot(self) -> TaskSnapshot:
        """The task as it stands."""
        return self._snapshot

    @property
    def cancelled(self) -> bool:
        """Whether somebody asked for the task to stop."""
        return self._cancelled.is_set()

    def check(self) -> None:
        """Raise TaskCancelledError if somebody asked for the task to stop."""
        if self.cancelled:
            message = f"{self._snapshot.name} was cancelled."
            raise TaskCancelledError(message, task_id=self._snapshot.task_id)

    def cancel(self) -> None:
        """Ask for the task to stop; returns at once. Nothing happens to one that has ended."""
        with _lock:
            if self._snapshot.state.finished or self.cancelled:
                return
            self._cancelled.set()
            callbacks = list(self._callbacks)
        for callback in callbacks:
            callback()

    def on_cancel(self, callback: Callable[[], None]) -> None:
        """Have ``callback`` called, on the thread that cancels, when the task shall stop."""
        with _lock:
            self._callbacks.append(callback)
            already = self.cancelled
        if already:
            callback()

    def update(
        self,
        *,
        done: float | None = None,
        total: float | None = None,
        metrics: Mapping[str, float] | None = None,
        workers: Sequence[WorkerSnapshot] | None = None,
        message: str | None = None,
        log_path: str | None = None,
    ) -> None:
        """Say what is new; what is not given stays as it was."""
        news = {"done": done, "total": total, "workers": workers, "message": message, "log_path": log_path}
        given = {name: value for name, value in news.items() if value is not None}
        with _lock:
            merged = {**self._snapshot.metrics, **(metrics or {})}
            self._set(metrics=merged, **given)

    def _finish(self, state: TaskState, message: str | None = None) -> None:
        with _lock:
            said = {} if message is None else {"message": message}
            self._set(state=state, ended_at=time.time(), **said)
            _forget_oldest()

    def _set(self, **changes: object) -> None:
        self._snapshot = replace(self._snapshot, updated_at=time.time(), **changes)  # type: ignore[arg-type]
        for listener in (*_listeners,):  # one may leave while it listens
            # Whoever shows progress must never end the work.
            with contextlib.suppress(Exception):
                listener(self)


@contextlib.contextmanager
def task(
    kind: str,
    name: str,
    *,
    total: float | None = None,
    unit: str = "",
    shown_after: float | None = SHOWN_AFTER,
) -> Iterator[Task]:
    """Open a task for the length of a ``with`` block.

    Parameters
    ----------
    kind:
        What sort of work it is, such as ``"xgboost"`` or ``"query"``.
    name:
        What the user calls it.
    total, unit:
        How much there is to do, counted in ``unit`` (``"rounds"``); ``None``: not known.
    shown_after:
        After how many seconds the cell shows a bar; ``None``: never.
    """
    _report_to_starter()
    now = time.time()
    made = Task(
        TaskSnapshot(uuid.uuid4().hex[:12], kind, name, unit, TaskState.RUNNING, now, now, total=total),
        shown_after,
    )
    with _lock:
        _tasks[made.snapshot.task_id] = made
        made.update()
    try:
        yield made
    except (TaskCancelledError, KeyboardInterrupt):
        made._finish(TaskState.CANCELLED)
        raise
    except BaseException as error:
        made._finish(TaskState.FAILED, str(error))
        raise
    else:
        made._finish(TaskState.DONE)


def tasks() -> list[Task]:
    """Tasks of this process, oldest first; of the finished ones the latest are kept."""
    with _lock:
        return list(_tasks.values())


def subscribe(listener: Callable[[Task], None]) -> Callable[[], None]:
    """Call ``listener`` with every task that changes, until the function that is returned is called."""
    with _lock:
        _listeners.append(listener)

    def unsubscribe() -> None:
        with _lock, contextlib.suppress(ValueError):
            _listeners.remove(listener)

    return unsubscribe


def _report_to_starter() -> None:
    """Have the notebook that started this script, if one did, see what it does."""
    global _starter_asked  # noqa: PLW0603 - once a process
    if not _starter_asked and SUPERVISOR_VARIABLE in os.environ:
        _starter_asked = True
        from heliostat._work_reporter import report_to_starter

        report_to_starter()


def _forget_oldest() -> None:
    finished = [key for key, kept in _tasks.items() if kept.snapshot.state.finished]
    for key in finished[: max(len(_tasks) - _KEPT, 0)]:
        del _tasks[key]
