"""What the stage sources have in common: their arguments, names of files, and errors."""

from __future__ import annotations

import inspect
from contextlib import contextmanager
from dataclasses import dataclass
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


@dataclass(frozen=True)
class FileNames:
    """What the files of a source are called, by their paths on the filesystem."""

    base: Location

    def below(self, path: str) -> str:
        """Path below the directory that the source reads."""
        return path[len(self.base.path.rstrip("/")) + 1 :]

    def place(self, path: str) -> Location:
        """The file as a person writes it."""
        return self.base.join(self.below(path))


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

    ``heliostat.ray.datasource`` says what the arguments are. A source that has more declares them and
    hands the others on as ``**stage``; its signature shows all of them.
    """

    _names_column: str | None = None
    """A column of file names that this source always has."""

    def __init__(
        self,
        *,
        stage_location: str,
        database: str | None = None,
        schema: str | None = None,
        file_pattern: str | Sequence[str] | None = None,
        include_paths: bool | str = False,
        use_file_cache: bool | None = None,
        file_cache_config: Mapping[str, Any] | None = None,
        **ray_options: Any,
    ) -> None:
        files = self._find(stage_location, database, schema, file_pattern)
        filesystem = cached_filesystem(files.base.filesystem, use_file_cache, file_cache_config)
        self._files = FileNames(files.base)
        self._paths_column = "path" if include_paths is True else include_paths or None
        super().__init__(**{**ray_options, **self._opened(files, filesystem)})

    def __init_subclass__(cls, **kwargs: Any) -> None:
        super().__init_subclass__(**kwargs)
        own = inspect.signature(cls.__init__).parameters
        shared = inspect.signature(StageReading.__init__).parameters
        named = [p for name, p in shared.items() if name not in own and p.kind is p.KEYWORD_ONLY]
        *others, rest = [p for p in own.values() if p.name != "self"]
        options = [rest.replace(name="ray_options")] if rest.kind is rest.VAR_KEYWORD else [rest]
        first, *more = sorted([*others, *named], key=lambda p: p.default is not p.empty)
        cls.__signature__ = inspect.Signature([first, *more, *options])  # type: ignore[attr-defined]

    def _find(
        self,
        stage_location: str,
        database: str | None,
        schema: str | None,
        file_pattern: str | Sequence[str] | None,
    ) -> StageFiles:
        """List the files to read."""
        return find_files(stage_location, database=database, schema=schema, file_pattern=file_pattern)

    def _opened(self, files: StageFiles, filesystem: Any) -> dict[str, Any]:
        """What Ray's own source is made with."""
        return {"paths": files.paths, "filesystem": filesystem, "meta_provider": KnownFiles(files)}

    def _decode(self, f: Any, path: str) -> Iterator[Any]:
        """Give the blocks of one file."""
        yield from super()._read_stream(f, path)  # type: ignore[misc]

    def _read_stream(self, f: Any, path: str) -> Iterator[Any]:
        with self._naming(path):
            for block in self._decode(f, path):
                yield self._named(block, path)

    def _open_input_source(self, filesystem: Any, path: str, **open_args: Any) -> Any:
        with told(self._files.place(path), "read"):
            return super()._open_input_source(filesystem, path, **open_args)  # type: ignore[misc]

    def _open_verbatim(self, filesystem: Any, path: str) -> Any:
        """Open a file not as a stream, which would unpack ``a.gz``."""
        with told(self._files.place(path), "read"):
            return filesystem.open_input_file(path)

    def _named(self, block: Any, path: str) -> Any:
        for column, value in (
            (self._names_column, self._files.below(path)),
            (self._paths_column, self._files.place(path).url),
        ):
            if column is not None:
                block = BlockAccessor.for_block(block).fill_column(column, value)
        return block

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
            place = self._files.place(path)
            message = f"{place} cannot be read: {reason}"
            raise DataError(message, file=place.url) from error
