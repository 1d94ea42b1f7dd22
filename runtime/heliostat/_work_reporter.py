"""Forward the progress of this process's work to its supervisor, and hear what shall stop.

One thread for each runtime, started with its first task or its first ranks. It never holds up the
work: a task that changes is only marked, and what the thread cannot deliver is told with the next
report.
"""

from __future__ import annotations

import atexit
import contextlib
import os
import threading
from pathlib import Path
from typing import TYPE_CHECKING

from heliostat import _calls as calls
from heliostat import _crew, _progress
from heliostat._messages.work import Rank, Work, WorkReport, WorkState, WorkWorker
from heliostat._progress import SUPERVISOR_VARIABLE
from heliostat.exceptions import HeliostatError

if TYPE_CHECKING:
    from collections.abc import Callable

    from heliostat._client import SupervisorClient
    from heliostat._progress import Task

_SECONDS_BETWEEN_REPORTS = 0.25
"""So soon is news told, and so soon is a wish to cancel heard while something runs."""
_SECONDS_BETWEEN_LOOKS = 1.0
"""So often is looked at ranks that nobody has news of."""


class WorkReporter:
    """Reports until it is closed."""

    def __init__(
        self, client: SupervisorClient, current_cell: Callable[[], str | None], *, by_owner: bool = True
    ) -> None:
        self._client, self._current_cell, self._by_owner = client, current_cell, by_owner
        self._changed: dict[str, Task] = {}
        self._running: dict[str, Task] = {}
        self._cells: dict[str, str | None] = {}
        self._ranks: list[Rank] = []
        self._news = threading.Event()
        self._closed = False
        self._lock = threading.Lock()
        self._thread: threading.Thread | None = None
        self._unsubscribe = (_progress.subscribe(self._on_change), _crew.subscribe(self._on_crew))

    def close(self) -> None:
        """Stop listening; what was not told yet stays untold."""
        for unsubscribe in self._unsubscribe:
            unsubscribe()
        self._closed = True
        self._news.set()

    def flush(self, *, even_without_news: bool = False) -> None:
        """Tell what was not told yet, and do what is asked for in return."""
        with self._lock:
            tasks, self._changed = self._changed, {}
        ranks = _ranks()
        if tasks or even_without_news or ranks != self._ranks or _busy(ranks):
            self._report(tasks, ranks)

    def _on_change(self, task: Task) -> None:
        task_id = task.snapshot.task_id
        with self._lock:
            self._changed[task_id] = task
            self._cells.setdefault(task_id, self._current_cell())
        self._wake()

    def _on_crew(self) -> None:
        self._wake()

    def _wake(self) -> None:
        with self._lock:
            if self._thread is None and not self._closed:
                self._thread = threading.Thread(target=self._run, name="heliostat-work", daemon=True)
                self._thread.start()
        self._news.set()

    def _run(self) -> None:
        pause = threading.Event()
        while not self._closed:
            self._news.wait(self._patience())
            self._news.clear()
            # While something runs, a report without news asks whether it shall stop.
            self.flush(even_without_news=bool(self._running))
            pause.wait(_SECONDS_BETWEEN_REPORTS)

    def _patience(self) -> float | None:
        if self._running or _busy(self._ranks):
            return _SECONDS_BETWEEN_REPORTS
        return None if _crew.crew() is None else _SECONDS_BETWEEN_LOOKS

    def _report(self, tasks: dict[str, Task], ranks: list[Rank]) -> None:
        report = WorkReport(
            work=[_message(task, self._cells[key]) for key, task in tasks.items()],
            ranks=None if ranks == self._ranks else ranks,
            by_owner=self._by_owner,
        )
        try:
            orders = self._client.ask(calls.report_work(report))
        except HeliostatError:
            with self._lock:
                self._changed = {**tasks, **self._changed}
            return
        known = {**self._running, **tasks}
        for task_id in orders.cancel:
            if task_id in known:
                with contextlib.suppress(Exception):
                    known[task_id].cancel()
        crew = _crew.crew()
        for number in orders.stop_ranks:
            if crew is not None:
                with contextlib.suppress(Exception):
                    crew.stop_rank(number)
        self._ranks = ranks
        self._running = {key: task for key, task in known.items() if not task.snapshot.state.finished}


def _ranks() -> list[Rank]:
    crew = _crew.crew()
    if crew is None:
        return []
    return [
        Rank(rank=each.rank, state=each.state, pid=each.pid, node=each.node, doing=each.doing)
        for each in crew.snapshots()
    ]


def _busy(ranks: list[Rank]) -> bool:
    return any(rank.state == "busy" for rank in ranks)


def report_to_starter() -> None:
    """In a script that was started from a notebook: report to the notebook's supervisor.

    A process with a runtime of its own reports to its own.
    """
    from heliostat import _handle
    from heliostat._client import SupervisorClient

    if _handle.current() is None:
        client = SupervisorClient(Path(os.environ[SUPERVISOR_VARIABLE]))
        reporter = WorkReporter(client, lambda: None, by_owner=False)
        atexit.register(reporter.flush)


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
        pid=os.getpid(),
    )
