"""Rows as a Ray Dataset that Ray's workers read. This module imports Ray Data."""

from __future__ import annotations

import pickle
from typing import TYPE_CHECKING, Any

import ray.data
from ray.data.block import BlockMetadata
from ray.data.datasource import Datasource, ReadTask

from heliostat.data._batches import rebatched
from heliostat.data._shards import Shard, divided
from heliostat.data._sources._frames import PandasSource, StreamSource, TableSource
from heliostat.data._sources._ray import RaySource
from heliostat.exceptions import DataError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from heliostat.data._sources._base import Source

_BLOCK_ROWS = 262_144
"""Rows of a block of what this process puts into the object store."""
_GUESSED_ROW = 64
"""Bytes of a row, where nothing is known."""


def ray_dataset(source: Source) -> Any:
    """Return a lazy data set; what is in this process's memory is put into the object store now."""
    if isinstance(source, RaySource):
        return source.dataset
    slices = source.slices()
    if slices is not None:
        return ray.data.read_datasource(SliceDatasource(slices, _row_bytes(source)))
    if not isinstance(source, PandasSource | StreamSource | TableSource):
        parts = source.parts() if hasattr(source, "parts") else [source]
        try:
            return ray.data.read_datasource(SourceDatasource([pickle.dumps(part) for part in parts]))
        except DataError:
            pass  # Of a database that only this process has: its rows go by way of this process.
    schema = source.schema()
    blocks = [ray.put(_without_views(table)) for table in rebatched(source.reader(), _BLOCK_ROWS)]
    return ray.data.from_arrow_refs(blocks) if blocks else ray.data.from_arrow(schema.empty_table())


class SliceDatasource(Datasource):  # type: ignore[misc]
    """Parts of Parquet files, divided into as many tasks as Ray wants; rows stay in order."""

    def __init__(self, slices: Sequence[Any], row_bytes: int) -> None:
        super().__init__()
        self._slices = tuple(slices)
        self._row_bytes = row_bytes

    def get_name(self) -> str:
        """Name in Ray's plans."""
        return "Heliostat"

    def estimate_inmemory_data_size(self) -> int | None:
        """Bytes of all rows, about."""
        rows: int = sum(piece.rows for piece in self._slices)
        return rows * self._row_bytes

    def get_read_tasks(
        self, parallelism: int, per_task_row_limit: int | None = None, data_context: Any = None
    ) -> list[ReadTask]:
        """Make one task for each shard that has rows."""
        shards = divided(self._slices, max(parallelism, 1))
        tasks = []
        for shard in shards:
            if shard.rows or shard is shards[0]:
                files = tuple(dict.fromkeys(piece.path for piece in shard.slices))
                metadata = BlockMetadata(
                    num_rows=shard.rows,
                    size_bytes=shard.rows * self._row_bytes,
                    exec_stats=None,
                    input_files=files,
                )
                tasks.append(ReadTask(_reads(shard), metadata, per_task_row_limit=per_task_row_limit))
        return tasks


class SourceDatasource(Datasource):  # type: ignore[misc]
    """Sources that cannot be divided, each read by one task."""

    def __init__(self, pickled: Sequence[bytes]) -> None:
        super().__init__()
        self._pickled = tuple(pickled)

    def get_name(self) -> str:
        """Name in Ray's plans."""
        return "Heliostat"

    def estimate_inmemory_data_size(self) -> int | None:
        """Not known before it is read."""
        return None

    def get_read_tasks(
        self, parallelism: int, per_task_row_limit: int | None = None, data_context: Any = None
    ) -> list[ReadTask]:
        """Make one task for each source."""
        metadata = BlockMetadata(num_rows=None, size_bytes=None, exec_stats=None, input_files=None)
        return [
            ReadTask(_reads_source(part), metadata, per_task_row_limit=per_task_row_limit)
            for part in self._pickled
        ]


def _reads(shard: Shard) -> Callable[[], Iterator[Any]]:
    return lambda: map(_without_views, shard.tables())


def _reads_source(pickled: bytes) -> Callable[[], Iterator[Any]]:
    def read() -> Iterator[Any]:
        source: Source = pickle.loads(pickled)  # noqa: S301 - our own driver sent it
        empty = True
        for table in rebatched(source.reader(), _BLOCK_ROWS):
            empty = False
            yield _without_views(table)
        if empty:
            yield source.schema().empty_table()

    return read


def _without_views(table: Any) -> Any:
    """Text and bytes in the layout that Ray can send."""
    import pyarrow as pa

    plain = {pa.string_view(): pa.string(), pa.binary_view(): pa.binary()}
    for index, field in enumerate(table.schema):
        if field.type in plain:
            column = table.column(index).cast(plain[field.type])
            table = table.set_column(index, field.with_type(column.type), column)
    return table


def _row_bytes(source: Source) -> int:
    widths = []
    for field in source.schema():
        try:
            widths.append(max(field.type.bit_width // 8, 1))
        except ValueError:
            widths.append(_GUESSED_ROW)
    return sum(widths)
