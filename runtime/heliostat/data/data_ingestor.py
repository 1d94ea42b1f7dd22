"""What a ``DataConnector`` asks of the class that reads for it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Protocol, Self

if TYPE_CHECKING:
    from collections.abc import Sequence

    import pandas as pd
    import pyarrow as pa

    from heliostat.data._sources import Source
    from heliostat.data.data_source import DataSource

__all__ = ["DataIngestor"]


class DataIngestor(Protocol):
    """Reads rows of one data set, in batches or as a whole.

    Implementations are lazy: making one reads nothing. Each reading method starts at the first row.
    """

    @classmethod
    def from_sources(cls, session: Any, sources: Sequence[DataSource]) -> Self:
        """Make an ingestor that reads ``sources``; queries run on ``session``."""
        ...

    @classmethod
    def from_arrow(cls, data: Any) -> Self:
        """Make an ingestor over a relation or frame that this process already has."""
        ...

    @property
    def data_sources(self) -> list[DataSource]:
        """Where the rows come from; empty for frames in memory, which have no address."""
        ...

    @property
    def source(self) -> Source:
        """Reads the rows as Arrow."""
        ...

    @property
    def schema(self) -> pa.Schema:
        """Names and types of the columns; reads no rows."""
        ...

    def count(self) -> int:
        """Count the rows, without loading them where the source can count."""
        ...

    def to_reader(
        self, columns: Sequence[str] | None = None, limit: int | None = None
    ) -> pa.RecordBatchReader:
        """Stream the rows as Arrow record batches; holds a batch at a time."""
        ...

    def to_pandas(self, limit: int | None = None) -> pd.DataFrame:
        """Load the first ``limit`` rows (default: all) into a pandas DataFrame."""
        ...
