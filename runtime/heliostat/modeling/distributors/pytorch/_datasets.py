"""How connectors get to the ranks."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Mapping

    from heliostat.data import DataConnector


class Datasets:
    """The ``dataset_map`` of a training, for ranks of any number."""

    def __init__(self, connectors: Mapping[str, DataConnector] | None) -> None:
        self._connectors = connectors

    def pickled(self, size: int) -> bytes | None:
        """The connectors as ``size`` ranks get them."""
        if self._connectors is None:
            return None
        from ray import cloudpickle

        del size
        pickled: bytes = cloudpickle.dumps(dict(self._connectors))
        return pickled
