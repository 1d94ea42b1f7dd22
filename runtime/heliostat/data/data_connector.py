"""``DataConnector``: one way from wherever data is to whatever a library wants."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Self

from heliostat.data._adapted import source_for
from heliostat.data._outputs import Outputs
from heliostat.data.arrow_ingestor import ArrowIngestor
from heliostat.data.data_source import DataFrameInfo
from heliostat.exceptions import ConfigurationError, DataError, UnsupportedSourceError

if TYPE_CHECKING:
    from collections.abc import Sequence

    import pyarrow as pa

    from heliostat.data._sources import Source
    from heliostat.data.data_ingestor import DataIngestor
    from heliostat.data.data_source import DataSource

__all__ = ["DataConnector"]


class DataConnector(Outputs):
    """A recipe for reading rows. Nothing is read until a ``to_...`` method or ``count`` is called.

    Rows stay where they are: files are read where they lie and column by column, queries run where
    the tables are, and each ``to_...`` call reads anew. Frames in memory are referred to, not
    copied. A ``RecordBatchReader`` can be read once; its second reading raises ``DataError``.

    A connector can be pickled, so a worker can read by itself: what travels is the recipe, and
    of frames in memory their rows.

    Parameters
    ----------
    ingestor:
        Does the reading.
    expand_dims:
        Whether ``to_torch_dataset`` gives columns of numbers the shape ``(rows, 1)``.
    """

    DEFAULT_INGESTOR_CLASS: type[DataIngestor] = ArrowIngestor

    def __init__(self, ingestor: DataIngestor, *, expand_dims: bool = True, **kwargs: Any) -> None:
        if kwargs:
            message = f"{next(iter(kwargs))!r} is not an option of a connector."
            raise ConfigurationError(message, "Leave it out.")
        if not hasattr(ingestor, "to_batches"):
            message = f"DataConnector() takes an ingestor, not a {type(ingestor).__qualname__}."
            action = (
                "Use DataConnector.from_dataframe for frames, from_sources for files, from_sql for queries."
            )
            raise ConfigurationError(message, action)
        self._ingestor = ingestor
        self._expand_dims = expand_dims

    def __repr__(self) -> str:
        shown = ", ".join(map(str, self.data_sources)) or type(self._ingestor).__name__
        return f"{type(self).__name__}({shown})"

    @classmethod
    def from_dataframe(cls, df: Any, ingestor_class: type[DataIngestor] | None = None, **kwargs: Any) -> Self:
        """Read a DataFrame.

        Parameters
        ----------
        df:
            DuckDB relation, pandas or Polars DataFrame, Polars LazyFrame, pyarrow Table, Dataset or
            RecordBatchReader, Snowpark DataFrame, Ray or Hugging Face Dataset, Iceberg table, or any
            object with ``__arrow_c_stream__``.
        ingestor_class:
            Reads instead of ``DEFAULT_INGESTOR_CLASS``; gets ``kwargs``. One without the method
            ``from_arrow`` gets the query behind ``df``.

        Raises
        ------
        DataError
            ``df`` cannot be read as rows, or is a Snowpark DataFrame of several queries.
        """
        ingestor = ingestor_class or cls.DEFAULT_INGESTOR_CLASS
        own, options = _apart(kwargs)
        if hasattr(ingestor, "from_arrow"):
            return cls(ingestor.from_arrow(df, **options), **own)
        return cls(_from_query(ingestor, df, options), **own)

    @classmethod
    def from_sql(
        cls, query: str, session: Any = None, ingestor_class: type[DataIngestor] | None = None, **kwargs: Any
    ) -> Self:
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
        return cls._of_sources(session, [DataFrameInfo(query)], ingestor_class, **kwargs)

    @classmethod
    def from_dataset(cls, ds: Any, ingestor_class: type[DataIngestor] | None = None, **kwargs: Any) -> Self:
        """Read the selected version of a ``heliostat.dataset.Dataset``, all of its columns.

        Raises
        ------
        DataError
            No version is selected.
        """
        version = ds.selected_version
        if version is None:
            message = f"No version of the dataset {ds.fully_qualified_name} is selected."
            raise DataError(message, "Pass dataset.select_version(name).")
        session = getattr(ds, "_session", None)
        return cls._of_sources(session, ds.read.data_sources, ingestor_class, **kwargs)

    @classmethod
    def from_ray_dataset(
        cls, ray_ds: Any, ingestor_class: type[DataIngestor] | None = None, **kwargs: Any
    ) -> Self:
        """Read a Ray Dataset, as often as it is asked; Ray runs it each time."""
        own, options = _apart(kwargs)
        ingestor = ingestor_class or cls.DEFAULT_INGESTOR_CLASS
        return cls(ingestor.from_ray_dataset(ray_ds, **options), **own)

    @classmethod
    def from_ray_ds(cls, ray_ds: Any, **kwargs: Any) -> Self:
        """Read a Ray Dataset: the older name of ``from_ray_dataset``."""
        return cls.from_ray_dataset(ray_ds, **kwargs)

    @classmethod
    def from_sources(
        cls,
        session: Any,
        sources: Sequence[DataSource],
        ingestor_class: type[DataIngestor] | None = None,
        **kwargs: Any,
    ) -> Self:
        """Read descriptions of sources, one after the other.

        Parameters
        ----------
        session:
            Runs queries; the others need none.
        sources:
            All of one kind: ``DataFrameInfo`` (a query), ``DatasetInfo`` (a version of a dataset), or
            paths and URLs of files and directories, ``@stage/path`` among them.
        ingestor_class:
            Reads instead of ``DEFAULT_INGESTOR_CLASS``; gets ``kwargs``.
        **kwargs:
            For files: ``format`` where the names do not say it, ``schema`` for columns and types that
            differ between files, ``partitioning="hive"``. ``use_file_cache`` and ``file_cache_config``
            are for the node's cache of remote files, which is on by default; see ``docs/stages.md``.

        Raises
        ------
        ConfigurationError
            There are queries and no session, or an option is not known.
        UnsupportedSourceError
            The sources are of several kinds, or of one that cannot be read.
        """
        return cls._of_sources(session, sources, ingestor_class, **kwargs)

    @classmethod
    def _of_sources(
        cls,
        session: Any,
        sources: Sequence[DataSource],
        ingestor_class: type[DataIngestor] | None,
        **kwargs: Any,
    ) -> Self:
        own, options = _apart(kwargs)
        ingestor = ingestor_class or cls.DEFAULT_INGESTOR_CLASS
        return cls(ingestor.from_sources(session, sources, **options), **own)

    @property
    def data_sources(self) -> list[DataSource]:
        """Where the rows come from; empty for frames in memory, which have no address."""
        return self._ingestor.data_sources

    @property
    def source(self) -> Source:
        """What reads the rows as Arrow; for the modules of this package and those that train."""
        return source_for(self._ingestor)

    @property
    def schema(self) -> pa.Schema:
        """Names and Arrow types of the columns; reads no rows where the source can tell."""
        return self.source.schema()

    @property
    def columns(self) -> list[str]:
        """Names of the columns, in order."""
        return list(self.schema.names)

    def count(self) -> int:
        """Count the rows. Raises DataError for a RecordBatchReader, which counting would use up."""
        return self.source.count()


def _apart(kwargs: dict[str, Any]) -> tuple[dict[str, Any], dict[str, Any]]:
    """Part the options of a connector from those of its ingestor."""
    own = {name: value for name, value in kwargs.items() if name in ("expand_dims", "equal")}
    return own, {name: value for name, value in kwargs.items() if name not in own}


def _from_query(ingestor: type[DataIngestor], df: Any, options: dict[str, Any]) -> DataIngestor:
    """Have an ingestor read the query behind a DataFrame, on the session that the DataFrame is of."""
    from heliostat.data._sources import source_of

    described = source_of(df).data_sources()
    if not described:
        message = f"{ingestor.__name__} reads sources by name, and a {type(df).__qualname__} has none."
        raise UnsupportedSourceError(message, "Leave ingestor_class out, or pass a relation or a query.")
    session = getattr(df, "session", None)
    if session is None:
        from heliostat.context import get_active_session

        session = get_active_session()
    return ingestor.from_sources(session, described, **options)
