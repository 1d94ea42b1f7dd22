"""Parquet files on a stage: Ray's reader, with errors that name the file."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

import pyarrow as pa
from ray.data.datasource import ReadTask

from heliostat._cluster.datasources import ParquetDatasource
from heliostat._location import Entry
from heliostat.data._sources._parquet import opened, plain, refuse_drift
from heliostat.exceptions import ConfigurationError, DataError, HeliostatError
from heliostat.ray._reading import StageReading

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from heliostat.ray._listing import StageFiles
    from heliostat.ray._reading import FileNames

_PATHS = "path"
"""The column of files' names, as Ray calls it."""


class SFStageParquetDataSource(StageReading, ParquetDatasource):  # type: ignore[misc]
    """Parquet files: their columns. Ray reads only the columns and row groups that are asked for.

    Also takes Ray's ``columns``. A file whose columns are not those of the first one fails the read.
    """

    def __init__(self, *, include_paths: bool = False, **stage: Any) -> None:
        if not isinstance(include_paths, bool):
            message = f"include_paths={include_paths!r} is for sources that add a column of that name."
            raise ConfigurationError(message, 'Pass True for a column "path".')
        try:
            # Ray looks into some of the files, to know how large their rows are.
            super().__init__(include_paths=include_paths, **stage)
        except (pa.ArrowException, OSError) as error:
            raise self._check.told(error, self._check.paths, decode=False) from error

    def _opened(self, files: StageFiles, filesystem: Any) -> dict[str, Any]:
        self._check = _Check(self._files, filesystem, files.paths)
        with_paths = self._paths_column is not None
        return {"paths": files.paths, "filesystem": filesystem, "include_paths": with_paths}

    def get_read_tasks(self, *args: Any, **kwargs: Any) -> list[Any]:
        """Make Ray's tasks, each of which checks its files and says which one could not be read."""
        return [
            ReadTask(
                self._check.around(task.read_fn, [str(path) for path in task.metadata.input_files]),
                task.metadata,
                schema=task.schema,
                per_task_row_limit=task.per_task_row_limit,
            )
            for task in super().get_read_tasks(*args, **kwargs)
        ]


class _Check:
    """Checks files before they are read, and names them. Small, since it travels with each task.

    Raises
    ------
    DataError
        The first file, whose columns are what all must have, cannot be read.
    """

    def __init__(self, names: FileNames, filesystem: Any, paths: Sequence[str]) -> None:
        self.paths = paths
        self._names, self._filesystem, self._first = names, filesystem, paths[0]
        with opened(self._entry(self._first)) as file:
            self._schema = plain(file.schema_arrow)

    def __getstate__(self) -> dict[str, Any]:
        # A task knows its own files.
        return {**self.__dict__, "paths": ()}

    def around(self, read: Callable[[], Any], paths: Sequence[str]) -> Callable[[], Iterator[Any]]:
        """Return ``read`` with the check of its files before it."""

        def blocks() -> Iterator[Any]:
            first = self._names.place(self._first).url
            for entry in map(self._entry, paths):
                with opened(entry) as file:
                    found = plain(file.schema_arrow)
                    refuse_drift(self._schema, found, entry.location.url, first, action="Rewrite the file.")
            try:
                for block in read():
                    yield self._with_urls(block)
            except HeliostatError:
                raise
            except (pa.ArrowException, OSError) as error:
                raise self.told(error, paths) from error

        return blocks

    def told(self, error: Exception, paths: Sequence[str], *, decode: bool = True) -> DataError:
        """Find out which file it was, which Arrow does not always say, and make an error of it."""
        for path in paths:
            try:
                with opened(self._entry(path)) as file:
                    for _ in file.iter_batches() if decode else ():
                        pass
            except DataError as found:
                return found
            except (pa.ArrowException, OSError):
                paths = [path]
                break
        urls = [self._names.place(path).url for path in paths]
        message = f"{', '.join(urls)} cannot be read: {' '.join(str(error).split())}"
        return DataError(message, "Was it written to its end?", file=urls[0])

    def _entry(self, path: str) -> Entry:
        return Entry(replace(self._names.place(path), filesystem=self._filesystem), 0, None)

    def _with_urls(self, block: Any) -> Any:
        """Write paths as all stage sources do, so that they can be opened again."""
        if _PATHS not in block.column_names or _PATHS in self._schema.names:
            return block
        paths = block[_PATHS].combine_chunks().dictionary_encode()
        urls = pa.array([self._names.place(path.as_py()).url for path in paths.dictionary], pa.string())
        column = pa.DictionaryArray.from_arrays(paths.indices, urls).dictionary_decode()
        return block.set_column(block.column_names.index(_PATHS), _PATHS, column)
