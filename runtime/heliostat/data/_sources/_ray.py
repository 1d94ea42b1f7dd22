"""Ray Datasets: they run on Ray, and their blocks are streamed to the reader."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from heliostat.data._sources._base import Source, selected, streamed
from heliostat.data._sources._tensors import standard, standard_schema
from heliostat.data._sources._width import BATCH_ROWS, guessed, rows_at_once
from heliostat.exceptions import DataError

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    import pyarrow as pa


class RaySource(Source):
    """A ``ray.data.Dataset``. Projection and limit are part of the run."""

    owned = False

    def __init__(self, dataset: Any) -> None:
        self.dataset = dataset

    def schema(self) -> pa.Schema:
        import pyarrow as pa

        found = self.dataset.schema()
        if found is not None and isinstance(found.base_schema, pa.Schema):
            return standard_schema(found.base_schema)
        # Blocks of pandas know NumPy's types; what Arrow makes of them shows on the first rows.
        first = next(iter(_arrow_batches(self.dataset.limit(BATCH_ROWS))), None)
        if first is None:
            message = "The Ray Dataset has no rows, so its columns are not known."
            raise DataError(message, "Check what it was made from.")
        return first.schema

    def count(self) -> int:
        rows: int = self.dataset.count()
        return rows

    def reader(self, columns: Sequence[str] | None = None, limit: int | None = None) -> pa.RecordBatchReader:
        schema = selected(self.schema(), columns)
        dataset = self.dataset if columns is None else self.dataset.select_columns(schema.names)
        dataset = dataset if limit is None else dataset.limit(limit)
        tables = _arrow_batches(dataset, rows_at_once(guessed(schema)))
        return streamed(schema, (b for t in tables for b in t.to_batches()), limit)


def _arrow_batches(dataset: Any, size: int = BATCH_ROWS) -> Iterator[Any]:
    for table in dataset.iter_batches(batch_format="pyarrow", batch_size=size, prefetch_batches=1):
        yield standard(table)
