"""Which source reads descriptions of sources: queries, dataset versions, and names of files."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from heliostat.data.data_source import DataFrameInfo, DatasetInfo
from heliostat.exceptions import ConfigurationError, DataError, UnsupportedSourceError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from heliostat.data._sources._base import Source
    from heliostat.data.data_source import DataSource

_KINDS = {DataFrameInfo: "query", DatasetInfo: "dataset version", str: "file"}


def source_from(session: Any, sources: Sequence[DataSource], **options: Any) -> Source:
    """Return the source for descriptions that are all of one kind.

    Parameters
    ----------
    session:
        Runs queries; not needed for others.
    options:
        How to read files: ``format``, ``schema``, ``partitioning``. For queries on a connection:
        ``params``. For all, though of use to files and versions alone: ``use_file_cache`` and
        ``file_cache_config``.

    Raises
    ------
    ConfigurationError
        There are queries and no session, or an option is not known.
    UnsupportedSourceError
        They are of several kinds, or of one that cannot be read.
    DataError
        There are none, or a query is not valid.
    """
    from heliostat.data._sources._concat import concatenated

    if isinstance(sources, str | DataFrameInfo | DatasetInfo):
        sources = [sources]
    kind = _kind(sources)
    if kind is str:
        from heliostat.data._sources._files import FileOptions, FilesSource

        known = _known(options, "files", "format", "schema", "partitioning")
        return FilesSource([str(source) for source in sources], FileOptions(**known))
    if kind is DataFrameInfo:
        if session is None:
            message = "A session is required to run a query."
            raise ConfigurationError(message, "Pass session=heliostat.context.get_active_session().")
        params = _known(options, "queries", "params").get("params", ())
        queries = [source.sql for source in sources if isinstance(source, DataFrameInfo)]
        return concatenated([query_source(session, query, params) for query in queries])
    from heliostat.data._sources._version import DatasetVersionSource

    cache = _known(options, "dataset versions")
    infos = [info for info in sources if isinstance(info, DatasetInfo)]
    return concatenated([DatasetVersionSource(info, **cache) for info in infos])


def query_source(session: Any, query: str, params: Sequence[Any] = ()) -> Source:
    """Return the source for a query. Raises DataError when it is not valid or returns no rows.

    ``session`` is a session, or the name or URI of a connection, whose database is not asked yet.
    """
    from heliostat._connections import Connection
    from heliostat.data._sources._dispatch import source_of
    from heliostat.data._sources._relation import RelationSource

    if isinstance(session, str | Connection):
        from heliostat.data._sources._sql import SqlSource

        return SqlSource.of(query, session, params)
    if len(params):
        message = "Parameters are for queries on a connection."
        raise ConfigurationError(message, "Pass session.sql(query, params) to DataConnector.from_dataframe.")
    if not hasattr(session, "sql"):
        message = f"A {type(session).__module__}.{type(session).__qualname__} cannot run a query."
        raise ConfigurationError(message, "Pass session=heliostat.context.get_active_session().")
    answer = session.sql(query)
    if answer is None:
        message = f"The statement returns no rows: {query}"
        raise DataError(message, "Pass a query.")
    source = source_of(answer)
    return RelationSource(source.relation, query) if isinstance(source, RelationSource) else source


def _kind(sources: Sequence[DataSource]) -> type:
    if not sources:
        message = "There are no data sources."
        raise DataError(message, "Pass at least one path, DataFrameInfo or DatasetInfo.")
    found: list[type] = []
    for source in sources:
        kind = next((kind for kind in _KINDS if isinstance(source, kind)), None)
        if kind is None:
            message = f"Unsupported data source type: {type(source).__module__}.{type(source).__qualname__}."
            raise UnsupportedSourceError(message, "Pass paths, DataFrameInfo or DatasetInfo.")
        found.append(kind)
    other = next((kind for kind in found if kind is not found[0]), None)
    if other is not None:
        message = f"Unexpected data source format (expected {_KINDS[found[0]]}, found {_KINDS[other]})."
        raise UnsupportedSourceError(message, "Read each kind of source with a connector of its own.")
    return found[0]


def _known(options: dict[str, Any], what: str, *own: str) -> dict[str, Any]:
    """Return the options, which must be those of the file cache and of ``what``."""
    from heliostat._file_cache import FileCacheConfig

    known = (*own, "use_file_cache", "file_cache_config")
    unknown = sorted(set(options) - set(known))
    if unknown:
        message = f"{unknown[0]!r} is not an option for reading {what}."
        raise ConfigurationError(message, f"Options are {', '.join(known)}.")
    FileCacheConfig.of(options.get("file_cache_config"))
    return options
