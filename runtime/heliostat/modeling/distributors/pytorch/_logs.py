"""What a rank prints: into a file of its own, and from there to the driver.

The file is the rank's standard output and error themselves, so it also has what libraries in C
and child processes print, and the last words of a process that crashes.
"""

from __future__ import annotations

import contextlib
import os
import sys
import tempfile
import threading
from pathlib import Path
from typing import TYPE_CHECKING

from heliostat.modeling.distributors.pytorch._job import Printed

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

_INTERVAL_S = 0.2
_MOST_BYTES = 1 << 18


class RankLog:
    """The output of this process, while ``captured``."""

    def __init__(self, path: str, tell: Callable[[Printed], None]) -> None:
        # The driver makes the file: where it is there, driver and rank share a disk.
        self._stored = Path(path).exists()
        self._path = path if self._stored else tempfile.mkstemp(prefix="heliostat-rank-")[1]
        self._tell = tell
        self._offset = self.printed
        self._lock = threading.Lock()

    @property
    def printed(self) -> int:
        """Bytes that were written so far."""
        return Path(self._path).stat().st_size

    def forward(self) -> None:
        """Tell the driver what is new."""
        with self._lock, contextlib.suppress(OSError), Path(self._path).open("rb") as file:
            file.seek(self._offset)
            while data := file.read(_MOST_BYTES):
                self._offset += len(data)
                self._tell(Printed(data, self._stored))

    @contextlib.contextmanager
    def captured(self) -> Iterator[None]:
        """Send standard output and error to the file for the length of the block."""
        _flush()
        kept = [os.dup(1), os.dup(2)]
        target = os.open(self._path, os.O_WRONLY | os.O_APPEND)
        stop = threading.Event()
        follower = threading.Thread(target=self._follow, args=(stop,), name="heliostat-log", daemon=True)
        try:
            os.dup2(target, 1)
            os.dup2(target, 2)
            follower.start()
            yield
        finally:
            _flush()
            os.dup2(kept[0], 1)
            os.dup2(kept[1], 2)
            for descriptor in (*kept, target):
                os.close(descriptor)
            stop.set()
            follower.join()
            self.forward()
            if not self._stored:
                Path(self._path).unlink(missing_ok=True)

    def _follow(self, stop: threading.Event) -> None:
        while not stop.wait(_INTERVAL_S):
            self.forward()


def _flush() -> None:
    for stream in (sys.stdout, sys.stderr):
        with contextlib.suppress(Exception):
            stream.flush()
