"""A uniform shuffle of a table that does not fit into memory, in two passes over the local disk.

The first pass reads the units and writes each row to a bucket that is drawn for it; the second
reads bucket by bucket and permutes it. Memory is bounded by a bucket, and each pass reads and
writes long runs. Processes that read the same epoch share the first pass: one makes it while the
others wait, and the last one to leave removes the files.
"""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import itertools
import os
import shutil
import time
from typing import TYPE_CHECKING, Any

import numpy as np

from heliostat.data._loading._forms import Stored
from heliostat.data._loading._plan import Key, Window, bucket_labels, bucket_windows, permutation
from heliostat.data._loading._pool import in_order
from heliostat.exceptions import ConfigurationError

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from pathlib import Path

    from heliostat.data._loading._forms import Form, Tools, Unit

_PREFIX = "shuffle-"
_RETRY_SECONDS = 0.01


class Buckets:
    """One epoch in a uniform random order.

    Parameters
    ----------
    form:
        Of the blocks.
    tools:
        For reading.
    units:
        What is read.
    key:
        Decides the order.
    rows:
        Rows of a bucket, about.
    directory:
        A private directory with room for the table.
    name:
        Shared by the processes that read the same table in this way.
    """

    def __init__(
        self,
        form: Form,
        *,
        tools: Tools,
        units: Sequence[Unit],
        key: Key,
        rows: int,
        directory: Path,
        name: str,
    ) -> None:
        self._form = form
        self._tools = tools
        self._units = units
        self._key = key
        self._count = max(1, -(-sum(unit.rows for unit in units) // rows))
        self._bounds = [self._sorted(number)[1] for number in range(len(units))]
        sizes = np.diff(np.array(self._bounds), axis=1).sum(axis=0)
        self.windows = tuple(
            window for window in bucket_windows([int(size) for size in sizes]) if window.rows
        )
        digest = hashlib.sha256(repr((name, key)).encode()).hexdigest()[:32]
        self._directory = directory / f"{_PREFIX}{digest}"
        self._done = self._directory / "done"
        self._held: int | None = None

    def prepare(self, threads: int) -> None:
        """Make the first pass, or wait until another process has made it."""
        _sweep(self._directory.parent)
        try:
            while self._held is None:
                self._held = self._joined() or self._made(threads)
                if self._held is None:
                    time.sleep(_RETRY_SECONDS)
        except OSError as error:
            message = f"A global shuffle needs room in {self._directory.parent}: {error.strerror}."
            action = 'Set HELIOSTAT_LOADER_CACHE_DIR to a larger disk, or use shuffle="window".'
            raise ConfigurationError(message, action) from error

    def _joined(self) -> int | None:
        """Wait for whoever is making the files, and hold them; ``None`` if there are none."""
        lock = _locked(self._directory, fcntl.LOCK_SH)
        assert lock is not None
        if self._done.exists():
            return lock
        os.close(lock)
        return None

    def _made(self, threads: int) -> int | None:
        """Make the files and hold them; ``None`` if somebody else is at it.

        Never waits: a reader that holds the files may itself wait for this process to go on.
        """
        lock = _locked(self._directory, fcntl.LOCK_EX | fcntl.LOCK_NB)
        if lock is None:
            return None
        try:
            if not self._done.exists():
                for _ in in_order(self._scatter, range(len(self._units)), threads, threads):
                    pass
                self._done.touch(mode=0o600)
            # Not atomic: the files may go in between, and then it begins again.
            fcntl.flock(lock, fcntl.LOCK_SH)
            if self._done.exists():
                held, lock = lock, -1
                return held
            return None
        finally:
            if lock >= 0:
                os.close(lock)

    def load(self, window: Window) -> Any:
        """Read a bucket, and put its rows in a random order."""
        return self._form.load(
            self._tools, self._pieces(window.number), window.rows, permutation(self._key, window)
        )

    def close(self) -> None:
        """Let go of the files; the last one removes them."""
        if self._held is None:
            return
        lock, self._held = self._held, None
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            shutil.rmtree(self._directory, ignore_errors=True)
        except BlockingIOError:
            pass
        finally:
            os.close(lock)

    def _sorted(self, number: int) -> tuple[Any, Any]:
        """Bucket of each of a unit's rows, and where each bucket begins among them once they are sorted."""
        labels = bucket_labels(self._key, number, self._units[number].rows, self._count)
        bounds = np.zeros(self._count + 1, np.int64)
        np.cumsum(np.bincount(labels, minlength=self._count), out=bounds[1:])
        return labels, bounds

    def _scatter(self, number: int) -> None:
        labels, bounds = self._sorted(number)
        places = np.empty(len(labels), np.int64)
        places[np.argsort(labels, kind="stable")] = np.arange(len(labels))
        block = self._form.raw(self._tools, self._units[number], places)
        pieces = [
            self._form.dump(self._form.part(block, int(low), int(high))) if low < high else []
            for low, high in itertools.pairwise(bounds)
        ]
        sizes = [sum(memoryview(one).nbytes for one in piece) for piece in pieces]
        ends = np.cumsum([8 * (len(pieces) + 1), *sizes], dtype=np.int64)
        flags = os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC
        with os.fdopen(os.open(self._directory / str(number), flags, 0o600), "wb") as file:
            file.write(ends.tobytes())
            for piece in pieces:
                for buffer in piece:
                    file.write(buffer)

    def _pieces(self, bucket: int) -> Iterator[tuple[Stored, int]]:
        """What each unit has of a bucket, with its rows; to be read before the next one."""
        for number, bounds in enumerate(self._bounds):
            rows = int(bounds[bucket + 1] - bounds[bucket])
            if not rows:
                continue
            file = os.open(self._directory / str(number), os.O_RDONLY | os.O_CLOEXEC)
            try:
                low, high = np.frombuffer(os.pread(file, 16, 8 * bucket), np.int64)
                yield Stored(file, int(low), int(high - low)), rows
            finally:
                os.close(file)


def _locked(directory: Path, kind: int) -> int | None:
    """Open and lock the lock of an existing directory; ``None`` if it is taken and ``kind`` does not wait."""
    while True:
        directory.mkdir(mode=0o700, exist_ok=True)
        try:
            lock = os.open(directory / "lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        except FileNotFoundError:
            continue
        try:
            fcntl.flock(lock, kind)
            if os.path.samestat(os.fstat(lock), (directory / "lock").stat()):
                return lock
        except BlockingIOError:
            os.close(lock)
            return None
        except FileNotFoundError:
            pass
        os.close(lock)


def _sweep(directory: Path) -> None:
    """Remove what processes left that were killed: whatever nobody has locked."""
    for found in directory.glob(f"{_PREFIX}*"):
        with contextlib.suppress(OSError):
            lock = os.open(found / "lock", os.O_RDWR | os.O_CLOEXEC)
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
                shutil.rmtree(found, ignore_errors=True)
            finally:
                os.close(lock)
