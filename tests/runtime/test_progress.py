"""The progress channel: what is told, to whom, and how work hears that it shall stop."""

from __future__ import annotations

import pytest

from heliostat import _progress as progress
from heliostat._progress import Task, TaskState
from heliostat.exceptions import TaskCancelledError


def test_listeners_see_each_change_until_they_leave() -> None:
    """Every update reaches a subscriber with what was given before kept."""
    seen: list[tuple[float, dict[str, float], str]] = []

    def listen(task: Task) -> None:
        seen.append((task.snapshot.done, dict(task.snapshot.metrics), task.snapshot.state))

    unsubscribe = progress.subscribe(listen)
    with progress.task("test", "counting", total=2, unit="steps") as task:
        task.update(done=1, metrics={"loss": 0.5})
        task.update(done=2, metrics={"accuracy": 0.9})
        unsubscribe()
        task.update(done=3)
    both = {"loss": 0.5, "accuracy": 0.9}
    assert seen == [(0, {}, "running"), (1, {"loss": 0.5}, "running"), (2, both, "running")]
    assert task.snapshot.state is TaskState.DONE
    assert task.snapshot.ended_at is not None


def test_a_listener_that_fails_does_not_end_the_work() -> None:
    """An error of whoever shows progress stays there."""

    def fail(task: Task) -> None:
        raise ValueError(task)

    unsubscribe = progress.subscribe(fail)
    with progress.task("test", "counting") as task:
        task.update(done=1)
    unsubscribe()
    assert task.snapshot.state is TaskState.DONE


def test_cancelled_work_hears_of_it() -> None:
    """``cancel`` calls back once, ``check`` raises, and the task ends as cancelled."""
    heard: list[str] = []

    def work() -> None:
        with progress.task("test", "counting") as task:
            begun.append(task)
            task.check()
            task.on_cancel(lambda: heard.append("first"))
            task.cancel()
            task.cancel()
            task.on_cancel(lambda: heard.append("late"))
            task.check()

    begun: list[Task] = []
    with pytest.raises(TaskCancelledError, match="counting was cancelled") as caught:
        work()
    (task,) = begun
    assert heard == ["first", "late"]
    assert task.snapshot.state is TaskState.CANCELLED
    assert caught.value.fields == {"task_id": task.snapshot.task_id}


@pytest.mark.parametrize(
    ("error", "state"), [(ValueError("no"), TaskState.FAILED), (KeyboardInterrupt(), TaskState.CANCELLED)]
)
def test_the_state_tells_how_it_ended(error: BaseException, state: TaskState) -> None:
    """An error is a failure, with its text; an interrupt is a cancellation."""
    with pytest.raises(type(error)), progress.task("test", "counting") as task:
        raise error
    assert task.snapshot.state is state
    assert task.snapshot.message == str(error)


def test_only_the_latest_finished_tasks_are_kept() -> None:
    """A task that runs is listed however many have ended since."""
    with progress.task("test", "long") as running:
        for _ in range(60):
            with progress.task("test", "short"):
                pass
        kept = progress.tasks()
        assert running in kept
        assert len(kept) <= 51
