"""The PyTorch face: an iterable data set of ready batches, sharded over DataLoader workers, resumable.

This module imports torch; it is imported when a data set is asked for.
"""

from __future__ import annotations

import copy
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch.utils.data import IterableDataset, get_worker_info

from heliostat.data._loading._dense import Dense
from heliostat.data._loading._reader import batches
from heliostat.exceptions import ConfigurationError

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from heliostat.data._loading._plan import Key
    from heliostat.data._loading._reader import Recipe

_STATE_VERSION = 1


class TorchBatches(IterableDataset[Any]):
    """Batches of a table, for ``DataLoader(dataset, batch_size=None)`` or a plain loop.

    Each iteration is an epoch with another order where rows are shuffled. DataLoader workers divide
    an epoch's batches among them. Position and order are in ``state_dict()``.

    Parameters
    ----------
    recipe:
        What to read.
    expand_dims:
        Give columns of numbers the shape ``(rows, 1)``; for batches by column name.
    seed:
        Decides the order of all epochs; ``None`` takes a number from torch's generator, so
        ``torch.manual_seed`` decides.
    """

    def __init__(self, recipe: Recipe, *, expand_dims: bool = True, seed: int | None = None) -> None:
        super().__init__()
        self._recipe = recipe
        self._expand_dims = expand_dims
        self._explicit = seed is not None
        self._seed = int(torch.empty((), dtype=torch.int64).random_().item()) if seed is None else seed
        self._epoch: int | None = None
        self._iterations = 0
        self._resumed: Mapping[str, Any] | None = None
        self._latest: _Position | None = None

    def __len__(self) -> int:
        """Batches (or single rows) of an epoch, all workers together."""
        size = self._recipe.batch_size or 1
        return (len(self._recipe.place(0, 1)) + size - 1) // size

    def set_epoch(self, epoch: int) -> None:
        """Choose the next epoch's order; each ``epoch`` has its own, the same in all processes."""
        if epoch < 0:
            message = f"epoch={epoch} is negative."
            raise ConfigurationError(message, "Pass 0 or more.")
        self._epoch = epoch

    def __iter__(self) -> _Position:
        info = get_worker_info()
        worker, workers = (0, 1) if info is None else (info.id, info.num_workers)
        key = self._key(None if info is None else info.seed - info.id)
        self._iterations += 1
        self._epoch = None
        position = _Position(self, key, worker, workers)
        resumed, self._resumed = self._resumed, None
        if resumed is not None:
            position.load_state_dict(resumed)
            if position.finished:
                position = _Position(self, self._key(None), worker, workers)
                self._iterations += 1
        self._latest = position
        return position

    def state_dict(self) -> dict[str, Any]:
        """Return where the latest iteration stands."""
        if self._latest is not None:
            return self._latest.state_dict()
        if self._resumed is not None:
            return dict(self._resumed)
        return _Position(self, self._key(None), 0, 1).state_dict()

    def load_state_dict(self, state_dict: Mapping[str, Any]) -> None:
        """Let the next iteration go on where the state was taken; at an epoch's end, with the next epoch.

        Raises
        ------
        ConfigurationError
            The state is of other data, or of another batch size, order or number of workers.
        """
        _check(state_dict, self._recipe)
        self._resumed = copy.deepcopy(dict(state_dict))
        self._latest = None

    def _key(self, base_seed: int | None) -> Key:
        """What decides the coming epoch's order.

        In DataLoader workers, copies of one data set, the loader's own seed tells epochs apart: the
        copies are made anew for each epoch and could not count.
        """
        if self._epoch is not None:
            return (self._seed, self._epoch)
        if base_seed is not None:
            return (self._seed, base_seed, self._iterations)
        return (self._seed, self._iterations)

    def _went_to(self, key: Key) -> None:
        """Count on from a position that was loaded."""
        self._seed, self._iterations = key[0], key[-1] + 1

    def _rows(self, position: _Position, skip: int) -> Iterator[Any]:
        found = batches(self._recipe, position.key, position.place, skip, position.workers)
        wrap = self._dense if isinstance(self._recipe.form, Dense) else self._by_name
        for block in found:
            if self._recipe.batch_size is None:
                yield from self._single(block, wrap)
            else:
                yield wrap(block)

    def _dense(self, block: Any) -> Any:
        matrix = torch.from_numpy(block[0])
        return matrix if block[1] is None else (matrix, torch.from_numpy(block[1]))

    def _by_name(self, block: Any) -> dict[str, Any]:
        return {name: self._column(column) for name, column in block.items()}

    def _column(self, column: Any) -> Any:
        if not isinstance(column, np.ndarray):
            return column.to_pylist()
        return column[:, None] if self._expand_dims and column.ndim == 1 else column

    def _single(self, block: Any, wrap: Any) -> Iterator[Any]:
        found = wrap(block)
        if isinstance(found, dict):
            names = list(found)
            for values in zip(*found.values(), strict=True):
                yield dict(zip(names, values, strict=True))
        elif isinstance(found, tuple):
            yield from zip(*found, strict=True)
        else:
            yield from found


class _Position:
    """One iteration; nothing is read before the first batch is asked for."""

    def __init__(self, dataset: TorchBatches, key: Key, worker: int, workers: int) -> None:
        self._dataset = dataset
        self._done = 0
        self._running: Iterator[Any] | None = None
        self.key = key
        self.worker = worker
        self.workers = workers
        self.place = dataset._recipe.place(worker, workers)

    def __iter__(self) -> _Position:
        return self

    def __next__(self) -> Any:
        if self._running is None:
            self._running = self._dataset._rows(self, self._done)
        batch = next(self._running)
        self._done += 1
        return batch

    @property
    def finished(self) -> bool:
        """Whether all rows were delivered."""
        return self._done * (self._dataset._recipe.batch_size or 1) >= len(self.place)

    def state_dict(self) -> dict[str, Any]:
        """Return what another iteration needs to go on here; plain numbers and strings."""
        return {
            "version": _STATE_VERSION,
            "key": list(self.key),
            "done": self._done,
            "worker": self.worker,
            "workers": self.workers,
            **_facts(self._dataset._recipe),
        }

    def load_state_dict(self, state_dict: Mapping[str, Any]) -> None:
        """Go on where the state was taken. Raises ConfigurationError, see the data set."""
        _check(state_dict, self._dataset._recipe)
        if (state_dict["worker"], state_dict["workers"]) != (self.worker, self.workers):
            message = (
                f"The state is of worker {state_dict['worker']} of {state_dict['workers']},"
                f" and this is worker {self.worker} of {self.workers}."
            )
            raise ConfigurationError(message, "Resume with the same number of DataLoader workers.")
        self.key = tuple(state_dict["key"])
        self._done = int(state_dict["done"])
        self._running = None
        self._dataset._went_to(self.key)


def _facts(recipe: Recipe) -> dict[str, Any]:
    """What must be equal for a position to mean the same."""
    return {
        "rows": recipe.rows,
        "units": len(recipe.units),
        "batch_size": recipe.batch_size,
        "drop_last": recipe.drop_last,
        "shuffle": recipe.shuffle,
        "window": recipe.window,
    }


def _check(state: Mapping[str, Any], recipe: Recipe) -> None:
    if state.get("version") != _STATE_VERSION:
        message = f"The state is of version {state.get('version')}, and {_STATE_VERSION} is known."
        raise ConfigurationError(message, "Start the epoch anew.")
    for name, value in _facts(recipe).items():
        if state.get(name) != value:
            message = f"The state was taken with {name}={state.get(name)!r}, and here it is {value!r}."
            raise ConfigurationError(message, "Make the data set as it was, or start the epoch anew.")
