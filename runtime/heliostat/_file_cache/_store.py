"""The part of the cache that is on disk: entries that are whole, and a limit on their bytes.

An entry is written to a file that its writer has locked, and gets its name when it is whole. A
writer that is killed leaves a file that nobody has locked: the next one writes it anew. The key
has the machine's boot in it, since after a crash of the machine a file may have lost its content.
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
        if size > self._limit():
            raise TooLargeError
        path = self._path(key)
        path.parent.mkdir(mode=0o700, exist_ok=True)
        with self._locked(self._aside(key)) as file:
            # The one before us in the queue has made it.
            if (found := self.get(key)) is not None:
                return found
            file.truncate(0)
            try:
                fill(file)
                file.flush()
            except BaseException:
                self._aside(key).unlink(missing_ok=True)
                raise
            self._aside(key).rename(path)
            opened = path.open("rb")
        self._evict_when_due()
        return opened

    def evict(self) -> None:
        """Remove what was not used for longest until the limit holds, and what dead writers left."""
        for path in (self.directory / "writing").iterdir():
            _remove_if_left(path)
        found = []
        for path in self.directory.glob("??/*"):
            with contextlib.suppress(FileNotFoundError):
                info = path.stat()
                found.append((info.st_mtime_ns, info.st_size, path))
        total, limit = sum(size for _, size, _ in found), self._limit(sum(size for _, size, _ in found))
        if total <= limit:
            return
        for _, size, path in sorted(found):
            path.unlink(missing_ok=True)
            total -= size
            if total <= limit * _BELOW:
                return

    @property
    def directory(self) -> Path:
        """Where the entries are; made if it is missing. Raises ConfigurationError if it is not ours."""
        return _private_directory(self.config.directory)

    def _path(self, key: str) -> Path:
        return self.directory / key[:2] / key

    def _aside(self, key: str) -> Path:
        return self.directory / "writing" / key

    def _limit(self, held: int | None = None) -> float:
        disk = shutil.disk_usage(self.directory)
        share = disk.total * self.config.max_disk_pct / 100
        return min(share, (disk.free + (held or 0)) * _ROOM)

    def _evict_when_due(self) -> None:
        marker = self.directory / "evicted"
        with contextlib.suppress(OSError), marker.open("ab") as file:
            since = time.time() - os.fstat(file.fileno()).st_mtime
            first = os.fstat(file.fileno()).st_size == 0
            if not first and since < self.config.evict_interval_sec:
                return
            # One process of the node does it; the others need not wait.
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            if first:
                file.write(b"\n")
            os.utime(marker)
            self.evict()

    @contextlib.contextmanager
    def _locked(self, path: Path) -> Iterator[IO[bytes]]:
        while True:
            with path.open("ab") as file:
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


def _remove_if_left(path: Path) -> None:
    with contextlib.suppress(OSError), path.open("ab") as file:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        path.unlink()
