"""The part of the cache that is on disk: entries that are whole, and a limit on their bytes.

An entry is written to a file that its writer has locked, and gets its name when it is whole. A
writer that is killed leaves a file that nobody has locked: the next one writes it anew. The key
has the machine's boot in it, since after a crash of the machine a file may have lost its content.

Before an entry is written its room is taken, in a book that all processes keep together: so the
directory never holds more than the limit, however many write. The book is the sum of what was found
when it was last measured and what was taken since; it may be too large, after entries that failed,
and then it is measured early.
"""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import os
import shutil
import stat
import time
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import IO, TYPE_CHECKING

from heliostat.exceptions import ConfigurationError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from heliostat._file_cache._config import FileCacheConfig

_ROOM = 0.9
"""Share of what is free that the cache may take."""
_BELOW = 0.9
"""Share of the limit that is left full when something must go."""


class TooLargeError(Exception):
    """The entry has no room in the cache."""


@dataclass(frozen=True)
class Store:
    """Entries in one directory, for all processes of a user. Picklable."""

    config: FileCacheConfig

    def get(self, key: str) -> IO[bytes] | None:
        """Open an entry, and count that as a use of it; None if there is none."""
        path = self._path(key)
        try:
            file = path.open("rb")
        except FileNotFoundError:
            return None
        with contextlib.suppress(OSError):
            os.utime(path)
        return file

    def put(self, key: str, size: int, fill: Callable[[IO[bytes]], None]) -> IO[bytes]:
        """Make an entry and open it. Of several who make the same, one does and the others wait.

        Parameters
        ----------
        key:
            Of ``entry_key``.
        size:
            Bytes that it will have.
        fill:
            Writes them.

        Raises
        ------
        TooLargeError
            There is no room for it.
        """
        path = self._path(key)
        path.parent.mkdir(mode=0o700, exist_ok=True)
        with self._locked(self._aside(key)) as file:
            # The one before us in the queue has made it.
            if (found := self.get(key)) is not None:
                return found
            try:
                self._take_room(file, size)
                fill(file)
                file.truncate()
                file.flush()
            except BaseException:
                self._aside(key).unlink(missing_ok=True)
                raise
            # Opened first: it may be evicted as soon as it has its name.
            opened = self._aside(key).open("rb")
            self._aside(key).rename(path)
            return opened

    def _take_room(self, file: IO[bytes], size: int) -> None:
        """Give the file its size, evicting others if need be. Raises TooLargeError."""
        file.truncate(0)
        descriptor = os.open(self.directory / "book", os.O_RDWR | os.O_CREAT, 0o600)
        with os.fdopen(descriptor, "r+b") as book:
            fcntl.flock(book, fcntl.LOCK_EX)
            measured, held = _numbers(book.read())
            if size > self._limit(held):
                raise TooLargeError
            held += size
            if held > self._limit(held) or not 0 <= time.time() - measured < self.config.evict_interval_sec:
                measured, held = time.time(), self._evict(size)
            book.seek(0)
            book.write(f"{measured} {held}".encode())
            book.truncate()
            # Whoever measures meanwhile finds all of it.
            file.truncate(size)

    def _evict(self, size: int) -> int:
        """Make room for ``size`` bytes, and return what is held then, those included.

        What dead writers left goes first, then what was not used for longest. Raises TooLargeError.
        """
        taken = size
        for path in (self.directory / "writing").iterdir():
            with contextlib.suppress(FileNotFoundError):
                taken += 0 if _remove_if_left(path) else path.stat().st_size
        found = []
        for path in self.directory.glob("??/*"):
            with contextlib.suppress(FileNotFoundError):
                info = path.stat()
                found.append((info.st_mtime_ns, info.st_size, path))
        kept = sum(freed for _, freed, _ in found)
        limit = self._limit(kept)
        if taken > limit:
            raise TooLargeError
        if kept + taken > limit:
            for _, freed, path in sorted(found):
                path.unlink(missing_ok=True)
                kept -= freed
                if kept + taken <= limit * _BELOW:
                    break
        return kept + taken

    @property
    def directory(self) -> Path:
        """Where the entries are; made if it is missing. Raises ConfigurationError if it is not ours."""
        return _private_directory(self.config.directory)

    def _path(self, key: str) -> Path:
        return self.directory / key[:2] / key

    def _aside(self, key: str) -> Path:
        return self.directory / "writing" / key

    def _limit(self, held: int) -> float:
        disk = shutil.disk_usage(self.directory)
        share = disk.total * self.config.max_disk_pct / 100
        return min(share, (disk.free + held) * _ROOM)

    @contextlib.contextmanager
    def _locked(self, path: Path) -> Iterator[IO[bytes]]:
        while True:
            with os.fdopen(os.open(path, os.O_RDWR | os.O_CREAT, 0o600), "r+b") as file:
                fcntl.flock(file, fcntl.LOCK_EX)
                # The one before us renamed or removed the file that we opened.
                with contextlib.suppress(FileNotFoundError):
                    if os.path.samestat(os.fstat(file.fileno()), path.stat()):
                        yield file
                        return
            path.parent.mkdir(mode=0o700, exist_ok=True)


def entry_key(*parts: str) -> str:
    """Name of an entry; every part counts."""
    digest = hashlib.sha256()
    for part in (_boot(), *parts):
        digest.update(f"{len(part)}:{part}".encode(errors="surrogateescape"))
    return digest.hexdigest()


@lru_cache(maxsize=1)
def _boot() -> str:
    try:
        return Path("/proc/sys/kernel/random/boot_id").read_text()
    except OSError:
        return ""


@lru_cache(maxsize=32)
def _private_directory(path: Path) -> Path:
    elsewhere = "Set cache_dir to a directory of your own, or use_file_cache=False."
    try:
        path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        path.mkdir(exist_ok=True, mode=0o700)
        found = path.lstat()
        if stat.S_ISDIR(found.st_mode) and found.st_uid == os.getuid():
            path.chmod(0o700)
            (path / "writing").mkdir(exist_ok=True, mode=0o700)
            return path
    except OSError as error:
        message = f"The directory of the file cache, {path}, cannot be made: {error.strerror}."
        raise ConfigurationError(message, elsewhere, path=str(path)) from error
    message = f"The directory of the file cache, {path}, is not one of yours."
    raise ConfigurationError(message, elsewhere, path=str(path))


def _remove_if_left(path: Path) -> bool:
    with contextlib.suppress(OSError), path.open("ab") as file:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        path.unlink()
        return True
    return False


def _numbers(text: bytes) -> tuple[float, int]:
    """Read the book: when it was measured, and bytes held. A new or broken one is measured anew."""
    try:
        measured, held = text.split()
        return float(measured), int(held)
    except ValueError:
        return 0.0, 0
