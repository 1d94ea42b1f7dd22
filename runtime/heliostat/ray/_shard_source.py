"""Packed shards as a Ray Data source: one shard is one read task and one block."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from ray.data.datasource import FileBasedDatasource

from heliostat._location import told
from heliostat.exceptions import DataError
from heliostat.ray._manifest import only_whole_sets
from heliostat.ray._reading import KnownFiles, StageReading, open_stage_files

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence


class SFStageShardDataSource(StageReading, FileBasedDatasource):  # type: ignore[misc]
    """Shards that ``generate_shards`` packed: a row for each file, with ``bytes`` and ``path``.

    Rows come in the order in which they were packed. There are as many read tasks as shards, so
    the number of shards is the parallelism; a shard is one block, unless it is larger than Ray's
    ``DataContext.target_max_block_size``, which Ray then divides. ``columns`` narrows the rows.
    A set of shards that is not complete is refused with a ``DataError``.
    """

    def __init__(
        self,
        *,
        stage_location: str,
        file_pattern: str | Sequence[str] = "*.arrow",
        columns: Sequence[str] | None = None,
        use_file_cache: bool | None = None,
        database: str | None = None,
        schema: str | None = None,
        file_cache_config: Mapping[str, Any] | None = None,
    ) -> None:
        files, filesystem = open_stage_files(
            stage_location,
            database=database,
            schema=schema,
            file_pattern=None,
            use_file_cache=use_file_cache,
            file_cache_config=file_cache_config,
        )
        shards = only_whole_sets(files, stage_location, file_pattern)
        self._base = files.base
        # The paths in a shard are those of the packed files.
        self._paths_column = None
        self._columns = None if columns is None else list(columns)
        super().__init__(paths=shards.paths, filesystem=filesystem, meta_provider=KnownFiles(shards))

    def get_read_tasks(self, parallelism: int, *args: Any, **kwargs: Any) -> list[Any]:
        """Make a task for each shard, whatever parallelism Ray would like."""
        del parallelism
        tasks: list[Any] = super().get_read_tasks(len(self._paths()), *args, **kwargs)
        return tasks

    def _open_input_source(self, filesystem: Any, path: str, **open_args: Any) -> Any:
        del open_args
        with told(self._place(path), "read"):
            return filesystem.open_input_file(path)

    def _decode(self, f: Any, path: str) -> Iterator[Any]:
        import pyarrow as pa

        with pa.ipc.open_file(f) as reader:
            table = reader.read_all()
        if self._columns is not None:
            missing = [name for name in self._columns if name not in table.column_names]
            if missing:
                message = f"The shard {self._place(path)} has no column {missing[0]!r}."
                raise DataError(message, f"Columns: {', '.join(table.column_names)}.", column=missing[0])
            table = table.select(self._columns)
        yield table.combine_chunks()
