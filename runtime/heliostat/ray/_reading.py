"""What the stage sources have in common: the files they are given, names of files, and errors."""

from __future__ import annotations

from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from ray.data.block import BlockAccessor
from ray.data.datasource import DefaultFileMetadataProvider

from heliostat._file_cache import cached_filesystem
from heliostat._location import told
from heliostat.exceptions import DataError, HeliostatError
from heliostat.ray._listing import StageFiles, find_files

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from heliostat._location import Location


def open_stage_files(
    stage_location: str,
    *,
    database: str | None,
    schema: str | None,
    file_pattern: str | Sequence[str] | None,
    use_file_cache: bool | None,
    file_cache_config: Mapping[str, Any] | None = None,
) -> tuple[StageFiles, Any]:
    """List the files of a location, and open its filesystem with the node's file cache before it."""
    files = find_files(stage_location, database=database, schema=schema, file_pattern=file_pattern)
    return files, cached_filesystem(files.base.filesystem, use_file_cache, file_cache_config)


class KnownFiles(DefaultFileMetadataProvider):  # type: ignore[misc]
    """Gives Ray the files that were listed, so that it does not ask for each of them again."""

    def __init__(self, files: StageFiles) -> None:
        self._found = [(entry.location.path, entry.size) for entry in files.entries]

    def expand_paths(self, *_: Any, **__: Any) -> Iterator[tuple[str, int]]:
        return iter(self._found)

    def __reduce__(self) -> tuple[Any, ...]:
        # Read tasks are pickled with the source; the list of files is not needed there.
        return DefaultFileMetadataProvider, ()


class StageReading:
    """Makes one of Ray's sources read a stage, and put names of files beside its rows.

    ``include_paths`` is ``True`` for a column ``path``, or the name that the column shall have.
    """

    _names_column: str | None = None
    """A column of file names that this source always has."""

    def _open_stage(self, stage_location: str, include_paths: bool | str, **where: Any) -> dict[str, Any]:
        """List the files as ``open_stage_files`` does; return what Ray's own source is made with."""
        files, filesystem = open_stage_files(stage_location, **where)
        self._base = files.base
        self._paths_column = "path" if include_paths is True else include_paths or None
        return {"paths": files.paths, "filesystem": filesystem, "meta_provider": KnownFiles(files)}

    def _decode(self, f: Any, path: str) -> Iterator[Any]:
        """Give the blocks of one file."""
        yield from super()._read_stream(f, path)  # type: ignore[misc]

    def _read_stream(self, f: Any, path: str) -> Iterator[Any]:
        with self._naming(path):
            for block in self._decode(f, path):
                yield self._named(block, path)

    def _open_input_source(self, filesystem: Any, path: str, **open_args: Any) -> Any:
        with told(self._place(path), "read"):
            return super()._open_input_source(filesystem, path, **open_args)  # type: ignore[misc]

    def _named(self, block: Any, path: str) -> Any:
        for column, value in (
            (self._names_column, path[len(self._base.path.rstrip("/")) + 1 :]),
            (self._paths_column, self._place(path).url),
        ):
            if column is not None:
                block = BlockAccessor.for_block(block).fill_column(column, value)
        return block

    def _place(self, path: str) -> Location:
        return self._base.join(path[len(self._base.path.rstrip("/")) + 1 :])

    @contextmanager
    def _naming(self, path: str) -> Iterator[None]:
        """Say which file could not be decoded."""
        import pyarrow as pa

        try:
            yield
        except HeliostatError:
            raise
        except (pa.ArrowException, OSError, ValueError) as error:
            reason = " ".join(str(error.__cause__ or error).split())
            message = f"{self._place(path)} cannot be read: {reason}"
            raise DataError(message, file=self._place(path).url) from error
