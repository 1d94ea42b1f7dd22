"""Files and directories by path, URL or stage: which files there are, and of what format."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, replace
from pathlib import PurePosixPath
from typing import TYPE_CHECKING, Any

from heliostat.data._sources._base import Source
from heliostat.data._sources._parquet import ParquetSource
from heliostat.data._sources._scan import ScannedSource, partition_keys
from heliostat.exceptions import ConfigurationError, DataError, UnsupportedSourceError

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    import pyarrow as pa

    from heliostat._location import Entry
    from heliostat.data._shards import RowSlice
    from heliostat.data.data_source import DataSource

_FORMATS = {
    ".arrow": "arrow",
    ".csv": "csv",
    ".feather": "arrow",
    ".ipc": "arrow",
    ".json": "json",
    ".jsonl": "json",
    ".ndjson": "json",
    ".parquet": "parquet",
    ".pq": "parquet",
    ".tsv": "tsv",
}
_COMPRESSED = {".br", ".bz2", ".gz", ".lz4", ".zst"}
_HIDDEN = ("_", ".")
_NAMED = {"arrow": "arrow", "csv": "csv", "feather": "arrow", "ipc": "arrow", "json": "json"} | {
    "parquet": "parquet",
    "tsv": "tsv",
}


@dataclass(frozen=True)
class FileOptions:
    """How to read files, where their names do not say it.

    Parameters
    ----------
    format:
        ``"parquet"``, ``"csv"``, ``"tsv"``, ``"json"`` (one object a line) or ``"arrow"``.
    schema:
        Columns and types to read. Files may then differ: what a file lacks is null.
    partitioning:
        ``"hive"``: directories ``name=value`` are columns. ``None``: they are if all files have them.
    use_file_cache:
        Keep what is read on a disk of the node, see ``docs/stages.md``; ``None``: files that are not
        on one already.
    file_cache_config:
        Settings of that cache.
    """

    format: str | None = None
    schema: pa.Schema | None = None
    partitioning: str | None = None
    use_file_cache: bool | None = None
    file_cache_config: Mapping[str, Any] | None = None

    def __post_init__(self) -> None:
        if self.format is not None and self.format not in _NAMED:
            message = f"format={self.format!r} is not a format of files."
            raise ConfigurationError(message, f"Use one of {', '.join(sorted(_NAMED))}.")
        if self.partitioning not in (None, "hive"):
            message = f"partitioning={self.partitioning!r} is not known."
            raise ConfigurationError(message, 'Use partitioning="hive", or leave it out.')


class FilesSource(Source):
    """Files named by the user. They are looked up anew each time that rows are asked for."""

    def __init__(self, names: Sequence[str], options: FileOptions | None = None) -> None:
        self._names = list(names)
        self._options = options or FileOptions()

    def schema(self) -> pa.Schema:
        return self._found().schema()

    def count(self) -> int:
        return self._found().count()

    def reader(self, columns: Sequence[str] | None = None, limit: int | None = None) -> pa.RecordBatchReader:
        return self._found().reader(columns, limit)

    def data_sources(self) -> list[DataSource]:
        return list(self._names)

    def slices(self) -> tuple[RowSlice, ...] | None:
        return self._found().slices()

    def identity(self) -> tuple[str, ...] | None:
        return self._found().identity()

    def parts(self) -> list[Source]:
        """One source for each file, for those who read files side by side."""
        files, options, keys = self._files()
        return [_source([file], [], options, keys) for file in files]

    def _found(self) -> Source:
        files, options, keys = self._files()
        return _source(files, self._names, options, keys)

    def _files(self) -> tuple[list[Entry], FileOptions, pa.Schema | None]:
        """Files, how to read them, and the columns that the names of their directories are."""
        found = [pair for name in self._names for pair in _listed(name)]
        files = _cached([file for file, _ in found], self._options)
        kinds = Counter(self._options.format or _format(file) for file in files)
        if len(kinds) > 1:
            shown = ", ".join(f"{count} {kind}" for kind, count in kinds.most_common())
            message = f"Unexpected data source format: {_joined(self._names)} has files of several ({shown})."
            raise UnsupportedSourceError(message, "Read those of one format at a time.")
        hive = self._options.partitioning == "hive" or all("=" in directory for _, directory in found)
        keys = partition_keys([directory for _, directory in found]) if hive else None
        return files, replace(self._options, format=_NAMED[next(iter(kinds))]), keys


def _source(
    files: Sequence[Entry], names: Sequence[DataSource], options: FileOptions, keys: pa.Schema | None
) -> Source:
    if options.format == "parquet" and keys is None and options.schema is None:
        return ParquetSource(files, names)
    assert options.format is not None
    return ScannedSource(files, options.format, schema=options.schema, keys=keys, sources=names)


def _listed(name: str) -> list[tuple[Entry, str]]:
    """Files below a place, without hidden ones, each with its directory there. Raises DataError for none."""
    from heliostat._stages import open_location

    place = open_location(name)
    below = len(place.path.rstrip("/")) + 1
    pairs = [(file, file.location.path[below:].rpartition("/")[0]) for file in place.list()]
    shown = [pair for pair in pairs if not _is_hidden(pair[0].location.path[below:])]
    if not shown:
        there = place.exists()
        message = f"There are no files in {name}." if there else f"There is no file or directory {name}."
        raise DataError(message, url=place.url, file=name)
    return shown


def _format(file: Entry) -> str:
    name = PurePosixPath(file.location.name.lower())
    suffix = PurePosixPath(name.stem).suffix if name.suffix in _COMPRESSED else name.suffix
    if suffix not in _FORMATS:
        message = f"Unsupported data source type: the name of {file.location} does not say its format."
        raise UnsupportedSourceError(message, 'Pass format="parquet" or another.', file=file.location.url)
    return _FORMATS[suffix]


def _is_hidden(below: str) -> bool:
    return any(part.startswith(_HIDDEN) and "=" not in part for part in below.split("/") if part)


def _cached(files: Sequence[Entry], options: FileOptions) -> list[Entry]:
    """Put the node's file cache before the files."""
    from heliostat._file_cache import cached_filesystem

    # One for all files of a filesystem, so that a pickle has it once.
    cached: dict[int, Any] = {}
    for file in files:
        plain = file.location.filesystem
        if id(plain) not in cached:
            cached[id(plain)] = cached_filesystem(plain, options.use_file_cache, options.file_cache_config)
    return [
        replace(file, location=replace(file.location, filesystem=cached[id(file.location.filesystem)]))
        for file in files
    ]


def _joined(names: Sequence[str]) -> str:
    return ", ".join(names[:3]) + (", ..." if len(names) > 3 else "")
