"""``ShardedDataConnector``: each rank of a training gets its own part of the rows."""

from __future__ import annotations

from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, Self

from heliostat.data._rank import current_rank
from heliostat.data._shards import Shard, divided, sharded
from heliostat.data._sources._frames import PandasSource, StreamSource, TableSource
from heliostat.data._sources._shard import ShardSource
from heliostat.data.arrow_ingestor import ArrowIngestor
from heliostat.data.data_connector import DataConnector
from heliostat.data.data_source import DataFrameInfo
from heliostat.exceptions import ConfigurationError, DataError

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    import pyarrow as pa

    from heliostat.data.data_ingestor import DataIngestor
    from heliostat.data.data_source import DataSource

__all__ = ["ShardedDataConnector"]


class ShardedDataConnector(DataConnector):
    """A ``DataConnector`` that is divided among the ranks of a training.

    In the notebook it is all of the rows. In a rank, ``get_shard`` is that rank's part: consecutive
    rows, every row in one part.

    Parameters
    ----------
    ingestor:
        Does the reading.
    equal:
        All shards have the same number of rows, and the remainder (fewer rows than there are
        ranks) is left out. Otherwise no row is, and the numbers differ by one at most.
    """

    def __init__(self, ingestor: DataIngestor, *, equal: bool = True, **kwargs: Any) -> None:
        super().__init__(ingestor, **kwargs)
        self._equal = equal
        self._shards: tuple[Shard, ...] | None = None
        self._schema: pa.Schema | None = None

    @classmethod
    def from_dataframe(
        cls,
        df: Any,
        ingestor_class: type[DataIngestor] | None = None,
        equal: bool = True,
        **kwargs: Any,
    ) -> Self:
        """Divide a DataFrame; see ``DataConnector.from_dataframe``."""
        return super().from_dataframe(df, ingestor_class, equal=equal, **kwargs)

    @classmethod
    def from_dataset(
        cls,
        ds: Any,
        ingestor_class: type[DataIngestor] | None = None,
        equal: bool = True,
        **kwargs: Any,
    ) -> Self:
        """Divide the selected version of a dataset."""
        return super().from_dataset(ds, ingestor_class, equal=equal, **kwargs)

    @classmethod
    def from_ray_dataset(
        cls,
        ray_ds: Any,
        ingestor_class: type[DataIngestor] | None = None,
        equal: bool = True,
        **kwargs: Any,
    ) -> Self:
        """Divide a Ray Dataset."""
        return super().from_ray_dataset(ray_ds, ingestor_class, equal=equal, **kwargs)

    @classmethod
    def from_sources(  # type: ignore[override]
        cls,
        sources: Sequence[DataSource],
        ingestor_class: type[DataIngestor] | None = None,
        equal: bool = True,
        *,
        session: Any = None,
        **kwargs: Any,
    ) -> Self:
        """Divide sources, all of one kind; queries run on ``session``, by default the active one."""
        if session is None and any(isinstance(source, DataFrameInfo) for source in sources):
            from heliostat.context import get_active_session

            session = get_active_session()
        return cls._of_sources(session, sources, ingestor_class, equal=equal, **kwargs)

    @classmethod
    def from_sql(
        cls,
        query: str,
        session: Any = None,
        ingestor_class: type[DataIngestor] | None = None,
        equal: bool = True,
        **kwargs: Any,
    ) -> Self:
        """Divide the rows of a query; see ``DataConnector.from_sql``."""
        return super().from_sql(query, session, ingestor_class, equal=equal, **kwargs)

    def get_shard(self) -> DataConnector:
        """Return the part of the rank that asks; the parts of all ranks are the rows, each once.

        Raises
        ------
        ConfigurationError
            This process is no rank of a training, or of another number of ranks than was planned for.
        DataError
            The rows are those of a query or a Ray Dataset, which nobody laid out for the ranks.
        """
        rank = current_rank()
        if rank is None:
            message = "get_shard() was called outside of a training: this process is no rank."
            raise ConfigurationError(message, "Call it in the function that the ranks run.")
        schema = self._schema if self._schema is not None else self.schema
        if self._shards is not None:
            if len(self._shards) != rank.world_size:
                message = (
                    f"The rows were laid out for {len(self._shards)} ranks; there are {rank.world_size}."
                )
                raise ConfigurationError(message, "Start the training again.")
            return self._connector(ShardSource(self._shards[rank.rank], schema))
        source = self.source
        slices = source.slices()
        if slices is not None:
            shard = divided(slices, rank.world_size, schema.names, equal=self._equal)[rank.rank]
            return self._connector(ShardSource(shard, schema))
        if isinstance(source, PandasSource | StreamSource | TableSource):
            table = source.reader().read_all()
            start, stop = bounds(table.num_rows, rank.rank, rank.world_size, equal=self._equal)
            return self._connector(TableSource(table.slice(start, stop - start)))
        message = "The rows of a query have no fixed order, so ranks cannot divide them by themselves."
        action = (
            "Pass the connector to the trainer, or lay it out first: with connector.laid_out(ranks) as c."
        )
        raise DataError(message, action)

    @contextmanager
    def laid_out(self, ranks: int, directory: str | None = None) -> Iterator[ShardedDataConnector]:
        """Fix the shards of ``ranks`` ranks, for the length of a ``with`` block.

        What the block gets is small and can be sent to the ranks. Rows that do not lie in Parquet
        files are written once; see ``heliostat.data._shards.sharded`` for ``directory`` and errors.
        """
        with sharded(self, ranks, equal=self._equal, directory=directory) as shards:
            schema = self.schema
            whole = Shard(tuple(piece for shard in shards for piece in shard.slices), shards[0].columns)
            ingestor = ArrowIngestor.from_source(ShardSource(whole, schema))
            placed = type(self)(ingestor, equal=self._equal, expand_dims=self._expand_dims)
            placed._shards, placed._schema = tuple(shards), schema
            yield placed

    def _connector(self, source: Any) -> DataConnector:
        return DataConnector(ArrowIngestor.from_source(source), expand_dims=self._expand_dims)


def bounds(rows: int, rank: int, ranks: int, *, equal: bool) -> tuple[int, int]:
    """First row of a rank's part, and the one after its last."""
    if equal:
        return rows // ranks * rank, rows // ranks * (rank + 1)
    return rows * rank // ranks, rows * (rank + 1) // ranks
