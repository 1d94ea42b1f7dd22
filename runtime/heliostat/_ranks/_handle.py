"""A cell that runs in the background: ask how it is, wait for it, cancel it."""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING, Any

from heliostat._ranks._conduct import Options, conduct
from heliostat._ranks._run import Woken
from heliostat._ranks._screen import cell_header, pinned
from heliostat._ranks._targets import spell
from heliostat.exceptions import TaskCancelledError

if TYPE_CHECKING:
    from heliostat._ranks._group import RankGroup
    from heliostat._ranks._output import Output
    from heliostat._ranks._run import Run

__all__ = ["Handle"]


class Handle:
    """What ``%%distribute --noblock`` returns. Its output stays under the cell that began it."""

    def __init__(self, group: RankGroup, run: Run, options: Options, *, single: bool) -> None:
        self._group, self._run, self._options, self._single = group, run, options, single
        self._output: Output | None = None
        self._error: BaseException | None = None
        self._values: list[Any] = []
        self._header = cell_header()
        self._thread = threading.Thread(target=self._follow, name="heliostat-cell", daemon=True)
        self._thread.start()

    @property
    def status(self) -> str:
        """``running``, ``done``, ``failed`` or ``cancelled``."""
        if self._thread.is_alive():
            return "running"
        if isinstance(self._error, TaskCancelledError):
            return "cancelled"
        return "done" if self._error is None else "failed"

    @property
    def outputs(self) -> list[str]:
        """What each rank wrote so far, in the order of ranks."""
        return [] if self._output is None else self._output.texts

    def cancel(self) -> None:
        """Stop it on all ranks; returns at once. A second call ends those that do not stop."""
        self._run.events.put(Woken("cancelled"))

    def result(self, timeout: float | None = None) -> Any:
        """Wait, then return what the last expression gave: a list by rank, or one value for one rank.

        Raises
        ------
        TimeoutError
            It still runs after ``timeout`` seconds, and goes on.
        RankError, TaskCancelledError
            It failed, or was cancelled.
        """
        self._thread.join(timeout)
        if self._thread.is_alive():
            message = (
                f"the cell still runs after {timeout:g} s" if timeout is not None else "the cell still runs"
            )
            raise TimeoutError(message)
        if self._error is not None:
            raise self._error
        return self._values[0] if self._single else self._values

    def __repr__(self) -> str:
        done = len(self._run.outcomes)
        return f"<cell on {spell(self._run.ranks)}: {self.status}, {done} of {len(self._run.ranks)} done>"

    def _follow(self) -> None:
        with pinned(self._header):
            try:
                conduct(self._group, self._run, self._options, started=self._begun)
                self._values = self._group.objects.results(self._run)
            except BaseException as error:
                self._error = error
                if not isinstance(error, TaskCancelledError):
                    self._tell(error)

    def _begun(self, output: Output) -> None:
        self._output = output

    def _tell(self, error: BaseException) -> None:
        """Say under the cell that it failed; the error itself is raised by :meth:`result`."""
        import sys

        render = getattr(error, "_render_traceback_", None)
        sys.stderr.write("\n".join(render() if render is not None else [repr(error)]) + "\n")
        sys.stderr.flush()
