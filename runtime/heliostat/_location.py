"""A file or directory, wherever it is: an Arrow filesystem and a path on it, with the errors told.

What is written appears whole or not at all: it is written aside and takes its name at the end.
On an object store that last step is a copy by the server, which S3 allows up to 5 GB.
"""

from __future__ import annotations

import contextlib
import os
import time
import uuid
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import IO, TYPE_CHECKING, Any, TypeAlias

from heliostat.exceptions import ConfigurationError, DataError

if TYPE_CHECKING:
    from collections.abc import Iterator
    from datetime import timedelta

_ASIDE_PREFIX, _ASIDE_SUFFIX = ".heliostat-", ".part"


@dataclass(frozen=True)
class Entry:
    """A file that was found by ``Location.list``."""

    location: Location
    size: int
    modified: float | None
    """Seconds since the epoch, with what precision the filesystem has."""


Entries: TypeAlias = list[Entry]
Names: TypeAlias = list[str]


@dataclass(frozen=True)
class Location:
    """A place on a filesystem; it need not exist. Picklable, so workers can open it.

    Pickles of locations on S3 hold the credentials that this process has in ``AWS_*`` variables.
    """

    filesystem: Any
    """A ``pyarrow.fs.FileSystem``."""
    path: str
    """Path on ``filesystem``, without a slash at the end."""
    url: str
    """As a person writes it: ``@stage/path``, ``s3://bucket/key`` or an absolute path."""

    def __str__(self) -> str:
        return self.url

    @property
    def name(self) -> str:
        """Last part of the path."""
        return self.path.rpartition("/")[2]

    @property
    def local_path(self) -> Path | None:
        """The path, if it is one of this machine."""
        return Path(self.path) if self.filesystem.type_name == "local" else None

    def join(self, *names: str) -> Location:
        """Return the place ``names`` below this one. Raises ConfigurationError if it is not below."""
        parts = [part for name in names for part in inner_parts(name, self.url)]
        below = "/".join(parts)
        if not below:
            return self
        return Location(
            self.filesystem, f"{self.path.rstrip('/')}/{below}", f"{self.url.rstrip('/')}/{below}"
        )

    def exists(self) -> bool:
        """Whether a file or directory is there. Raises DataError if that cannot be told."""
        return bool(self._info().type)

    def is_file(self) -> bool:
        """Whether a file is there. Raises DataError if that cannot be told."""
        return bool(self._info().is_file)

    def is_directory(self) -> bool:
        """Whether a directory, or a prefix with objects, is there."""
        import pyarrow.fs as pa_fs

        return bool(self._info().type == pa_fs.FileType.Directory)

    def read_bytes(self) -> bytes:
        """Read the whole file. Raises DataError when it cannot be read."""
        # Arrow would unpack a file whose name ends with ".gz" or the like.
        with told(self, "read"), self.filesystem.open_input_stream(self.path, compression=None) as file:
            content: bytes = file.read()
            return content

    @contextlib.contextmanager
    def open_output(self) -> Iterator[IO[bytes]]:
        """Open the file for writing; directories above it are made.

        The file takes its name when the block ends, replacing what was there. When the block
        raises, or the process dies in it, what was there stays.

        Raises
        ------
        DataError
            It cannot be written.
        """
        aside_name = f"{_ASIDE_PREFIX}{uuid.uuid4().hex}{_ASIDE_SUFFIX}"
        aside = f"{self.path.rpartition('/')[0]}/{aside_name}"
        with told(self, "written"):
            if self.is_directory():
                message = f"{self.url} is a directory."
                raise DataError(message, "Name a file in it.", url=self.url)
            if self.local_path is None:
                file = self.filesystem.open_output_stream(aside)
            else:
                self.local_path.parent.mkdir(parents=True, exist_ok=True)
                file = Path(aside).open("wb")  # noqa: SIM115 - entered below
        try:
            with file:
                yield file
                with told(self, "written"):
                    if self.local_path is not None:
                        file.flush()
                        os.fsync(file.fileno())
            with told(self, "written"):
                self.filesystem.move(aside, self.path)
        except BaseException:
            # Arrow ends an upload by finishing it, whatever happened; so there is a file to remove.
            with contextlib.suppress(OSError):
                self.filesystem.delete_file(aside)
            raise

    def write_bytes(self, content: bytes) -> None:
        """Write the whole file at once, as ``open_output`` does."""
        with self.open_output() as file:
            file.write(content)

    def list(self, prefix: str = "") -> Entries:
        """List the files below this directory, however deep, sorted by path.

        Parameters
        ----------
        prefix:
            Beginning of their paths below this one: ``"img"`` finds ``img/1.png`` and
            ``img2/1.png``, ``"img/"`` only the first.

        Returns
        -------
        Entries
            Empty when there is no such directory. A file lists itself.
        """
        import pyarrow.fs as pa_fs

        with told(self, "listed"):
            if prefix == "" and self.is_file():
                info = self._info()
                return [Entry(self, info.size, _seconds(info))]
            # The deepest directory that the prefix names is where the search may begin.
            directory = prefix.rpartition("/")[0]
            start = self.join(directory) if directory else self
            selector = pa_fs.FileSelector(start.path, allow_not_found=True, recursive=True)
            found = []
            for info in self.filesystem.get_file_info(selector):
                below = info.path[len(self.path.rstrip("/")) + 1 :]
                if info.is_file and below.startswith(prefix) and not _is_aside(info.base_name):
                    found.append(Entry(self.join(below), info.size, _seconds(info)))
            return sorted(found, key=lambda entry: entry.location.path)

    def delete(self) -> None:
        """Remove the file, or the directory with all in it. Raises DataError when nothing is there."""
        with told(self, "deleted"):
            if self.is_file():
                self.filesystem.delete_file(self.path)
            elif self.exists():
                self.filesystem.delete_dir(self.path)
            else:
                raise FileNotFoundError

    def collect_garbage(self, older_than: timedelta, *, dry_run: bool = False) -> Names:
        """Remove what writers left below this place that were killed before a file had its name.

        Parameters
        ----------
        older_than:
            Younger ones may be those of a writer that is at work.
        dry_run:
            Remove nothing.

        Returns
        -------
        list
            What was, or would be, removed.
        """
        import pyarrow.fs as pa_fs

        limit = time.time() - older_than.total_seconds()
        with told(self, "listed"):
            selector = pa_fs.FileSelector(self.path, allow_not_found=True, recursive=True)
            infos = [i for i in self.filesystem.get_file_info(selector) if _is_aside(i.base_name)]
        below = len(self.path.rstrip("/")) + 1
        left = [self.join(i.path[below:]) for i in infos if i.is_file and _is_before(i, limit)]
        for location in left if not dry_run else ():
            location.delete()
        return [location.url for location in left]

    def _info(self) -> Any:
        with told(self, "looked up"):
            return self.filesystem.get_file_info(self.path)


@contextlib.contextmanager
def told(location: Location, verb: str) -> Iterator[None]:
    """Turn errors of a filesystem into a DataError that names the place."""
    try:
        yield
    except FileNotFoundError as error:
        message = f"There is no file {location.url}."
        raise DataError(message, url=location.url) from error
    except OSError as error:
        reason = error.strerror or " ".join(str(error).split())
        message = f"{location.url} cannot be {verb}: {reason}."
        raise DataError(message, url=location.url) from error


def inner_parts(path: str, inside: str) -> list[str]:
    """Split a path that must stay below ``inside``. Raises ConfigurationError if it would leave it."""
    parts: list[str] = []
    for part in PurePosixPath(path.strip("/")).parts:
        if part != "..":
            parts.append(part)
        elif parts:
            parts.pop()
        else:
            message = f"The path {path!r} leads out of {inside}."
            raise ConfigurationError(message, "Name a place inside of it.", path=path)
    if "\0" in path:
        message = f"The path {path!r} holds a null character."
        raise ConfigurationError(message, "Remove it.", path=path)
    return parts


def _is_aside(name: str) -> bool:
    return name.startswith(_ASIDE_PREFIX) and name.endswith(_ASIDE_SUFFIX)


def _is_before(info: Any, limit: float) -> bool:
    seconds = _seconds(info)
    return seconds is not None and seconds <= limit


def _seconds(info: Any) -> float | None:
    return None if info.mtime_ns is None else info.mtime_ns / 1e9
