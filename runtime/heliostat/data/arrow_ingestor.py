"""The ingestor that is used unless another is named: everything is read as Arrow batches."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Self

from heliostat.data._sources import Source, source_from, source_of

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    import numpy as np
    import numpy.typing as npt
    import pandas as pd
    import pyarrow as pa

    from heliostat.data.data_source import DataSource

__all__ = ["ArrowIngestor"]


class ArrowIngestor:
    """Reads queries, dataset versions, files, and what a process has at hand, as Arrow.

    Parameters
    ----------
    session:
        Runs the queries among ``data_sources``; others need none.
    data_sources:
        What to read, all of one kind.
    format:
        Format of the files, where their names do not say it.
    kwargs:
        Further options for files: ``schema``, ``partitioning``, ``use_file_cache``,
        ``file_cache_config``.

    Raises
    ------
    ConfigurationError
        There are queries and no session.
    DataError
        A source is of a kind that cannot be read, or a query is not valid.
    """

    def __init__(
        self,
        session: Any,
        data_sources: Sequence[DataSource],
        format: str | None = None,  # noqa: A002 - the documented name
        **kwargs: Any,
    ) -> None:
        options = kwargs if format is None else {**kwargs, "format": format}
        self._source: Source = source_from(session, data_sources, **options)

    @classmethod
    def from_sources(cls, session: Any, sources: Sequence[DataSource], **kwargs: Any) -> Self:
        """Make an ingestor that reads ``sources``; queries run on ``session``."""
        return cls(session, sources, **kwargs)

    @classmethod
    def from_ray_dataset(cls, ray_ds: Any, **kwargs: Any) -> Self:
        """Make an ingestor that reads a Ray Dataset."""
        return cls.from_arrow(ray_ds, **kwargs)

    @classmethod
    def from_arrow(
        cls,
        data: Any,
        use_file_cache: bool | None = None,
        file_cache_config: Mapping[str, Any] | None = None,
    ) -> Self:
        """Make an ingestor over a relation, frame or dataset of this process.

        Parameters
        ----------
        data:
            What ``DataConnector.from_dataframe`` takes.
        use_file_cache, file_cache_config:
            Accepted where a setting is passed to whatever is read. What a process has at hand reads
            its own files, if it has any, without the cache.

        Raises
        ------
        ConfigurationError
            A setting cannot be used.
        DataError
            ``data`` cannot be read as rows.
        """
        from heliostat._file_cache import FileCacheConfig

        del use_file_cache
        FileCacheConfig.of(file_cache_config)
        return cls.from_source(source_of(data))

    @classmethod
    def from_source(cls, source: Source) -> Self:
        """Make an ingestor over a source."""
        ingestor = cls.__new__(cls)
        ingestor._source = source
        return ingestor

    @property
    def source(self) -> Source:
        """Reads the rows as Arrow."""
        return self._source

    @property
    def data_sources(self) -> list[DataSource]:
        """Where the rows come from; empty for frames in memory, which have no address."""
        return self._source.data_sources()

    @property
    def schema(self) -> pa.Schema:
        """Names and types of the columns; reads no rows."""
        return self._source.schema()

    def count(self) -> int:
        """Count the rows; DuckDB counts its own."""
        return self._source.count()

    def to_reader(
        self, columns: Sequence[str] | None = None, limit: int | None = None
    ) -> pa.RecordBatchReader:
        """Stream the rows of ``columns`` (default: all), at most ``limit`` of them."""
        return self._source.reader(columns, limit)

    def to_batches(
        self,
        batch_size: int,
        shuffle: bool = True,
        drop_last_batch: bool = True,
    ) -> Iterator[dict[str, npt.NDArray[np.generic]]]:
        """Yield the rows as arrays by column, ``batch_size`` rows at a time."""
        from heliostat.data._batches import batches

        return batches(self._source, batch_size, shuffle=shuffle, drop_last_batch=drop_last_batch)

    def to_pandas(self, limit: int | None = None) -> pd.DataFrame:
        """Load the first ``limit`` rows (default: all). Raises MissingDependencyError without pandas."""
        from heliostat.data._pandas import to_pandas

        return to_pandas(self._source, limit)
