"""Files of stages: copied to this machine and from it, opened, and listed."""

from __future__ import annotations

import re
import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import IO, TYPE_CHECKING, cast

from heliostat._location import told
from heliostat._stages import open_location
from heliostat.exceptions import ConfigurationError, DataError

if TYPE_CHECKING:
    import os

    from heliostat._location import Location

__all__ = ["GetResult", "PutResult", "StageFile", "StageFiles"]


@dataclass(frozen=True)
class GetResult:
    """A file that was copied to this machine."""

    file: str
    """Its name below the target directory."""
    size: int
    """In bytes."""
    status: str = "DOWNLOADED"


@dataclass(frozen=True)
class PutResult:
    """A file that was copied to a stage, or was there already."""

    source: str
    target: str
    """Its name at the stage location."""
    source_size: int
    """In bytes."""
    target_size: int
    status: str
    """``UPLOADED``, or ``SKIPPED`` where a file of that name was there."""


@dataclass(frozen=True)
class StageFile:
    """A file of a stage."""

    name: str
    """``@stage/path`` of it."""
    size: int
    """In bytes."""
    modified: float | None
    """Seconds since the epoch."""


class StageFiles:
    """Files of stages, by ``@stage/path``, with Snowpark's names; paths and URLs are taken as well.

    A file appears whole or not at all. Nothing is compressed on the way.
    """

    def get(
        self, stage_location: str, target_directory: str | os.PathLike[str], *, pattern: str | None = None
    ) -> list[GetResult]:
        """Copy a file, or all files below a directory, to a directory of this machine.

        Parameters
        ----------
        pattern:
            Regular expression; those are copied whose path below the location it matches as a whole.

        Raises
        ------
        ConfigurationError
            The pattern is not one.
        DataError
            No such file is there, or it cannot be read or written. Files before it are copied.
        """
        source = open_location(stage_location)
        try:
            wanted = re.compile(".*" if pattern is None else pattern, re.DOTALL)
        except re.error as error:
            message = f"pattern={pattern!r} is no regular expression: {error}."
            raise ConfigurationError(message, r"Write '.*\.csv' for all names with that end.") from error
        directory, done = open_location(Path(target_directory).expanduser().absolute()), []
        for entry in source.list():
            name = entry.location.path[len(source.path) :].strip("/") or source.name
            if wanted.fullmatch(name):
                with _opened(entry.location) as read:
                    _copy(read, directory.join(name))
                done.append(GetResult(name, entry.size))
        if not done:
            what = source.url if pattern is None else f"below {source.url} that matches {pattern!r}"
            message = f"There is no file {what}."
            raise DataError(message, "See what is there: session.file.list(location).", url=source.url)
        return done

    def put(
        self,
        local_file_name: str | os.PathLike[str],
        stage_location: str,
        *,
        auto_compress: bool = False,
        overwrite: bool = False,
    ) -> list[PutResult]:
        """Copy a file of this machine into a directory of a stage; ``*`` in its name copies several.

        Parameters
        ----------
        auto_compress:
            Must be false, which is not Snowpark's default: files arrive as they are.

        Raises
        ------
        ConfigurationError
            ``auto_compress`` is true.
        DataError
            There is no such file, or it cannot be read or written.
        """
        if auto_compress:
            message = "auto_compress=True is not offered: files arrive as they are."
            raise ConfigurationError(message, "Compress the file before, and leave auto_compress out.")
        name = Path(local_file_name).expanduser().absolute()
        found = [name] if name.is_file() else sorted(filter(Path.is_file, name.parent.glob(name.name)))
        if not found:
            message = f"There is no file {name}."
            raise DataError(message, url=str(name))
        directory, done = open_location(stage_location), []
        for path in found:
            target, size = directory.join(path.name), path.stat().st_size
            skipped = not overwrite and target.exists()
            if not skipped:
                with _opened(open_location(path)) as read:
                    _copy(read, target)
            (there,) = target.list()
            status = "SKIPPED" if skipped else "UPLOADED"
            done.append(PutResult(path.name, path.name, size, there.size, status))
        return done

    def get_stream(self, stage_location: str) -> IO[bytes]:
        """Open a file to read; it can seek. Raises DataError when it cannot be read."""
        return _opened(open_location(stage_location))

    def put_stream(
        self, input_stream: IO[bytes], stage_location: str, *, overwrite: bool = False
    ) -> PutResult:
        """Write what a stream has from here on to a file of a stage; the stream stays open.

        Raises
        ------
        ConfigurationError
            A file is there already and ``overwrite`` is false.
        DataError
            It cannot be written.
        """
        target = open_location(stage_location)
        if not overwrite and target.exists():
            message = f"{target.url} is there already."
            raise ConfigurationError(message, "Pass overwrite=True to replace it.", url=target.url)
        _copy(input_stream, target)
        (there,) = target.list()
        return PutResult(target.name, target.name, there.size, there.size, "UPLOADED")

    def list(self, stage_location: str) -> list[StageFile]:
        """List the files below a location, sorted by path; empty where nothing is."""
        entries = open_location(stage_location).list()
        return [StageFile(entry.location.url, entry.size, entry.modified) for entry in entries]


def _copy(read: IO[bytes], target: Location) -> None:
    with told(target, "written"), target.open_output() as written:
        shutil.copyfileobj(read, written)


def _opened(place: Location) -> IO[bytes]:
    with told(place, "read"):
        return cast("IO[bytes]", place.filesystem.open_input_file(place.path))
