"""Long work in the cell that does it: a bar, the metrics as a plot, and a button that cancels.

In a kernel that is one display that is updated; in a terminal, lines of text. Nothing is shown of
work that ends within a second, or within what it says itself. Nothing here can end or delay the
work: it is told on the thread that works, and draws at most a few times a second.
"""

from __future__ import annotations

import contextlib
import importlib.util
import time
from typing import TYPE_CHECKING, Any

from heliostat import _progress as progress

if TYPE_CHECKING:
    from collections.abc import Callable

    from IPython.core.interactiveshell import InteractiveShell

    from heliostat._progress import Task

__all__ = ["CellProgress"]

_SECONDS_BETWEEN = {True: 0.4, False: 5.0}
"""Between two pictures, in a kernel and in a terminal."""
_MOST_AT_ONCE = 20


class CellProgress:
    """Shows the tasks of one shell, from ``start`` to ``stop``."""

    def __init__(self, shell: InteractiveShell) -> None:
        self._rich = getattr(shell, "kernel", None) is not None
        self._shown: dict[str, _Shown] = {}
        self._unsubscribe: Callable[[], None] | None = None

    def start(self) -> None:
        """Listen to all work of this process; doing so twice is doing so once."""
        if self._unsubscribe is None:
            self._unsubscribe = progress.subscribe(self._on_change)

    def stop(self) -> None:
        """Listen no more."""
        if self._unsubscribe is not None:
            self._unsubscribe()
            self._unsubscribe = None

    def _on_change(self, task: Task) -> None:
        key = task.snapshot.task_id
        shown = self._shown.get(key)
        if shown is None:
            if task.snapshot.state.finished or len(self._shown) >= _MOST_AT_ONCE:
                return
            shown = self._shown[key] = _Shown(task, rich=self._rich)
        shown.take()
        if task.snapshot.state.finished:
            del self._shown[key]


class _Shown:
    """One task and its place in the output."""

    def __init__(self, task: Task, *, rich: bool) -> None:
        self._task, self._rich = task, rich
        # Not before there is long work: a module that is imported costs the first cell time.
        from heliostat_magics._task_view import History

        self._history = History()
        self._drawn_at: float | None = None
        self._handle: Any = None
        self._button: Any = None
        self._place: Any = None

    def take(self) -> None:
        snapshot = self._task.snapshot
        self._history.add(snapshot)
        now = time.time()
        if snapshot.state.finished:
            if self._drawn_at is not None:
                self._draw()
                self._close_button()
        elif self._drawn_at is None:
            unseen = self._task.shown_after
            if unseen is not None and now - snapshot.started_at >= unseen:
                self._draw()
        elif now - self._drawn_at >= _SECONDS_BETWEEN[self._rich]:
            self._draw()

    def _draw(self) -> None:
        from heliostat_magics._task_view import TaskView

        view = TaskView(self._task.snapshot, self._history.points(), time.time())
        first, self._drawn_at = self._drawn_at is None, time.time()
        if not self._rich:
            print(view.line, flush=True)
            return
        if first:
            from IPython.display import display

            self._handle = display(view, display_id=True)
            self._show_button()
        elif self._handle is not None:
            self._handle.update(view)

    def _show_button(self) -> None:
        """Offer to cancel. A click arrives while the cell runs where comms have a thread of their own."""
        if importlib.util.find_spec("ipywidgets") is None:
            return
        with contextlib.suppress(Exception):
            import ipywidgets  # type: ignore[import-untyped]
            from IPython.display import display

            button = ipywidgets.Button(description="Cancel", layout=ipywidgets.Layout(width="80px"))
            button.on_click(lambda _: self._task.cancel())
            self._place = display(button, display_id=True)
            self._button = button
            # ipykernel 7.4 sends a click to the shell that opened the widget, which runs the cell;
            # without this it goes where the page addressed it to.
            vars(button.comm).pop("_reply_subshell_id", None)

    def _close_button(self) -> None:
        button, self._button = self._button, None
        if button is not None:
            with contextlib.suppress(Exception):
                button.close()
                # A notebook that is saved shall not keep a button that does nothing.
                self._place.update({"text/plain": ""}, raw=True)
