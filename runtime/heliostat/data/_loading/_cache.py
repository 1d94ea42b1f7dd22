"""Decoded units on the local disk, for later epochs and for other processes of the same user.

One file for each unit, written whole or not at all, so processes need not agree on anything. Its
name is a digest of what was read: path, size, time of change (or the object store's equivalent),
row groups, columns and form. A changed source therefore has other names, and the old files are
removed as those used longest ago. The directory is the user's own (0700, files 0600), and a file is
handed out only after the source was found again with the rights of whoever reads.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import shutil
import stat
import threading
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from heliostat._units import parse_bytes
from heliostat.exceptions import ConfigurationError, DataError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from heliostat.data._shards import RowSlice

DIRECTORY_VARIABLE = "HELIOSTAT_LOADER_CACHE_DIR"
LIMIT_VARIABLE = "HELIOSTAT_LOADER_CACHE_LIMIT"
"""Bytes such as ``20GB``, or a share of the disk such as ``30%``; the default is 25%."""

_DEFAULT_LIMIT = "25%"
_FREE_SHARE = 0.05
"""Of the disk, what is left free whatever the limit."""
_SWEEP_SHARE = 64
"""A sweep is due when this fraction of the limit was written since the last one."""
_VERSION = b"1"
_FLAGS = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC


def cache_directory(chosen: str | os.PathLike[str] | None = None) -> Path:
    """Return the private directory of cached units, made if it is missing.

    Raises
    ------
    ConfigurationError
        It cannot be made, or it belongs to somebody else.
    """
    base = chosen or os.environ.get(DIRECTORY_VARIABLE)
    home = os.environ.get("XDG_CACHE_HOME") or "~/.cache"
    path = Path(base).expanduser() if base else Path(home).expanduser() / "heliostat" / "units"
    action = f"Set {DIRECTORY_VARIABLE} to a directory of your own that is writable."
    try:
        path.mkdir(mode=0o700, parents=True, exist_ok=True)
        found = path.stat()
        if found.st_uid != os.getuid():
            message = f"The cache directory {path} belongs to somebody else."
            raise ConfigurationError(message, action)
        if stat.S_IMODE(found.st_mode) & 0o077:
            path.chmod(0o700)
    except OSError as error:
        message = f"The cache directory {path} cannot be used: {error.strerror}."
        raise ConfigurationError(message, action) from error
    return path


def byte_limit(text: str, total: int) -> int:
    """Read a limit: bytes, or a share of ``total``. Raises ConfigurationError."""
    if not text.strip().endswith("%"):
        return parse_bytes(text, LIMIT_VARIABLE)
    try:
        share = float(text.strip()[:-1])
    except ValueError:
        share = -1.0
    if not 0 <= share <= 100:
        message = f"{LIMIT_VARIABLE} is {text!r}, which is no share of a disk."
        raise ConfigurationError(message, 'Give a percentage such as "25%", or a size such as "20GB".')
    return int(total * share / 100)


@dataclass(frozen=True)
class Stored:
    """A file of the cache, as a sweep sees it."""

    path: str
    size: int
    used: float


def to_remove(stored: Sequence[Stored], limit: int) -> list[Stored]:
    """Return what to remove, used longest ago first, so that the rest fits ``limit``."""
    over = sum(file.size for file in stored) - limit
    chosen: list[Stored] = []
    for file in sorted(stored, key=lambda file: file.used):
        if over <= 0:
            break
        chosen.append(file)
        over -= file.size
    return chosen


class UnitCache:
    """Reads and writes units; a full disk or a damaged file means a miss, never an error.

    Parameters
    ----------
    directory:
        As :func:`cache_directory` returns it.
    """

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        disk = shutil.disk_usage(directory)
        self.limit = byte_limit(os.environ.get(LIMIT_VARIABLE, _DEFAULT_LIMIT), disk.total)
        self._identities: dict[str, str] = {}
        self._unswept = 0
        self._lock = threading.Lock()

    def key(self, slices: Sequence[RowSlice], form: str) -> str:
        """Name of a unit in the cache. Raises DataError where the source is gone or may not be read."""
        digest = hashlib.sha256(_VERSION + form.encode())
        for part in slices:
            digest.update(f"\0{self._identity(part)}\0{part.row_group} {part.start} {part.stop}".encode())
        return digest.hexdigest()

    @contextlib.contextmanager
    def reading(self, key: str, size: int) -> Iterator[int | None]:
        """Open a unit of ``size`` bytes: a file descriptor, or ``None`` if it is not there, whole."""
        try:
            file = os.open(self._path(key), os.O_RDONLY | os.O_CLOEXEC)
        except OSError:
            yield None
            return
        try:
            whole = os.fstat(file).st_size == size
            if whole:
                with contextlib.suppress(OSError):
                    os.utime(file)
            yield file if whole else None
        finally:
            os.close(file)

    def read(self, key: str | None) -> Any:
        """Return a unit of unknown size, or ``None``."""
        if key is None:
            return None
        try:
            content = self._path(key).read_bytes()
            os.utime(self._path(key))
        except OSError:
            return None
        # The length is written last.
        size = int.from_bytes(content[-8:], "little")
        return memoryview(content)[:-8] if size == len(content) - 8 else None

    def write(self, key: str | None, buffers: Sequence[Any]) -> None:
        """Keep a unit that ``read`` returns, if there is room."""
        if key is None:
            return
        size = sum(memoryview(one).nbytes for one in buffers)
        with self.writing(key, size + 8) as keep:
            for buffer in (*buffers, size.to_bytes(8, "little")):
                keep(buffer)

    @contextlib.contextmanager
    def writing(self, key: str, size: int) -> Iterator[Callable[[Any], None]]:
        """Keep a unit of ``size`` bytes that is written piece by piece, if there is room.

        It appears when the block ends without an exception, whole; what is given to the block
        writes nothing where there is no room.
        """
        if not self._room(size):
            yield _forget
            return
        target = self._path(key)
        written = target.with_name(f".{key}.{os.getpid()}.{threading.get_ident()}")
        try:
            target.parent.mkdir(mode=0o700, exist_ok=True)
            file = os.fdopen(os.open(written, _FLAGS, 0o600), "wb", buffering=0)
        except OSError:
            yield _forget
            return
        missing = size

        def keep(buffer: Any) -> None:
            nonlocal missing
            with contextlib.suppress(OSError):  # a full disk: something stays missing
                missing -= _write_all(file, memoryview(buffer))

        try:
            with file:
                yield keep
            if not missing:
                with contextlib.suppress(OSError):
                    written.replace(target)
        finally:
            with contextlib.suppress(OSError):
                written.unlink(missing_ok=True)

    def sweep(self, room: int = 0) -> None:
        """Remove files used longest ago until ``room`` is free below the limit. Others may sweep as well."""
        stored: list[Stored] = []
        for shelf in os.scandir(self.directory):
            if not shelf.is_dir(follow_symlinks=False) or len(shelf.name) != 2:
                continue
            with contextlib.suppress(OSError):
                for file in os.scandir(shelf.path):
                    with contextlib.suppress(OSError):
                        found = file.stat(follow_symlinks=False)
                        stored.append(Stored(file.path, found.st_size, found.st_mtime))
        disk = shutil.disk_usage(self.directory)
        held = sum(file.size for file in stored)
        most = min(self.limit, held + disk.free - int(disk.total * _FREE_SHARE))
        for old in to_remove(stored, max(most - room, 0)):
            with contextlib.suppress(OSError):
                Path(old.path).unlink()

    def _room(self, size: int) -> bool:
        """Whether a unit fits; sweeps now and then."""
        if size > self.limit:
            return False
        with self._lock:
            due = self._unswept == 0 or self._unswept > self.limit // _SWEEP_SHARE
            self._unswept = size if due else self._unswept + size
        if due:
            self.sweep(size)
        disk = shutil.disk_usage(self.directory)
        return disk.free - size > disk.total * _FREE_SHARE

    def _identity(self, part: RowSlice) -> str:
        """What changes when the source changes; asked once for each file in one process."""
        with self._lock:
            found = self._identities.get(part.path)
        if found is None:
            found = source_identity(part)
            with self._lock:
                self._identities[part.path] = found
        return found

    def _path(self, key: str) -> Path:
        return self.directory / key[:2] / key


def source_identity(part: RowSlice) -> str:
    """Say which version of a file this is: size, time of change, ETag on S3. Raises DataError."""
    # The node's file cache answers for the store it is before, but has no ETag.
    filesystem = getattr(getattr(part.filesystem, "handler", None), "filesystem", part.filesystem)
    try:
        if filesystem is None:
            with Path(part.path).open("rb") as file:  # opened, since that is what reading needs
                found = os.fstat(file.fileno())
            return f"{os.path.realpath(part.path)} {found.st_ino} {found.st_size} {found.st_mtime_ns}"
        changed = filesystem.get_file_info(part.path).mtime_ns
        with filesystem.open_input_file(part.path) as opened:
            size, tag = opened.size(), (opened.metadata() or {}).get("ETag", b"").decode()
    except OSError as error:
        message = f"{part.path} cannot be read: {error.strerror or error}."
        raise DataError(
            message, "Check that it is there and that you may read it.", path=part.path
        ) from error
    return f"{filesystem.type_name} {part.path} {size} {changed} {tag}"


def _forget(_buffer: Any) -> None:
    """Keep nothing."""


def _write_all(file: Any, view: memoryview) -> int:
    """Return how many bytes were written: all of them. Raises OSError."""
    left = view.cast("B")
    while left.nbytes:
        left = left[file.write(left) :]
    return view.nbytes
