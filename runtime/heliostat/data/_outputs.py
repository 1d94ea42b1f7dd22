"""What a connector's rows can be turned into. ``docs/data.md`` says what becomes of each type."""

from __future__ import annotations

import warnings
from abc import ABC, abstractmethod
from typing import TYPE_CHECKING, Any

from heliostat._extras import require
from heliostat.data._batches import checked_batch_size
from heliostat.exceptions import ConfigurationError

if TYPE_CHECKING:
    from collections.abc import Sequence

    import pandas as pd
    import pyarrow as pa

    from heliostat.data._sources import Source
    from heliostat.data.data_ingestor import DataIngestor


class Outputs(ABC):
    """The ``to_...`` methods of a connector."""

    _ingestor: DataIngestor
    _expand_dims: bool

    @property
    @abstractmethod
    def source(self) -> Source:
        """What reads the rows as Arrow."""

    def to_reader(self, columns: Sequence[str] | None = None) -> pa.RecordBatchReader:
        """Stream the rows as Arrow record batches.

        A reader over a relation keeps the session's connection busy until it is read to its end or closed.
        """
        return self.source.reader(columns)

    def to_arrow(self, columns: Sequence[str] | None = None, limit: int | None = None) -> pa.Table:
        """Load the rows, at most the first ``limit``, into a pyarrow Table."""
        return self.source.reader(columns, checked_limit(limit)).read_all()

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
        return self._ingestor.to_pandas(checked_limit(limit))

    def to_torch_dataset(
        self,
        *,
        batch_size: int | None = None,
        shuffle: bool | str = False,
        drop_last_batch: bool = True,
        columns: Sequence[str] | None = None,
        feature_cols: Sequence[str] | None = None,
        label_col: str | None = None,
        seed: int | None = None,
        **options: Any,
    ) -> Any:
        """Return a torch ``IterableDataset`` of batches, for ``DataLoader(dataset, batch_size=None)``.

        A batch is a dictionary of arrays by column; text, bytes and structures are Python lists.
        With ``feature_cols`` it is one matrix of floats, and the labels beside it.

        Parameters
        ----------
        batch_size:
            Rows of a batch; ``None`` gives single rows.
        shuffle:
            ``True`` or ``"window"`` permutes the rows within windows, ``"global"`` all of them.
        drop_last_batch:
            Leave an incomplete last batch out.
        columns:
            Columns of a dictionary; default is all.
        feature_cols, label_col:
            Columns of the matrix, and the column of labels.
        seed:
            Decides the order; default is torch's generator.
        **options:
            ``dtype``, ``window``, ``cache``, ``threads``: see ``docs/loading.md``.

        Raises
        ------
        ConfigurationError
            An argument cannot be used.
        DataError
            There are no rows, or a column is missing or cannot be converted.
        """
        recipe, _ = self._recipe(
            batch_size,
            columns=columns,
            feature_cols=feature_cols,
            label_col=label_col,
            shuffle=shuffle,
            drop_last=drop_last_batch,
            **options,
        )
        from heliostat.data._loading import torch_dataset

        return torch_dataset(recipe, expand_dims=self._expand_dims, seed=seed)

    def to_torch_datapipe(
        self, *, batch_size: int, shuffle: bool | str = False, drop_last_batch: bool = True
    ) -> Any:
        """Return a torch ``IterDataPipe`` of batches. Deprecated: use ``to_torch_dataset``."""
        message = "to_torch_datapipe() is deprecated; use to_torch_dataset()."
        warnings.warn(message, DeprecationWarning, stacklevel=2)
        require("torch", "torch", "to_torch_datapipe()")
        from heliostat.data._datapipe import TorchDataPipe

        checked_batch_size(batch_size)
        dataset = self.to_torch_dataset(
            batch_size=batch_size, shuffle=shuffle, drop_last_batch=drop_last_batch
        )
        return TorchDataPipe(dataset)

    def to_tf_dataset(
        self,
        *,
        batch_size: int,
        shuffle: bool | str = False,
        drop_last_batch: bool = True,
        columns: Sequence[str] | None = None,
        feature_cols: Sequence[str] | None = None,
        label_col: str | None = None,
        seed: int | None = None,
        **options: Any,
    ) -> Any:
        """Return a ``tf.data.Dataset`` of batches; the arguments are those of ``to_torch_dataset``."""
        recipe, schema = self._recipe(
            checked_batch_size(batch_size),
            columns=columns,
            feature_cols=feature_cols,
            label_col=label_col,
            shuffle=shuffle,
            drop_last=drop_last_batch,
            **options,
        )
        from heliostat.data._loading import tensorflow_dataset

        return tensorflow_dataset(recipe, schema, seed=seed)

    def to_ray_dataset(self) -> Any:
        """Return a Ray Dataset. It is lazy: Ray's workers read files and run queries.

        Frames in memory are put into Ray's object store.

        Raises
        ------
        MissingDependencyError
            Ray is not installed.
        """
        require("ray", "ray", "to_ray_dataset()")
        own = getattr(self._ingestor, "to_ray_dataset", None)
        if own is not None:
            return own()
        from heliostat.data._ray_dataset import ray_dataset

        return ray_dataset(self.source)

    def to_huggingface_dataset(
        self,
        *,
        streaming: bool = False,
        limit: int | None = None,
        batch_size: int = 1024,
        shuffle: bool = False,
        drop_last_batch: bool = False,
    ) -> Any:
        """Return a Hugging Face ``Dataset``, or an ``IterableDataset`` of single rows.

        Parameters
        ----------
        streaming:
            Read rows as they are asked for, instead of loading all of them.
        limit:
            At most so many rows.
        batch_size:
            Rows that are read at a time when streaming.
        shuffle:
            Permute the rows; when streaming, within windows.
        drop_last_batch:
            When streaming, leave out the rows of an incomplete last batch.

        Raises
        ------
        DataError
            A column is of a type that Hugging Face does not have.
        MissingDependencyError
            The package ``datasets`` is not installed.
        """
        require("datasets", "huggingface", "to_huggingface_dataset()")
        from heliostat.data import _huggingface

        limit, size = checked_limit(limit), checked_batch_size(batch_size)
        if streaming:
            return _huggingface.streamed(
                self.source, limit, size, shuffle=shuffle, drop_last_batch=drop_last_batch
            )
        return _huggingface.loaded(self.source, limit, shuffle=shuffle)

    def _recipe(
        self, batch_size: int | None, *, columns: Sequence[str] | None, **arguments: Any
    ) -> tuple[Any, pa.Schema]:
        """Check the arguments, and lay the rows out so that threads and processes can read their parts."""
        from heliostat.data._loading import make_recipe
        from heliostat.data._shards import laid_out
        from heliostat.data._sources._base import selected

        if batch_size is not None:
            checked_batch_size(batch_size)
        source = self.source
        schema = selected(source.schema(), columns)
        slices, owner = laid_out(source, schema.names)
        recipe = make_recipe(slices, schema, batch_size=batch_size, columns=columns, owner=owner, **arguments)
        return recipe, schema


def checked_limit(limit: int | None) -> int | None:
    """Return the number of rows. Raises ConfigurationError when it is not one."""
    if limit is not None and (isinstance(limit, bool) or not isinstance(limit, int) or limit < 0):
        message = f"limit={limit!r} is not a number of rows."
        raise ConfigurationError(message, "Pass 0 or more, or None for all rows.")
    return limit
