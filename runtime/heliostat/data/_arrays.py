"""Columns of Arrow as NumPy arrays: the one place that says what becomes of each type.

``docs/data.md`` has the table. A value either arrives as what it is, or the column is refused by name.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from heliostat.exceptions import DataError

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt
    import pyarrow as pa

    Array = npt.NDArray[np.generic]


def as_arrays(table: Any) -> dict[str, Array]:
    """Convert a table or batch, column by column. Raises DataError, with the name of the column."""
    return {
        field.name: as_array(field.name, column)
        for field, column in zip(table.schema, table.columns, strict=True)
    }


def as_array(name: str, column: Any) -> Array:
    """Convert a column.

    Parameters
    ----------
    name:
        Of the column, for errors.
    column:
        A pyarrow Array or ChunkedArray.

    Returns
    -------
    array
        One row for each value. Lists of one length give a second axis, tensors as many as they
        have. Text, bytes, times of day and structures come as an array of Python objects.

    Raises
    ------
    DataError
        The values have no array: integers or booleans with missing ones among them, lists of
        several lengths, rows without a list.
    """
    import pyarrow as pa

    column = _simple(name, column)
    kind = column.type
    if isinstance(kind, pa.FixedShapeTensorType):
        return _tensors(name, column)
    if _is_list(kind):
        return _lists(name, column)
    if pa.types.is_struct(kind) or pa.types.is_map(kind):
        return _objects(column.to_pylist())
    if column.null_count and (pa.types.is_integer(kind) or pa.types.is_boolean(kind)):
        message = (
            f"The column {name!r} is of type {kind} and has missing values, which no array of it can say."
        )
        action = "Fill them, or cast the column to double, where they become NaN."
        raise DataError(message, action, column=name)
    array: Array = (
        column.to_numpy() if isinstance(column, pa.ChunkedArray) else column.to_numpy(zero_copy_only=False)
    )
    return array


def _simple(name: str, column: Any) -> Any:
    """Replace types that stand for others: dictionaries, decimals, extensions, views, and none at all."""
    import pyarrow as pa

    kind = column.type
    if isinstance(kind, pa.BaseExtensionType) and not isinstance(kind, pa.FixedShapeTensorType):
        return _simple(name, _storage(column))
    if pa.types.is_dictionary(kind):
        return _simple(name, column.cast(kind.value_type))
    if pa.types.is_decimal(kind):
        return _decimals(name, column)
    for asked, target in (
        (pa.types.is_null, pa.float64()),
        (pa.types.is_string_view, pa.large_string()),
        (pa.types.is_binary_view, pa.large_binary()),
    ):
        if asked(kind):
            return column.cast(target)
    return column


def holds_numbers(kind: pa.DataType) -> bool:
    """Whether the values of a column are numbers, or lists, tensors or categories of such, or missing."""
    import pyarrow as pa

    if pa.types.is_dictionary(kind) or _is_list(kind) or isinstance(kind, pa.FixedShapeTensorType):
        return holds_numbers(kind.value_type)
    if isinstance(kind, pa.BaseExtensionType):
        return holds_numbers(kind.storage_type)
    types = pa.types
    plain = types.is_integer(kind) or types.is_floating(kind) or types.is_boolean(kind)
    return bool(plain or types.is_decimal(kind) or types.is_null(kind))


def decimal_target(kind: pa.DataType) -> pa.DataType:
    """Type that stands for a decimal one: a float with digits after the point, else an integer."""
    import pyarrow as pa

    if kind.scale > 0:
        return pa.float32() if kind.byte_width == 4 else pa.float64()
    return pa.int32() if kind.byte_width == 4 else pa.int64()


def _is_list(kind: pa.DataType) -> bool:
    import pyarrow as pa

    types = pa.types
    return bool(
        types.is_list(kind)
        or types.is_large_list(kind)
        or types.is_fixed_size_list(kind)
        or types.is_list_view(kind)
        or types.is_large_list_view(kind)
    )


def _decimals(name: str, column: Any) -> Any:
    import pyarrow as pa

    target = decimal_target(column.type)
    try:
        return column.cast(target)
    except pa.ArrowException as error:
        message = f"The column {name!r} has decimals that no {target} holds."
        raise DataError(message, "Cast it in the query, or leave it out.", column=name) from error


def _lists(name: str, column: Any) -> Array:
    import pyarrow as pa
    import pyarrow.compute as pc

    array = column.combine_chunks() if isinstance(column, pa.ChunkedArray) else column
    if array.null_count:
        message = f"The column {name!r} has {array.null_count} rows without a list."
        raise DataError(message, "Fill them, or leave those rows out.", column=name)
    if pa.types.is_fixed_size_list(array.type):
        width = array.type.list_size
    else:
        lengths = pc.min_max(pc.list_value_length(array)).as_py()
        width = lengths["max"] or 0
        if lengths["min"] != lengths["max"]:
            message = f"The column {name!r} has lists of {lengths['min']} to {width} values."
            raise DataError(message, "Pad them to one length, or leave the column out.", column=name)
    values = as_array(name, array.flatten())
    return values.reshape(len(array), width, *values.shape[1:])


def _tensors(name: str, column: Any) -> Array:
    import pyarrow as pa

    array = column.combine_chunks() if isinstance(column, pa.ChunkedArray) else column
    if array.null_count:
        message = f"The column {name!r} has {array.null_count} rows without a tensor."
        raise DataError(message, "Fill them, or leave those rows out.", column=name)
    values = as_array(name, array.storage.flatten())
    return values.reshape(len(array), *array.type.shape)


def _storage(column: Any) -> Any:
    import pyarrow as pa

    if isinstance(column, pa.ChunkedArray):
        return pa.chunked_array([chunk.storage for chunk in column.chunks], column.type.storage_type)
    return column.storage


def _objects(values: list[Any]) -> Array:
    import numpy as np

    array = np.empty(len(values), dtype=object)
    array[:] = values
    return array
