"""Which files a stage location names: by prefix, by pattern, and in order."""

from __future__ import annotations

import fnmatch
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from heliostat._location import Entry, Location, told
from heliostat._stages import open_location, open_stage
from heliostat.exceptions import ConfigurationError, DataError

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

_OUTSIDE = ("/", "~", ".")


@dataclass(frozen=True)
class StageFiles:
    """Files of a stage location, sorted by path. Small and picklable, but for the list of files."""

    base: Location
    """The directory below which the names are told apart."""
    entries: tuple[Entry, ...]

    @property
    def paths(self) -> list[str]:
        """Paths on the filesystem."""
        return [entry.location.path for entry in self.entries]


def find_files(
    stage_location: str,
    *,
    database: str | None = None,
    schema: str | None = None,
    file_pattern: str | Sequence[str] | None = None,
) -> StageFiles:
    """List the files of a stage location.

    Parameters
    ----------
    stage_location:
        ``@stage/prefix`` or ``stage/prefix``; also a path that begins with ``/``, ``~`` or ``.``, or
        a URL. All files whose paths begin with it are meant: ``@s/img`` has ``img/1.png`` and
        ``img2/1.png``; with a slash at the end it is that directory alone.
    database, schema:
        Put in front of the stage's name, which is then ``database.schema.stage``.
    file_pattern:
        Shell patterns of which a file must match one: of its name, or, for a pattern with a slash
        in it, of its path below the location.

    Raises
    ------
    ConfigurationError
        The location or a pattern cannot be understood.
    DataError
        It cannot be listed, or there are no such files.
    """
    patterns = _patterns(file_pattern)
    base, prefix = _split(stage_location, database, schema)
    entries = [entry for entry in _begin_with(base, prefix) if _matches(below(base, entry), patterns)]
    if not entries:
        such = f" that match {' or '.join(map(repr, patterns))}" if patterns else ""
        message = f"There are no files{such} in {stage_location}."
        raise DataError(message, "Check the location; a location is a prefix.", url=stage_location)
    return StageFiles(base, tuple(sorted(entries, key=lambda entry: entry.location.path)))


def matching(files: StageFiles, file_pattern: str | Sequence[str]) -> Iterator[Entry]:
    """Files of a listing that match a pattern, in order. Raises ConfigurationError."""
    patterns = _patterns(file_pattern)
    return (entry for entry in files.entries if _matches(below(files.base, entry), patterns))


def open_directory(location: str, database: str | None = None, schema: str | None = None) -> Location:
    """Open the directory that a stage location names. Raises ConfigurationError."""
    if location.startswith(_OUTSIDE) or "://" in location:
        if database is not None or schema is not None:
            message = f"{location!r} is no stage, so it has no database and no schema."
            raise ConfigurationError(message, "Write @stage/prefix, or leave database and schema out.")
        return open_location(location)
    if database is not None and schema is None:
        message = f"database={database!r} needs a schema."
        raise ConfigurationError(message, "Pass schema= too.")
    qualifiers = [part for part in (database, schema) if part is not None]
    return open_stage(".".join([*qualifiers, location.removeprefix("@")]))


def below(base: Location, entry: Entry) -> str:
    """Path of a file below a directory."""
    return entry.location.path[len(base.path.rstrip("/")) + 1 :]


def _split(text: str, database: str | None, schema: str | None) -> tuple[Location, str]:
    """Return a directory, and what paths below it must begin with."""
    if not text:
        message = "stage_location is empty."
        raise ConfigurationError(message, "Pass @stage/prefix.")
    place = open_directory(text, database, schema)
    inner = text.partition("://")[2] or text
    if text.endswith("/") or ("/" not in inner and not inner.startswith(_OUTSIDE)):
        return place, ""
    parent = place.path.rpartition("/")[0] or "/"
    url = place.url.rpartition("/")[0] or "/"
    return Location(place.filesystem, parent, url), place.name


def _begin_with(base: Location, prefix: str) -> list[Entry]:
    if not prefix:
        return base.list()
    import pyarrow.fs as pa_fs

    # Step by step: to search all of the directory above would be dear, when that is "/".
    with told(base, "listed"):
        selector = pa_fs.FileSelector(base.path, allow_not_found=True)
        infos = [i for i in base.filesystem.get_file_info(selector) if i.base_name.startswith(prefix)]
    found: list[Entry] = []
    for info in infos:
        found += base.join(info.base_name).list()
    return found


def _patterns(file_pattern: Any) -> list[str]:
    if file_pattern is None:
        return []
    patterns = [file_pattern] if isinstance(file_pattern, str) else list(file_pattern)
    if not patterns or not all(isinstance(pattern, str) and pattern for pattern in patterns):
        message = f"file_pattern={file_pattern!r} is not a pattern."
        raise ConfigurationError(message, 'Pass one such as "*.png", or a list of them.')
    return patterns


def _matches(path: str, patterns: Sequence[str]) -> bool:
    name = path.rpartition("/")[2]
    return not patterns or any(
        fnmatch.fnmatchcase(path if "/" in pattern else name, pattern) for pattern in patterns
    )
