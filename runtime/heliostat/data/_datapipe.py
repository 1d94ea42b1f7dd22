"""The deprecated face for torch's data pipes. This module imports torch."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from torch.utils.data import IterDataPipe

if TYPE_CHECKING:
    from collections.abc import Iterator


class TorchDataPipe(IterDataPipe[Any]):
    """A data pipe over a data set of batches."""

    def __init__(self, dataset: Any) -> None:
        super().__init__()
        self._dataset = dataset

    def __iter__(self) -> Iterator[Any]:
        return iter(self._dataset)

    def __len__(self) -> int:
        """Batches of an epoch."""
        return len(self._dataset)
