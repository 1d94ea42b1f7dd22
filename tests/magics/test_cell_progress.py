"""Long work in its cell: nothing for short work, a bar and a plot for long, one display that changes."""

from __future__ import annotations

import re
import time
from typing import TYPE_CHECKING, Any

from tests.kernel.support import Place, StartedKernel, new_manager

from heliostat._progress import TaskSnapshot, TaskState
from heliostat_magics._task_view import History, TaskView

if TYPE_CHECKING:
    from tests.magics.support import Cells

WORK = """
import time
from heliostat import _progress
with _progress.task("test", "a fit", total=8, unit="rounds") as task:
    for done in range(1, 9):
        time.sleep({pause})
        task.update(done=done, metrics={{"rmse": 1 / done}})
"""


def snapshot(done: float, **changes: object) -> TaskSnapshot:
    """A task that is at ``done`` of 50."""
    given = {"total": 50, "metrics": {"rmse": 1 / done}, "done": done} | changes
    return TaskSnapshot("t", "xgboost", "a <fit>", "rounds", TaskState.RUNNING, 100.0, 110.0, **given)  # type: ignore[arg-type]


def test_a_picture_says_how_far_it_is_and_escapes_names() -> None:
    """Text and HTML tell done, total, time left and metrics; the plot has every metric."""
    history = History()
    for done in range(1, 1001):
        history.add(snapshot(done, metrics={"rmse": 1 / done, "bad": float("nan")}))
    points = history.points()
    assert list(points) == ["rmse"]
    assert len(points["rmse"]) <= 200
    assert (points["rmse"][0][0], points["rmse"][-1][0]) == (1, 1000)
    view = TaskView(snapshot(25), points, 110.0)
    assert view.line == "a <fit>: 25 of 50 rounds, rmse 0.04, 10.0 s, about 10.0 s left"
    html = view._repr_html_()
    assert "a &lt;fit&gt;" in html
    assert 'aria-label="50 percent"' in html
    assert "<polyline" in html
    assert "<fit>" not in html


def test_curves_of_one_kind_share_a_scale() -> None:
    """The same metric of two sets is drawn on one scale, whose ends are told; another has its own."""
    history = History()
    for done in (1, 2):
        history.add(snapshot(done, metrics={"train-rmse": 4.0 - 2 * done, "eval-rmse": 4.0}))
    html = TaskView(snapshot(2), history.points(), 110.0)._repr_html_()
    assert re.findall(r'points="([^"]*)"', html) == ["4.0,50.0 356.0,96.0", "4.0,4.0 356.0,4.0"]
    assert re.findall(r">([\d.]+)</text>", html) == ["4", "0"]
    for done in (1, 2):
        history.add(snapshot(done, metrics={"lr": float(done), "epoch": float(done)}))
    html = TaskView(snapshot(2, metrics={"lr": 2.0, "epoch": 2.0}), history.points(), 110.0)._repr_html_()
    assert html.count("<polyline") == 3
    assert "4.0,96.0 356.0,4.0" in html
    assert "epoch 2" in html
    assert "<text" not in html


def test_a_terminal_gets_lines(cells: Cells) -> None:
    """Where there is no kernel, long work prints lines, and short work nothing."""
    assert "a fit" not in cells.run(WORK.format(pause=0.001)).stdout
    said = cells.run(WORK.format(pause=0.15)).stdout
    assert "a fit: 7 of 8 rounds, rmse 0.1429" in said
    assert said.splitlines()[-1].endswith("done")


def test_a_kernel_gets_one_display_that_changes() -> None:
    """In a kernel the picture is updated in place, and the button goes when the work has ended."""
    place = Place()
    kernel = StartedKernel(new_manager(place), place.environment(), place.path)
    try:
        messages: list[dict[str, Any]] = []
        kernel.client.execute_interactive(
            WORK.format(pause=0.25), timeout=60, output_hook=messages.append, allow_stdin=False
        )
        kinds = [message["msg_type"] for message in messages]
        shown = [m["content"] for m in messages if m["msg_type"] == "display_data"]
        pictures = [content for content in shown if "a fit" in content["data"]["text/plain"]]
        assert len(pictures) == 1
        assert "text/html" in pictures[0]["data"]
        changed = [m["content"] for m in messages if m["msg_type"] == "update_display_data"]
        picture = pictures[0]["transient"]
        updates = [content for content in changed if content["transient"] == picture]
        assert 1 <= len(updates) <= 6
        buttons = [content["data"]["text/plain"] for content in changed if content["transient"] != picture]
        assert buttons == [""]
        assert updates[-1]["data"]["text/plain"].endswith("done")
        assert "<polyline" in updates[-1]["data"]["text/html"]
        assert "comm_close" in kinds
        begun = time.monotonic()
        assert kernel.run("%jobs").text.count("a fit") == 1
        assert time.monotonic() - begun < 10
    finally:
        kernel.end()
        place.remove()
