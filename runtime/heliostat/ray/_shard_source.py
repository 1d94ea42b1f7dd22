"""Packed shards as a Ray Data source: one shard is one read task and one block."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pyarrow as pa
from ray.data.datasource import FileBasedDatasource

from heliostat.data._sources._parquet import refuse_drift
from heliostat.exceptions import ConfigurationError, DataError
from heliostat.ray._manifest import only_whole_sets
from heliostat.ray._reading import StageReading

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from heliostat.ray._listing import StageFiles


class SFStageShardDataSource(StageReading, FileBasedDatasource):  # type: ignore[misc]
    """Shards that ``generate_shards`` packed: a row for each file, with ``bytes`` and ``path``.

    Rows come in the order in which they were packed. There are as many read tasks as shards, so
    the number of shards is the parallelism; a shard is one block, unless it is larger than Ray's
    ``DataContext.target_max_block_size``, which Ray then divides. ``columns`` narrows the rows.
    A set of shards that is not complete, and shards with and without paths together, are refused
    with a ``DataError``.
    """

    def __init__(
        self,
        *,
        file_pattern: str | Sequence[str] = "*.arrow",
        columns: Sequence[str] | None = None,
        include_paths: bool | str = False,
        **stage: Any,
    ) -> None:
        if include_paths is True:
            message = "Shards have a column path already: that of the packed file."
            raise ConfigurationError(message, 'Pass a name for the column of shards: include_paths="shard".')
        self._columns = None if columns is None else list(columns)
        super().__init__(file_pattern=file_pattern, include_paths=include_paths, **stage)
        self._first = self._paths()[0]
        with self._naming(self._first), self._open_input_source(self._filesystem, self._first) as file:
            self._schema_of_all = pa.ipc.open_file(file).schema

    def _find(
        self,
        stage_location: str,
        database: str | None,
        schema: str | None,
        file_pattern: str | Sequence[str] | None,
    ) -> StageFiles:
        files = super()._find(stage_location, database, schema, None)
        return only_whole_sets(files, stage_location, file_pattern or "*.arrow")

    def get_read_tasks(self, parallelism: int, *args: Any, **kwargs: Any) -> list[Any]:
        """Make a task for each shard, whatever parallelism Ray would like."""
        del parallelism
        tasks: list[Any] = super().get_read_tasks(len(self._paths()), *args, **kwargs)
        return tasks

    def _open_input_source(self, filesystem: Any, path: str, **open_args: Any) -> Any:
        del open_args
        return self._open_verbatim(filesystem, path)

    def _decode(self, f: Any, path: str) -> Iterator[Any]:
        with pa.ipc.open_file(f) as reader:
            table = reader.read_all()
        if self._columns is not None:
            missing = [name for name in self._columns if name not in table.column_names]
            if missing:
                message = f"The shard {self._files.place(path)} has no column {missing[0]!r}."
                raise DataError(message, f"Columns: {', '.join(table.column_names)}.", column=missing[0])
            table = table.select(self._columns)
        else:
            file, first = (self._files.place(each).url for each in (path, self._first))
            refuse_drift(self._schema_of_all, table.schema, file, first, action="Pack the files again.")
        yield table.combine_chunks()
