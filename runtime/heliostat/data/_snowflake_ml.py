"""The reader that ``snowflake-ml-python`` uses in our runtime, instead of its own.

It asks for one through the module ``runtime_external_entities``. Queries are streamed as their
chunks arrive, where its own reader holds all of the result. Versions of datasets, which lie behind
a filesystem of its own, are left to its own reader.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Self

from heliostat.data._sources import source_from
from heliostat.data._sources._base import streamed
from heliostat.exceptions import ConfigurationError, DataError, UnsupportedSourceError

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    import pyarrow as pa

_WINDOW_ROWS = 1_000_000
"""Rows that are shuffled among each other."""


class SnowflakeIngestor:
    """Reads files, queries of a Snowpark session, and Ray Datasets, as batches of NumPy arrays."""

    def __init__(self, session: Any, data_sources: Sequence[Any], source: Any) -> None:
        self._session = session
        self._data_sources = list(data_sources)
        self._source = source

    @classmethod
    def from_sources(cls, session: Any, sources: Sequence[Any], **kwargs: Any) -> Any:
        """Make a reader of sources, all of one kind. Raises DataError for kinds that are mixed."""
        del kwargs
        kinds = {type(source).__name__ for source in sources}
        if len(kinds) != 1:
            message = f"Unexpected data source format (found {', '.join(sorted(kinds)) or 'none'})."
            raise UnsupportedSourceError(message, "Pass sources of one kind.")
        (kind,) = kinds
        if kind == "str":
            return cls(session, sources, source_from(None, [str(source) for source in sources]))
        if kind == "DataFrameInfo":
            if session is None:
                message = "A session is required to run a query."
                raise ConfigurationError(message, "Pass a Snowpark session.")
            return cls(session, sources, _Queries(session, [source.sql for source in sources]))
        from snowflake.ml.data._internal.arrow_ingestor import ArrowIngestor

        return ArrowIngestor.from_sources(session, sources)

    @classmethod
    def from_ray_dataset(cls, ray_ds: Any, **kwargs: Any) -> Self:
        """Make a reader of a Ray Dataset."""
        del kwargs
        return cls(None, [], _RayRows(ray_ds))

    @property
    def data_sources(self) -> list[Any]:
        """What it was made from."""
        return list(self._data_sources)

    def to_batches(
        self, batch_size: int, shuffle: bool = True, drop_last_batch: bool = True
    ) -> Iterator[dict[str, Any]]:
        """Give columns as arrays, ``batch_size`` rows at a time; shuffled within a million rows."""
        if batch_size < 1:
            message = f"batch_size={batch_size} is not above 0."
            raise ConfigurationError(message, "Pass 1 or more.")
        left: Any = None
        for window in _windows(
            self._source.reader(), max(_WINDOW_ROWS, batch_size) if shuffle else batch_size
        ):
            rows = _shuffled(window) if shuffle else window
            left = rows if left is None else _joined(left, rows)
            whole = left.num_rows - left.num_rows % batch_size
            for start in range(0, whole, batch_size):
                yield _arrays(left.slice(start, batch_size))
            left = left.slice(whole)
        if left is not None and left.num_rows and not drop_last_batch:
            yield _arrays(left)

    def to_pandas(self, limit: int | None = None) -> Any:
        """Load the first ``limit`` rows (default: all)."""
        return self._source.reader(limit=limit).read_all().to_pandas(split_blocks=True, self_destruct=True)

    def to_ray_dataset(self) -> Any:
        """Give the rows to Ray Data; files are read by its workers."""
        import ray

        if isinstance(self._source, _RayRows):
            return self._source.dataset
        return ray.data.from_arrow(self._source.reader().read_all())


class _Queries:
    """Queries of a Snowpark session, one after the other; their chunks are taken as they arrive."""

    def __init__(self, session: Any, queries: Sequence[str]) -> None:
        self._session = session
        self._queries = list(queries)

    def reader(self, columns: Sequence[str] | None = None, limit: int | None = None) -> pa.RecordBatchReader:
        chunks = self._chunks()
        first = next(chunks, None)
        if first is None:
            message = "The query returned no rows, and so no columns."
            raise DataError(message, "Check the query.")

        def batches() -> Iterator[Any]:
            yield from first.to_batches()
            for chunk in chunks:
                yield from chunk.to_batches()

        del columns
        return streamed(first.schema, batches(), limit)

    def _chunks(self) -> Iterator[Any]:
        for query in self._queries:
            with self._session.connection.cursor() as cursor:
                cursor.execute(query)
                yield from cursor.fetch_arrow_batches()


class _RayRows:
    """A Ray Dataset."""

    def __init__(self, dataset: Any) -> None:
        self.dataset = dataset

    def reader(self, columns: Sequence[str] | None = None, limit: int | None = None) -> pa.RecordBatchReader:
        del columns
        tables = self.dataset.iter_batches(batch_size=None, batch_format="pyarrow")
        first = next(iter(tables := iter(tables)), None)
        if first is None:
            message = "The Ray Dataset has no rows."
            raise DataError(message)

        def batches() -> Iterator[Any]:
            yield from first.to_batches()
            for table in tables:
                yield from table.to_batches()

        return streamed(first.schema, batches(), limit)


def _windows(reader: Any, rows: int) -> Iterator[Any]:
    import pyarrow as pa

    held: list[Any] = []
    count = 0
    for batch in reader:
        held.append(batch)
        count += batch.num_rows
        if count >= rows:
            yield pa.Table.from_batches(held)
            held, count = [], 0
    if count:
        yield pa.Table.from_batches(held)


def _shuffled(table: Any) -> Any:
    import numpy as np

    return table.take(np.random.default_rng().permutation(table.num_rows))


def _joined(first: Any, second: Any) -> Any:
    import pyarrow as pa

    return pa.concat_tables([first, second])


def _arrays(table: Any) -> dict[str, Any]:
    return {name: _array(name, table.column(name).combine_chunks()) for name in table.column_names}


def _array(name: str, column: Any) -> Any:
    """One column as an array; lists of one length are rows of it. Raises DataError by name."""
    import pyarrow as pa

    kind = column.type
    if pa.types.is_decimal(kind):
        column = column.cast(pa.float64() if kind.scale > 0 else pa.int64())
    if pa.types.is_list(kind) or pa.types.is_large_list(kind) or pa.types.is_fixed_size_list(kind):
        values = column.flatten().to_numpy(zero_copy_only=False)
        if column.null_count or (len(column) and len(values) % len(column)):
            message = f"The column {name!r} has lists of several lengths."
            raise DataError(message, "Pad them to one length.", column=name)
        return values.reshape(len(column), -1)
    return column.to_numpy(zero_copy_only=False)
