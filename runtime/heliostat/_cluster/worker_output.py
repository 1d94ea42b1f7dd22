"""Show in the owner what its tasks and actors print, without Ray's log monitor.

Ray's workers write their output to files, and Ray's own reader of these files is a process of
100 MB that sends it through the GCS. The owner is on the same machine, so one thread here reads
the files itself, four times a second, and prints each line with the name of its task or actor.
Off the main thread a kernel shows output under the latest cell.
"""

from __future__ import annotations

import atexit
import re
import sys
import threading
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

_INTERVAL_SECONDS = 0.25
_MOST_BYTES = 1 << 20
"""Read at once from one file; a flood is spread over several rounds."""
_MARK = re.compile(r"^:(?P<kind>job_id|actor_name|task_name):(?P<value>.*)$")
_FILE = re.compile(r"^worker-[0-9a-f]+-(?P<job>[0-9a-f]+)-(?P<pid>\d+)\.(?P<stream>out|err)$")
_ANY_JOB = "ffffffff"
"""In the name of the file of a worker that was started ahead; marks in it tell whose it became."""


@dataclass
class _File:
    """How far one file has been read, and whose output it is now."""

    path: Path
    pid: str
    stream: str
    job: str
    offset: int = 0
    rest: bytes = b""
    name: str = ""

    def new_lines(self, job_id: str) -> Iterator[str]:
        """Read what this job added since the last time, whole lines only, marks taken out."""
        if self.path.stat().st_size == self.offset:
            return
        with self.path.open("rb") as file:
            file.seek(self.offset)
            added = file.read(_MOST_BYTES)
        self.offset += len(added)
        *lines, self.rest = (self.rest + added).split(b"\n")
        yield from self._shown(lines, job_id)

    def last_line(self, job_id: str) -> Iterator[str]:
        """Give up what was read and has no end of line yet."""
        rest, self.rest = self.rest, b""
        yield from self._shown([rest] if rest else [], job_id)

    def _shown(self, lines: list[bytes], job_id: str) -> Iterator[str]:
        for line in (raw.decode(errors="replace") for raw in lines):
            mark = _MARK.match(line)
            if mark is None and self.job == job_id:
                yield f"({self.name} pid={self.pid}) {line}" if self.name else f"(pid={self.pid}) {line}"
            elif mark is not None and mark["kind"] == "job_id":
                self.job = mark["value"]
            elif mark is not None:
                self.name = mark["value"]


class WorkerOutput:
    """Follows the output of one job's workers until it is stopped."""

    def __init__(self, logs: Path, job_id: str) -> None:
        self._logs, self.job_id = logs, job_id
        self._files: dict[str, _File] = {}
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, name="heliostat-output", daemon=True)

    def start(self) -> None:
        """Begin to print; the end of the process is waited for with what is left."""
        atexit.register(self.stop)
        self._thread.start()

    def stop(self) -> None:
        """Print what is left and end."""
        atexit.unregister(self.stop)
        self._stop.set()
        if self._thread is not threading.current_thread():
            self._thread.join(2.0)

    def _run(self) -> None:
        while not self._stop.wait(_INTERVAL_SECONDS):
            self._round()
        self._round()
        for file in self._files.values():
            self._print(file.last_line(self.job_id), file.stream)

    def _round(self) -> None:
        try:
            names = [entry.name for entry in self._logs.iterdir()]
        except OSError:
            return
        for name in names:
            match = _FILE.match(name)
            if match is None or name in self._files or match["job"] not in (self.job_id, _ANY_JOB):
                continue
            self._files[name] = _File(self._logs / name, match["pid"], match["stream"], match["job"])
        for file in self._files.values():
            self._print(file.new_lines(self.job_id), file.stream)

    @staticmethod
    def _print(lines: Iterator[str], stream: str) -> None:
        try:
            text = "".join(f"{line}\n" for line in lines)
        except OSError:
            return
        if text:
            target = sys.stdout if stream == "out" else sys.stderr
            target.write(text)
            target.flush()
