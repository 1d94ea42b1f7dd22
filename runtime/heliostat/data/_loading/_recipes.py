"""From arguments to recipes: what is checked before anything is read."""

from __future__ import annotations

import uuid
from typing import TYPE_CHECKING, Any

import numpy as np

from heliostat._extras import require
from heliostat.data._loading._cache import cache_directory
from heliostat.data._loading._columns import is_number, is_plain
from heliostat.data._loading._decode import MOST_PARTS, PART_BYTES, Decoder, usable_polars
from heliostat.data._loading._dense import Dense
from heliostat.data._loading._forms import Form, Unit
from heliostat.data._loading._named import Columns
from heliostat.data._loading._plan import Shuffle, coalesced
from heliostat.data._loading._reader import Recipe
from heliostat.data._shards import parts_of
from heliostat.data._sources._width import measured
from heliostat.exceptions import ConfigurationError, DataError

if TYPE_CHECKING:
    from collections.abc import Sequence
    from os import PathLike

    import pyarrow as pa

    from heliostat.data._shards import RowSlice

UNIT_ROWS = 65_536
"""Row groups with fewer rows are joined to units of as many."""

_LEAST_PART_ROWS = 64

DEFAULT_WINDOW = 2
"""Units of a shuffle window."""


def make_recipe(
    slices: Sequence[RowSlice],
    schema: pa.Schema,
    *,
    batch_size: int | None,
    shuffle: bool | str = False,
    drop_last: bool = True,
    columns: Sequence[str] | None = None,
    feature_cols: Sequence[str] | None = None,
    label_col: str | None = None,
    dtype: str = "float32",
    window: int = DEFAULT_WINDOW,
    cache: bool | str | PathLike[str] = False,
    threads: int | None = None,
    owner: Any = None,
) -> Recipe:
    """Check the arguments and say what to read.

    Parameters
    ----------
    slices:
        The rows, in order.
    schema:
        Their columns.
    batch_size:
        Rows of a batch; ``None`` for single rows.
    shuffle:
        ``False``, ``"window"`` (the same as ``True``) or ``"global"``.
    drop_last:
        Leave an incomplete last batch out.
    columns:
        Columns of batches by name; default is all.
    feature_cols, label_col:
        Columns of the dense form, which is chosen by ``feature_cols``.
    dtype:
        Type of the dense matrix.
    window:
        Units that are permuted together with ``"window"``.
    cache:
        Keep decoded rows on the local disk: ``True``, or the directory.
    threads:
        Decode in so many threads; default is by the CPUs.
    owner:
        Is kept alive as long as the recipe.

    Raises
    ------
    ConfigurationError
        An argument cannot be used.
    DataError
        A column is missing, or is no number and part of a dense matrix; or there are no rows.
    """
    for name, value in (("batch_size", batch_size), ("window", window), ("threads", threads)):
        if value is not None and (isinstance(value, bool) or not isinstance(value, int) or value < 1):
            message = f"{name}={value!r} is not a number above zero."
            raise ConfigurationError(message, f"Pass a positive {name}.")
    rows = [part.stop - part.start for part in slices]
    if not sum(rows):
        message = "There are no rows to make batches of."
        raise DataError(message, "Check the source, or the filter before it.")
    form = _form(slices, schema, columns=columns, features=feature_cols, label=label_col, dtype=dtype)
    most = max(PART_BYTES // max(form.row_bytes(), 1), _LEAST_PART_ROWS)
    pieces, origins = _parts(slices, most)
    in_turn = len(pieces) > len(slices) and not _skips(slices, pieces, form)
    usable_polars()  # imported now, not by the first batch
    return Recipe(
        units=_units(pieces, origins, min(UNIT_ROWS, most // 2)),
        form=form,
        batch_size=batch_size,
        drop_last=drop_last and batch_size is not None,
        shuffle=_shuffle(shuffle),
        window=window,
        name=uuid.uuid4().hex,
        cache=_cache(cache),
        threads=threads,
        in_turn=in_turn,
        owner=owner,
    )


def torch_dataset(recipe: Recipe, *, expand_dims: bool = True, seed: int | None = None) -> Any:
    """Return a torch ``IterableDataset``. Raises MissingDependencyError without torch."""
    require("torch", "torch", "to_torch_dataset()")
    from heliostat.data._loading._torch import TorchBatches

    return TorchBatches(recipe, expand_dims=expand_dims, seed=seed)


def tensorflow_dataset(recipe: Recipe, schema: pa.Schema, *, seed: int | None = None) -> Any:
    """Return a ``tf.data.Dataset``. Raises MissingDependencyError without TensorFlow."""
    require("tensorflow", "tensorflow", "to_tf_dataset()")
    from heliostat.data._loading._tensorflow import dataset_of

    return dataset_of(recipe, schema, seed)


def _parts(slices: Sequence[RowSlice], most: int) -> tuple[list[RowSlice], list[int]]:
    """Cut slices of more than ``most`` rows, and tell of each part which slice it is of."""
    found = [(part, origin) for origin, one in enumerate(slices) for part in parts_of(one, most)]
    return [part for part, _ in found], [origin for _, origin in found]


def _skips(slices: Sequence[RowSlice], parts: Sequence[RowSlice], form: Form) -> bool:
    """Whether a part is reached without decoding what precedes it: where Polars reads it."""
    few = len(parts) <= MOST_PARTS * len(slices)
    local = all(one.filesystem is None for one in slices)
    return usable_polars() is not None and isinstance(form, Dense) and form.plain and local and few


def _units(pieces: Sequence[RowSlice], origins: Sequence[int], least: int) -> tuple[Unit, ...]:
    rows = [piece.rows for piece in pieces]
    return tuple(
        Unit(tuple(pieces[index] for index in run), sum(rows[index] for index in run), origins[run[0]])
        for run in coalesced(rows, least)
    )


def _shuffle(wish: bool | str) -> Shuffle:
    if wish is False or wish == "none":
        return "none"
    if wish is True or wish == "window":
        return "window"
    if wish == "global":
        return "global"
    message = f"shuffle={wish!r} is not known."
    raise ConfigurationError(message, 'Pass False, True, "window" or "global".')


def _cache(wish: bool | str | PathLike[str]) -> str | None:
    if wish is False:
        return None
    return str(cache_directory(None if wish is True else wish))


def _form(
    slices: Sequence[RowSlice],
    schema: pa.Schema,
    *,
    columns: Sequence[str] | None,
    features: Sequence[str] | None,
    label: str | None,
    dtype: str,
) -> Form:
    if features is None and label is None:
        names = tuple(schema.names if columns is None else columns)
        _require(schema, names)
        return Columns(names, measured(Decoder().footer(slices[0]), schema, names))
    if columns is not None:
        message = "columns and feature_cols were both passed."
        raise ConfigurationError(message, "Pass feature_cols and label_col for one matrix, or columns.")
    chosen = tuple(name for name in schema.names if name != label) if features is None else tuple(features)
    if not chosen:
        message = "feature_cols names no column."
        raise ConfigurationError(message, "Name one or more.")
    names = chosen if label is None else (*chosen, label)
    _require(schema, names)
    for name in names:
        if not is_number(schema.field(name).type):
            message = f"Column {name!r} is of type {schema.field(name).type}: not a number."
            raise DataError(message, "Leave it out of feature_cols, or encode it before.", column=name)
    plain = all(is_plain(schema.field(name).type) for name in names)
    return Dense(chosen, label, _dtype(dtype), None if label is None else _label_dtype(schema, label), plain)


def _require(schema: pa.Schema, names: Sequence[str]) -> None:
    for name in names:
        if name not in schema.names:
            message = f"There is no column {name!r}."
            action = f"The columns are: {', '.join(schema.names)}."
            raise DataError(message, action, column=name)
    if twice := [name for name in names if list(names).count(name) > 1]:
        message = f"Column {twice[0]!r} is named twice."
        raise ConfigurationError(message, "Name each column once.")


def _dtype(name: str) -> str:
    try:
        kind = np.dtype(name)
    except TypeError:
        kind = np.dtype(object)
    if kind.kind != "f":
        message = f"dtype={name!r} is not a floating type."
        raise ConfigurationError(message, 'Pass "float32", "float64" or "float16".')
    return kind.name


def _label_dtype(schema: pa.Schema, label: str) -> str:
    from pyarrow import types

    kind = schema.field(label).type
    if types.is_dictionary(kind):
        kind = kind.value_type
    return np.dtype(kind.to_pandas_dtype()).name if is_plain(kind) else "float64"
