"""``DataConnector``: one way from wherever data is to whatever a library wants."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from heliostat.data.arrow_ingestor import ArrowIngestor
from heliostat.data.data_source import DataFrameInfo
from heliostat.exceptions import ConfigurationError

if TYPE_CHECKING:
    from collections.abc import Sequence

    import pandas as pd
    import pyarrow as pa

    from heliostat.data._sources import Source
    from heliostat.data.data_ingestor import DataIngestor
    from heliostat.data.data_source import DataSource

__all__ = ["DataConnector"]


class DataConnector:
    """A recipe for reading rows. Nothing is read until a ``to_...`` method or ``count`` is called.

    A connector over a DuckDB relation or a query leaves the rows where they are: ``columns``,
    ``schema`` and ``count`` are answered by DuckDB, ``limit`` reaches the query, and each
    ``to_...`` call runs it anew. Frames in memory are referred to, not copied. A
    ``RecordBatchReader`` can be read once; its second reading raises ``DataError``.

    Parameters
    ----------
    ingestor:
        Does the reading.
    """

    DEFAULT_INGESTOR_CLASS: type[DataIngestor] = ArrowIngestor

    def __init__(self, ingestor: DataIngestor) -> None:
        self._ingestor = ingestor

    def __repr__(self) -> str:
        shown = ", ".join(f"{field.name}: {field.type}" for field in self.schema)
        return f"DataConnector({shown})"

    @classmethod
    def from_dataframe(
        cls, df: Any, ingestor_class: type[DataIngestor] | None = None, **kwargs: Any
    ) -> DataConnector:
        """Read a DataFrame.

        Parameters
        ----------
        df:
            DuckDB relation, pandas or Polars DataFrame, pyarrow Table or RecordBatchReader, or
            any object with ``__arrow_c_stream__``.
        ingestor_class:
            Reads instead of ``DEFAULT_INGESTOR_CLASS``; gets ``kwargs``.

        Raises
        ------
        DataError
            ``df`` cannot be read as rows.
        """
        return cls((ingestor_class or cls.DEFAULT_INGESTOR_CLASS).from_arrow(df, **kwargs))

    @classmethod
    def from_sql(
        cls, query: str, session: Any = None, ingestor_class: type[DataIngestor] | None = None, **kwargs: Any
    ) -> DataConnector:
        """Read the rows of a SQL query.

        Parameters
        ----------
        query:
            One query; it is run when rows are asked for.
        session:
            Runs it: a session (default: the active one), which checks it now; or the name or URI of
            a connection to PostgreSQL or SQLite, see ``heliostat.connections``.
        ingestor_class:
            Reads instead of ``DEFAULT_INGESTOR_CLASS``; gets ``kwargs``.
        **kwargs:
            ``params=[...]``: values for ``$1``, ``$2`` (PostgreSQL) or ``?`` (SQLite) in the query.

        Raises
        ------
        DataError
            The query is not valid.
        """
        if session is None:
            from heliostat.context import get_active_session

            session = get_active_session()
        ingestor = ingestor_class or cls.DEFAULT_INGESTOR_CLASS
        return cls(ingestor.from_sources(session, [DataFrameInfo(query)], **kwargs))

    @classmethod
    def from_sources(
        cls,
        session: Any,
        sources: Sequence[DataSource],
        ingestor_class: type[DataIngestor] | None = None,
        **kwargs: Any,
    ) -> DataConnector:
        """Read descriptions of sources, all of one kind; queries run on ``session``."""
        return cls((ingestor_class or cls.DEFAULT_INGESTOR_CLASS).from_sources(session, sources, **kwargs))

    @property
    def source(self) -> Source:
        """What reads the rows as Arrow; for the modules of this package and those that train."""
        return self._ingestor.source

    @property
    def data_sources(self) -> list[DataSource]:
        """Where the rows come from; empty for frames in memory, which have no address."""
        return self._ingestor.data_sources

    @property
    def schema(self) -> pa.Schema:
        """Names and Arrow types of the columns; reads no rows."""
        return self._ingestor.schema

    @property
    def columns(self) -> list[str]:
        """Names of the columns, in order."""
        return list(self.schema.names)

    def count(self) -> int:
        """Count the rows. Raises DataError for a RecordBatchReader, which counting would use up."""
        return self._ingestor.count()

    def to_pandas(self, limit: int | None = None) -> pd.DataFrame:
        """Load rows into a pandas DataFrame, in order.

        Parameters
        ----------
        limit:
            Load at most the first ``limit`` rows; default is all of them.

        Raises
        ------
        ConfigurationError
            ``limit`` is negative.
        MissingDependencyError
            pandas is not installed.
        """
        if limit is not None and limit < 0:
            message = f"limit={limit} is negative."
            raise ConfigurationError(message, "Pass 0 or more, or None for all rows.")
        return self._ingestor.to_pandas(limit)

    def to_arrow(self) -> pa.Table:
        """Load all rows into a pyarrow Table."""
        return self._ingestor.to_reader().read_all()

    def to_reader(self, columns: Sequence[str] | None = None) -> pa.RecordBatchReader:
        """Stream the rows as Arrow record batches.

        A reader over a relation keeps the session's connection busy until it is read to its end or closed.
        """
        return self._ingestor.to_reader(columns)
