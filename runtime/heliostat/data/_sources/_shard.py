"""A shard as a source: what a rank reads instead of the whole."""

from __future__ import annotations

from typing import TYPE_CHECKING

from heliostat.data._sources._base import Source, selected, streamed

if TYPE_CHECKING:
    from collections.abc import Sequence

    import pyarrow as pa

    from heliostat.data._shards import RowSlice, Shard


class ShardSource(Source):
    """The rows of a shard. ``schema`` describes its columns; a shard of no rows has them too."""

    def __init__(self, shard: Shard, schema: pa.Schema) -> None:
        self._shard = shard
        self._schema = schema.remove_metadata()

    def schema(self) -> pa.Schema:
        return self._schema

    def count(self) -> int:
        return self._shard.rows

    def reader(self, columns: Sequence[str] | None = None, limit: int | None = None) -> pa.RecordBatchReader:
        schema = selected(self._schema, columns)
        return streamed(schema, self._shard.batches(schema.names), limit)

    def slices(self) -> tuple[RowSlice, ...]:
        return self._shard.slices
