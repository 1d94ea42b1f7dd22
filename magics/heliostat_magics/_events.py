"""What happens around each cell: the supervisor's accounts, and news of the runtime.

Handlers run inside the user's cell, so they neither block nor raise: a runtime that is gone
costs one sentence on stderr, once.
"""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from IPython.core.interactiveshell import ExecutionInfo, ExecutionResult, InteractiveShell

    from heliostat._runtime import Runtime
    from heliostat.exceptions import HeliostatError
    from heliostat_magics._cell_progress import CellProgress

__all__ = ["CellEvents", "clear_start_error", "start_error"]

_MARK = "_heliostat_cell_events"
_KEPT = 1000
"""Cells of which the first line is remembered: as many as the supervisor has accounts of."""


def start_error(shell: InteractiveShell) -> HeliostatError | None:
    """Why the kernel could not spawn a runtime when it started; ``None`` in foreign kernels."""
    error: HeliostatError | None = getattr(_kernel(shell), "runtime_error", None)
    return error


def clear_start_error(shell: InteractiveShell) -> None:
    """Forget the failure at start, once a later start worked."""
    if start_error(shell) is not None:
        _kernel(shell).runtime_error = None


def _current() -> Runtime | None:
    """Return the runtime of this process, without importing what only a runtime needs.

    Nobody can have started one while the module that starts them is not there, or is being
    imported by the thread that is about to.
    """
    current = getattr(sys.modules.get("heliostat._handle"), "current", None)
    runtime: Runtime | None = current() if current else None
    return runtime


def _share_settings() -> None:
    from heliostat.context import share_settings

    share_settings()


def _kernel(shell: InteractiveShell) -> Any:
    return getattr(shell, "kernel", None)


def _beginning(code: str) -> str:
    """The first line that tells cells apart, behind the magic of the cell."""
    lines = [line.strip() for line in code.splitlines() if line.strip()]
    return " ".join(lines[:2] if lines and lines[0].startswith("%%") else lines[:1])


class CellEvents:
    """Handlers of IPython's ``pre_run_cell`` and ``post_run_cell`` events of one shell."""

    def __init__(self, shell: InteractiveShell) -> None:
        self._shell = shell
        self._running: str | None = None
        self._told: HeliostatError | None = None
        self._progress: CellProgress | None = None
        self.first_lines: dict[str, str] = {}
        """What cells began with, by id; the latest ones."""

    @classmethod
    def of(cls, shell: InteractiveShell) -> CellEvents | None:
        """The handlers that are installed in ``shell``, if any."""
        events: CellEvents | None = getattr(shell, _MARK, None)
        return events

    @classmethod
    def install(cls, shell: InteractiveShell) -> None:
        """Register new handlers with the shell."""
        events = cls(shell)
        shell.events.register("pre_run_cell", events.before)
        shell.events.register("post_run_cell", events.after)
        setattr(shell, _MARK, events)

    def uninstall(self) -> None:
        """Take the handlers back."""
        self._shell.events.unregister("pre_run_cell", self.before)
        self._shell.events.unregister("post_run_cell", self.after)
        delattr(self._shell, _MARK)
        if self._progress is not None:
            self._progress.stop()

    def before(self, info: ExecutionInfo) -> None:
        """Tell news of the runtime, then open the cell's account."""
        self._show_progress()
        self._tell(start_error(self._shell))
        runtime = _current()
        if runtime is None:
            return
        news = runtime.notice()
        if news:
            print(news, file=sys.stderr)
        runtime.let_go_if_dead()
        _share_settings()
        self._running = info.cell_id or f"execution-{self._shell.execution_count}"
        runtime.cell_started(self._running)
        self.first_lines[self._running] = _beginning(info.raw_cell or "")
        if len(self.first_lines) > _KEPT:
            del self.first_lines[next(iter(self.first_lines))]

    def after(self, result: ExecutionResult) -> None:
        """Close the account that :meth:`before` opened, whatever became of the cell."""
        del result
        cell_id, self._running = self._running, None
        runtime = _current()
        if cell_id is not None and runtime is not None:
            runtime.cell_ended(cell_id)

    def _show_progress(self) -> None:
        """Begin to show long work with the first cell: loading the extension imports none of this."""
        if self._progress is None:
            from heliostat_magics._cell_progress import CellProgress

            self._progress = CellProgress(self._shell)
            self._progress.start()

    def _tell(self, error: HeliostatError | None) -> None:
        if error is not None and error is not self._told:
            self._told = error
            print(error, file=sys.stderr)
