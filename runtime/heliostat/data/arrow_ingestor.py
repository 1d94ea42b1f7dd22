"""The ingestor that is used unless another is named: everything is read as Arrow batches."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Self

from heliostat.data._sources import RelationSource, Source, source_of, to_pandas
from heliostat.data.data_source import DataFrameInfo, DataSource
from heliostat.exceptions import ConfigurationError, DataError

if TYPE_CHECKING:
    from collections.abc import Sequence

    import pandas as pd
    import pyarrow as pa

__all__ = ["ArrowIngestor"]


class ArrowIngestor:
    """Reads queries of a session, and frames in memory, as Arrow.

    Parameters
    ----------
    session:
        Runs the queries among ``data_sources``.
    data_sources:
        What to read: one ``DataFrameInfo``.

    Raises
    ------
    ConfigurationError
        There is no session.
    DataError
        A source is of a kind that cannot be read, or the query is not valid.
    """

    def __init__(self, session: Any, data_sources: Sequence[DataSource]) -> None:
        if session is None:
            message = "A session is required to run a query."
            raise ConfigurationError(message, "Pass session=heliostat.context.get_active_session().")
        self._data_sources = list(data_sources)
        self._source: Source = RelationSource(_relation(session, self._data_sources))

    @classmethod
    def from_sources(cls, session: Any, sources: Sequence[DataSource]) -> Self:
        """Make an ingestor that reads ``sources`` on ``session``."""
        return cls(session, sources)

    @classmethod
    def from_arrow(cls, data: Any) -> Self:
        """Make an ingestor over a relation or frame of this process. Raises DataError."""
        ingestor = cls.__new__(cls)
        ingestor._source = source_of(data)
        relation = ingestor._source.relation if isinstance(ingestor._source, RelationSource) else None
        ingestor._data_sources = [] if relation is None else [DataFrameInfo(relation.sql_query())]
        return ingestor

    @property
    def data_sources(self) -> list[DataSource]:
        """Where the rows come from; empty for frames in memory, which have no address."""
        return list(self._data_sources)

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

    def to_pandas(self, limit: int | None = None) -> pd.DataFrame:
        """Load the first ``limit`` rows (default: all). Raises MissingDependencyError without pandas."""
        # Only batches that a query made are nobody else's and may be freed on the way.
        frame: pd.DataFrame = to_pandas(
            self.to_reader(limit=limit), owned=isinstance(self._source, RelationSource)
        )
        return frame


def _relation(session: Any, sources: Sequence[DataSource]) -> Any:
    if len(sources) != 1 or not isinstance(sources[0], DataFrameInfo):
        kinds = ", ".join(type(source).__name__ for source in sources) or "nothing"
        message = f"Unsupported data sources: {kinds}."
        raise DataError(message, "Pass exactly one DataFrameInfo.")
    relation = session.sql(sources[0].sql)
    if relation is None:
        message = f"The statement returns no rows: {sources[0].sql}"
        raise DataError(message, "Pass a query.")
    return relation
