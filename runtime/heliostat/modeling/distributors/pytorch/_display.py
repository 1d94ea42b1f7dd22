"""What ranks print, as the person at the notebook sees it, and where it is kept."""

from __future__ import annotations

import contextlib
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

_MOST_LINES = 2000
"""Lines that are shown; a notebook with many more cannot be scrolled or saved."""


class Display:
    """Shows each line with its rank, and keeps all of them in one log. Used by one thread."""

    def __init__(self, directory: Path, show: Callable[[str], None] = print) -> None:
        self.directory, self._show = directory, show
        self._rest: dict[int, bytes] = {}
        self._lines = 0

    def path(self, rank: int) -> Path:
        """Return the file of a rank's output."""
        return self.directory / f"rank-{rank}.log"

    @property
    def log(self) -> Path:
        """The file of the training: what all ranks print, how far it is, what happens to it."""
        return self.directory / "training.log"

    def prepare(self, size: int) -> None:
        """Make the files of ``size`` ranks, readable by their owner alone."""
        self.directory.mkdir(parents=True, exist_ok=True, mode=0o700)
        for path in (self.log, *(self.path(rank) for rank in range(size))):
            path.touch(mode=0o600)

    def printed(self, rank: int, data: bytes, *, stored: bool) -> None:
        """Take what a rank printed; ``stored``: whether its file has it already."""
        if not stored:
            with self.path(rank).open("ab") as file:
                file.write(data)
        *lines, self._rest[rank] = (self._rest.get(rank, b"") + data).split(b"\n")
        for line in lines:
            self._line(f"[rank {rank}] {line.decode(errors='replace')}")

    def say(self, text: str) -> None:
        """Show a sentence of ours."""
        self.note(text)
        self._show(text)

    def note(self, text: str) -> None:
        """Write a line to the log alone."""
        # A full disk must not end the training.
        with contextlib.suppress(OSError), self.log.open("a") as file:
            file.write(f"{text}\n")

    def finish(self) -> None:
        """Show lines that have no end."""
        for rank, rest in sorted(self._rest.items()):
            if rest:
                self._line(f"[rank {rank}] {rest.decode(errors='replace')}")
        self._rest = {}

    def _line(self, text: str) -> None:
        self.note(text)
        self._lines += 1
        if self._lines <= _MOST_LINES:
            self._show(text)
        elif self._lines == _MOST_LINES + 1:
            self._show(f"(more than {_MOST_LINES} lines: the rest is in {self.directory})")
