"""A plain IPython shell whose cells a test can run, in this process."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from IPython.core.completer import provisionalcompleter
from IPython.core.interactiveshell import InteractiveShell
from traitlets.config import Config

import heliostat_magics

if TYPE_CHECKING:
    import pytest


@dataclass(frozen=True)
class Ran:
    """What became of a cell."""

    result: Any
    error: BaseException | None
    stdout: str
    stderr: str


class Cells:
    """Runs cells in a shell that keeps no history."""

    def __init__(self, capsys: pytest.CaptureFixture[str]) -> None:
        self._capsys = capsys
        settings = Config()
        settings.HistoryManager.enabled = False
        settings.InteractiveShell.colors = "nocolor"
        self.shell = InteractiveShell(config=settings)

    def load(self) -> str:
        """Load the extension and return what it says."""
        heliostat_magics.load_ipython_extension(self.shell)
        return self._capsys.readouterr().err

    def close(self) -> None:
        """Unload the extension."""
        heliostat_magics.unload_ipython_extension(self.shell)

    def run(self, code: str) -> Ran:
        """Run a cell."""
        self._capsys.readouterr()
        done = self.shell.run_cell(code)
        out, err = self._capsys.readouterr()
        return Ran(done.result, done.error_in_exec or done.error_before_exec, out, err)

    def complete(self, text: str) -> list[str]:
        """What Tab offers at the end of ``text``."""
        with provisionalcompleter():
            return [found.text for found in self.shell.Completer.completions(text, len(text))]
