"""Forward the progress of this process's work to its supervisor, and hear what shall stop.

One thread for each runtime, started with its first task. It never holds up the work: a task that
changes is only marked, and what the thread cannot deliver is told with the next report.
"""

from __future__ import annotations

import contextlib
import threading
from typing import TYPE_CHECKING

from heliostat import _progress
from heliostat._messages import Work, WorkReport, WorkState, WorkWorker
from heliostat.exceptions import HeliostatError

if TYPE_CHECKING:
    from collections.abc import Callable

    from heliostat._client import SupervisorClient
    from heliostat._progress import Task

_SECONDS_BETWEEN_REPORTS = 0.25
"""So soon is news told, and so soon is a wish to cancel heard while something runs."""


class WorkReporter:
    """Reports until it is closed."""

    def __init__(self, client: SupervisorClient, current_cell: Callable[[], str | None]) -> None:
        self._client, self._current_cell = client, current_cell
        self._changed: dict[str, Task] = {}
        self._running: dict[str, Task] = {}
        self._cells: dict[str, str | None] = {}
        self._news = threading.Event()
        self._closed = False
        self._lock = threading.Lock()
        self._thread: threading.Thread | None = None
        self._unsubscribe = _progress.subscribe(self._on_change)

    def close(self) -> None:
        """Stop listening; what was not told yet stays untold."""
        self._unsubscribe()
        self._closed = True
        self._news.set()

    def _on_change(self, task: Task) -> None:
        task_id = task.snapshot.task_id
        with self._lock:
            self._changed[task_id] = task
            self._cells.setdefault(task_id, self._current_cell())
            if self._thread is None and not self._closed:
                self._thread = threading.Thread(target=self._run, name="heliostat-work", daemon=True)
                self._thread.start()
        self._news.set()

    def _run(self) -> None:
        pause = threading.Event()
        while not self._closed:
            # While something runs, a report without news asks whether it shall stop.
            self._news.wait(_SECONDS_BETWEEN_REPORTS if self._running else None)
            self._news.clear()
            with self._lock:
                tasks, self._changed = self._changed, {}
            if tasks or self._running:
                self._report(tasks)
            pause.wait(_SECONDS_BETWEEN_REPORTS)

    def _report(self, tasks: dict[str, Task]) -> None:
        report = WorkReport(work=[_message(task, self._cells[key]) for key, task in tasks.items()])
        try:
            orders = self._client.report_work(report)
        except HeliostatError:
            with self._lock:
                self._changed = {**tasks, **self._changed}
            return
        known = {**self._running, **tasks}
        for task_id in orders.cancel:
            if task_id in known:
                with contextlib.suppress(Exception):
                    known[task_id].cancel()
        self._running = {key: task for key, task in known.items() if not task.snapshot.state.finished}


def _message(task: Task, cell_id: str | None) -> Work:
    snapshot = task.snapshot
    return Work(
        task_id=snapshot.task_id,
        kind=snapshot.kind,
        name=snapshot.name,
        unit=snapshot.unit,
        state=WorkState(snapshot.state.value),
        started_at=snapshot.started_at,
        updated_at=snapshot.updated_at,
        ended_at=snapshot.ended_at,
        done=float(snapshot.done),
        total=None if snapshot.total is None else float(snapshot.total),
        metrics={name: float(value) for name, value in snapshot.metrics.items()},
        workers=[
            WorkWorker(
                rank=worker.rank,
                pid=worker.pid,
                node=worker.node,
                rows=worker.rows,
                memory_bytes=worker.memory_bytes,
                message=worker.message,
            )
            for worker in snapshot.workers
        ],
        message=snapshot.message,
        log_path=snapshot.log_path,
        cell_id=cell_id,
    )
