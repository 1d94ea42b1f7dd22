"""What a ``DataConnector`` asks of the class that reads for it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Protocol, Self

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    import numpy as np
    import numpy.typing as npt
    import pandas as pd

    from heliostat.data.data_source import DataSource

__all__ = ["DataIngestor"]


class DataIngestor(Protocol):
    """Reads rows of one data set, in batches or as a whole.

    Implementations are lazy: making one reads nothing. Each reading method starts at the first row.
    Those that workers shall use are picklable.
    """

    @classmethod
    def from_sources(cls, session: Any, sources: Sequence[DataSource], **kwargs: Any) -> Self:
        """Make an ingestor that reads ``sources``; queries run on ``session``."""
        ...

    @classmethod
    def from_ray_dataset(cls, ray_ds: Any, **kwargs: Any) -> Self:
        """Make an ingestor that reads a Ray Dataset."""
        ...

    @property
    def data_sources(self) -> list[DataSource]:
        """Where the rows come from; empty for frames in memory, which have no address."""
        ...

    def to_batches(
        self,
        batch_size: int,
        shuffle: bool = True,
        drop_last_batch: bool = True,
    ) -> Iterator[dict[str, npt.NDArray[np.generic]]]:
        """Yield arrays by column, ``batch_size`` rows at a time; the last may have fewer, or be left out."""
        ...

    def to_pandas(self, limit: int | None = None) -> pd.DataFrame:
        """Load the first ``limit`` rows (default: all) into a pandas DataFrame."""
        ...
