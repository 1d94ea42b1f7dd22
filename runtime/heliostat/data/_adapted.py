"""Rows of an ingestor that knows only the documented methods, as a source like every other."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from heliostat.data._sources._base import Source, selected, streamed
from heliostat.data._sources._tensors import stacked, tensor_array
from heliostat.data._sources._width import BATCH_ROWS
from heliostat.exceptions import DataError

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    import pyarrow as pa

    from heliostat.data.data_ingestor import DataIngestor
    from heliostat.data.data_source import DataSource


class IngestorSource(Source):
    """What ``to_batches`` of an ingestor gives, turned into Arrow.

    Types are those of the first batch. Later ones must fit them.
    """

    def __init__(self, ingestor: DataIngestor) -> None:
        self._ingestor = ingestor

    def schema(self) -> pa.Schema:
        import pyarrow as pa

        known = getattr(self._ingestor, "schema", None)
        if isinstance(known, pa.Schema):
            return known
        first = next(self._batches(), None)
        if first is not None:
            return first.schema
        return pa.Schema.from_pandas(self._ingestor.to_pandas(0), preserve_index=False)

    def count(self) -> int:
        return sum(batch.num_rows for batch in self._batches())

    def reader(self, columns: Sequence[str] | None = None, limit: int | None = None) -> pa.RecordBatchReader:
        schema = selected(self.schema(), columns)
        return streamed(schema, (batch.select(schema.names) for batch in self._batches()), limit)

    def data_sources(self) -> list[DataSource]:
        return self._ingestor.data_sources

    def _batches(self) -> Iterator[pa.RecordBatch]:
        for batch in self._ingestor.to_batches(BATCH_ROWS, shuffle=False, drop_last_batch=False):
            yield record_batch(batch)


def source_for(ingestor: DataIngestor) -> Source:
    """Return the ingestor's own source, or one that is made of its batches."""
    own = getattr(ingestor, "source", None)
    return own if isinstance(own, Source) else IngestorSource(ingestor)


def record_batch(batch: Mapping[str, Any]) -> pa.RecordBatch:
    """Turn arrays by column into a record batch. Raises DataError, with the name of the column."""
    import pyarrow as pa

    columns = {name: _column(name, values) for name, values in batch.items()}
    lengths = {name: len(column) for name, column in columns.items()}
    if len(set(lengths.values())) > 1:
        message = f"The ingestor gave a batch whose columns have {lengths} rows."
        raise DataError(message, "Give each column of a batch as many rows.")
    return pa.RecordBatch.from_arrays(list(columns.values()), list(columns))


def _column(name: str, values: Any) -> pa.Array:
    import numpy as np
    import pyarrow as pa

    try:
        if not isinstance(values, np.ndarray):
            return pa.array(values)
        if values.dtype == object and values.ndim == 1 and len(values) and isinstance(values[0], np.ndarray):
            values = stacked(values)
        if values.ndim == 1:
            return pa.array(values)
        if values.ndim == 2:
            return pa.FixedSizeListArray.from_arrays(pa.array(values.reshape(-1)), values.shape[1])
        return tensor_array(name, values)
    except (pa.ArrowException, TypeError, ValueError) as error:
        message = f"The ingestor's column {name!r} cannot be read: {' '.join(str(error).split())}."
        raise DataError(message, "Give it as an array of one type.", column=name) from error
