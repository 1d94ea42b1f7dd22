"""Arrow columns as arrays: what is converted, and what is refused with the column's name."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, TypeAlias

import numpy as np

from heliostat.data._arrays import as_array, holds_numbers
from heliostat.exceptions import DataError

if TYPE_CHECKING:
    import pyarrow as pa

Array: TypeAlias = "np.ndarray[Any, Any]"


def is_plain(kind: pa.DataType) -> bool:
    """Whether values are numbers that NumPy has as they are."""
    from pyarrow import types

    return bool(types.is_integer(kind) or types.is_floating(kind) or types.is_boolean(kind))


def is_number(kind: pa.DataType) -> bool:
    """Whether a column can be part of a matrix."""
    from pyarrow import types

    if types.is_dictionary(kind):
        return is_number(kind.value_type)
    return is_plain(kind) or bool(types.is_decimal(kind) or types.is_null(kind))


def number_array(column: pa.ChunkedArray, name: str, path: str) -> Array:
    """Convert a column of numbers; nulls become NaN, and the array is then of a floating type."""
    import pyarrow as pa
    from pyarrow import types

    if types.is_dictionary(column.type):
        column = column.cast(column.type.value_type)
    kind = column.type
    if not is_number(kind):
        message = f"Column {name!r} of {path} is of type {kind}: not a number."
        raise DataError(message, "Leave it out, or encode it as numbers before.", column=name, path=path)
    if types.is_decimal(kind) or types.is_null(kind) or (types.is_boolean(kind) and column.null_count):
        column = column.cast(pa.float64())
    array: Array = _whole(column).to_numpy(zero_copy_only=False)
    return array


def batch_column(column: pa.ChunkedArray, name: str, where: str) -> Any:
    """Convert a column for batches by name.

    Numbers and booleans become arrays, lists of equal length 2-D arrays; anything else stays Arrow,
    and is given out as a Python list.

    Raises
    ------
    DataError
        Integers or booleans with nulls, which arrays cannot say, or lists of differing lengths.
    """
    from pyarrow import types

    kind = column.type
    if types.is_dictionary(kind) and is_number(kind.value_type):
        column = column.cast(kind.value_type)
        kind = column.type
    if _is_nested_number(kind):
        return as_array(name, column)
    if _is_list(kind):
        return _matrix(column, name, where) if is_plain(kind.value_type) else _whole(column)
    if not is_plain(kind):
        return _whole(column)
    if column.null_count and (types.is_integer(kind) or types.is_boolean(kind)):
        message = (
            f"Column {name!r} of {where} is of type {kind} and has nulls, which such an array cannot have."
        )
        action = "Fill them (coalesce), or cast the column to double, where they become NaN."
        raise DataError(message, action, column=name, path=where)
    return _whole(column).to_numpy(zero_copy_only=False)


def take(column: Any, order: Array) -> Any:
    """Rows of a converted column in another order."""
    import pyarrow as pa

    return column.take(order, axis=0) if isinstance(column, np.ndarray) else column.take(pa.array(order))


def part(column: Any, start: int, stop: int) -> Any:
    """Rows ``start`` to ``stop``, without a copy."""
    return column[start:stop] if isinstance(column, np.ndarray) else column.slice(start, stop - start)


def joined(columns: list[Any]) -> Any:
    """One column from several of the same kind."""
    import pyarrow as pa

    if len(columns) == 1:
        return columns[0]
    if isinstance(columns[0], np.ndarray):
        return np.concatenate(columns)
    chunks = pa.chunked_array(columns)
    return _whole(chunks.unify_dictionaries() if pa.types.is_dictionary(chunks.type) else chunks)


def _is_nested_number(kind: pa.DataType) -> bool:
    """Whether values are decimals, tensors, lists of lists, or none at all."""
    if not holds_numbers(kind) or is_plain(kind):
        return False
    return not (_is_list(kind) and is_plain(kind.value_type))


def _is_list(kind: pa.DataType) -> bool:
    from pyarrow import types

    return bool(types.is_list(kind) or types.is_large_list(kind) or types.is_fixed_size_list(kind))


def _whole(column: pa.ChunkedArray) -> Any:
    return column.chunk(0) if column.num_chunks == 1 else column.combine_chunks()


def _matrix(column: pa.ChunkedArray, name: str, where: str) -> Array:
    import pyarrow.compute as pc

    lengths = pc.unique(pc.list_value_length(column))
    if len(lengths) > 1 or column.null_count:
        message = f"The lists in column {name!r} of {where} have different lengths, so they are no array."
        raise DataError(message, "Pad them to one length, or leave the column out.", column=name, path=where)
    values = pc.list_flatten(column)
    if values.null_count:
        message = f"The lists in column {name!r} of {where} have nulls in them."
        raise DataError(message, "Fill them before.", column=name, path=where)
    width = lengths[0].as_py() if len(lengths) else 0
    array: Array = _whole(values).to_numpy(zero_copy_only=False).reshape(len(column), width)
    return array
