"""The TensorFlow face: a ``tf.data.Dataset`` over the same reader.

This module imports TensorFlow; it is imported when a data set is asked for.
"""

from __future__ import annotations

import itertools
import secrets
from typing import TYPE_CHECKING, Any

import numpy as np
import tensorflow as tf  # type: ignore[import-untyped]

from heliostat.data._loading._dense import Dense
from heliostat.data._loading._reader import batches
from heliostat.exceptions import DataError

if TYPE_CHECKING:
    from collections.abc import Iterator

    import pyarrow as pa

    from heliostat.data._loading._reader import Recipe


def dataset_of(recipe: Recipe, schema: pa.Schema, seed: int | None) -> Any:
    """Return a data set; each iteration over it is an epoch, with another order where rows are shuffled."""
    chosen = secrets.randbits(63) if seed is None else seed
    epochs = itertools.count()

    def epoch() -> Iterator[Any]:
        for block in batches(recipe, (chosen, next(epochs)), recipe.place(0, 1), 0, 1):
            yield _batch(block, recipe)

    return tf.data.Dataset.from_generator(epoch, output_signature=_signature(recipe, schema))


def _batch(block: Any, recipe: Recipe) -> Any:
    if isinstance(recipe.form, Dense):
        return block[0] if recipe.form.label is None else block
    return {name: _tensor_like(name, column) for name, column in block.items()}


def _tensor_like(name: str, column: Any) -> Any:
    from pyarrow import types

    if isinstance(column, np.ndarray):
        return column
    kind = column.type.value_type if types.is_dictionary(column.type) else column.type
    if not (types.is_string(kind) or types.is_large_string(kind) or types.is_binary(kind)):
        message = f"Column {name!r} is of type {kind}, which TensorFlow has no tensors of."
        raise DataError(message, "Leave it out, or cast it to numbers or text.", column=name)
    if column.null_count:
        message = f"Column {name!r} is text with nulls, which a tensor cannot have."
        raise DataError(message, "Fill them (coalesce).", column=name)
    return np.array(column.to_pylist(), object)


def _signature(recipe: Recipe, schema: pa.Schema) -> Any:
    form = recipe.form
    if isinstance(form, Dense):
        matrix = tf.TensorSpec((None, len(form.features)), form.dtype)
        return matrix if form.label is None else (matrix, tf.TensorSpec((None,), form.label_dtype))
    # The first rows say it: types, and the width of lists.
    first = next(iter(batches(recipe, (0,), range(1), 0, 1)))
    found = {name: _tensor_like(name, column) for name, column in first.items()}
    return {
        name: tf.TensorSpec(
            (None, *value.shape[1:]), tf.string if value.dtype == object else tf.as_dtype(value.dtype)
        )
        for name, value in found.items()
    }
