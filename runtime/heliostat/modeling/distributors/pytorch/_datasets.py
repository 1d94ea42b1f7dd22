"""How connectors get to the ranks: small, and without another run of what made the rows.

A connector over Parquet files travels as the recipe that it is. Rows of a query or of a frame are
written once to Parquet files in a private directory, where each rank reads what it needs.
"""

from __future__ import annotations

import contextlib
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Self

from heliostat.exceptions import ConfigurationError, DataError

if TYPE_CHECKING:
    from collections.abc import Mapping

    from heliostat.data import DataConnector


@dataclass(frozen=True)
class Written:
    """Rows that lie in Parquet files of this machine."""

    paths: tuple[str, ...]

    def connector(self) -> DataConnector:
        """Return a connector over them."""
        from heliostat._stages import open_location
        from heliostat.data import DataConnector
        from heliostat.data._sources._parquet import ParquetSource
        from heliostat.data.arrow_ingestor import ArrowIngestor

        files = [entry for path in self.paths for entry in open_location(path).list()]
        return DataConnector(ArrowIngestor.from_source(ParquetSource(files)))


class Datasets:
    """The ``dataset_map`` of a training, for ranks of any number; holds files while it is open."""

    def __init__(self, connectors: Mapping[str, DataConnector] | None, *, local: bool) -> None:
        self._connectors, self._local = connectors, local
        self._files = contextlib.ExitStack()
        self._made: dict[int, bytes] = {}
        self._whole: dict[str, Any] = {}

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._files.close()

    def pickled(self, size: int) -> bytes | None:
        """The connectors as ``size`` ranks get them; ``load_datasets`` is the way back.

        Raises
        ------
        DataError
            The rows cannot be read, or not be brought to the ranks.
        """
        if self._connectors is None:
            return None
        if size not in self._made:
            from ray import cloudpickle

            laid = {
                name: self._laid_out(name, connector, size) for name, connector in self._connectors.items()
            }
            self._made[size] = cloudpickle.dumps(laid)
        return self._made[size]

    def _laid_out(self, name: str, connector: Any, size: int) -> Any:
        if hasattr(connector, "laid_out"):
            return self._files.enter_context(connector.laid_out(size))
        if name not in self._whole:
            self._whole[name] = self._as_whole(name, connector)
        return self._whole[name]

    def _as_whole(self, name: str, connector: Any) -> Any:
        from heliostat.data import DataConnector
        from heliostat.data._shards import sharded

        if not isinstance(connector, DataConnector):
            message = f"dataset_map[{name!r}] is a {type(connector).__name__}."
            raise ConfigurationError(message, "Pass DataConnector.from_dataframe(...) of it.")
        if not self._local or connector.source.slices() is not None:
            return _portable(name, connector)
        (shard,) = self._files.enter_context(sharded(connector, 1))
        paths = tuple(dict.fromkeys(piece.path for piece in shard.slices))
        return Written(paths) if paths else _portable(name, connector)


def load_datasets(pickled: bytes) -> dict[str, DataConnector]:
    """Undo ``Datasets.pickled``, on a rank."""
    from ray import cloudpickle

    found: dict[str, Any] = cloudpickle.loads(pickled)
    return {name: made.connector() if isinstance(made, Written) else made for name, made in found.items()}


def _portable(name: str, connector: DataConnector) -> DataConnector:
    from ray import cloudpickle

    try:
        cloudpickle.dumps(connector)
    except Exception as error:
        message = f"dataset_map[{name!r}] cannot be sent to workers: {error}."
        raise DataError(message, "Write it to Parquet files that the workers can read.") from error
    return connector
