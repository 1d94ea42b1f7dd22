"""Tensors in columns: other libraries' types of them, turned into Arrow's own."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from heliostat.exceptions import DataError

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt
    import pyarrow as pa

_RAY = ("ArrowTensorType", "ArrowTensorTypeV2")


def tensor_type(kind: pa.DataType) -> pa.DataType | None:
    """Arrow's type for a tensor type of Ray or Hugging Face; ``None`` for every other type."""
    import pyarrow as pa

    if isinstance(kind, pa.FixedShapeTensorType) or not isinstance(kind, pa.BaseExtensionType):
        return None
    shape = getattr(kind, "shape", None)
    if not shape or any(side is None for side in shape):
        return None
    if type(kind).__name__ in _RAY:
        return pa.fixed_shape_tensor(kind.storage_type.value_type, tuple(shape))
    if type(kind).__module__.startswith("datasets."):
        return pa.fixed_shape_tensor(pa.type_for_alias(kind.value_type), tuple(shape))
    return None


def standard_schema(schema: pa.Schema) -> pa.Schema:
    """Replace tensor types by Arrow's own."""
    import pyarrow as pa

    fields = [field.with_type(tensor_type(field.type) or field.type) for field in schema]
    return pa.schema(fields, schema.metadata)


def standard(table: pa.Table) -> pa.Table:
    """Replace columns of tensor types by ones of Arrow's own type."""
    for index, field in enumerate(table.schema):
        kind = tensor_type(field.type)
        if kind is not None:
            values = table.column(index).combine_chunks()
            column = tensor_array(field.name, _values(values, kind), kind)
            table = table.set_column(index, field.with_type(kind), column)
    return table


def tensor_array(name: str, values: npt.NDArray[Any], kind: pa.DataType | None = None) -> pa.Array:
    """Make a column of arrays that all have the same shape: the first axis counts the rows."""
    import numpy as np
    import pyarrow as pa

    if kind is None:
        kind = pa.fixed_shape_tensor(pa.from_numpy_dtype(values.dtype), values.shape[1:])
    if tuple(values.shape[1:]) != tuple(kind.shape):
        message = f"The column {name!r} has an array of shape {values.shape[1:]} among those of {kind.shape}."
        raise DataError(message, "Give all of them the same shape.", column=name)
    flat = pa.array(np.ascontiguousarray(values).reshape(-1), kind.value_type)
    width = int(np.prod(kind.shape))
    return pa.ExtensionArray.from_storage(kind, pa.FixedSizeListArray.from_arrays(flat, width))


def stacked(values: Any) -> npt.NDArray[np.generic]:
    """Stack arrays; raises ValueError for different shapes."""
    import numpy as np

    return np.stack([np.asarray(value) for value in values])


def _values(column: Any, kind: pa.DataType) -> npt.NDArray[Any]:
    import numpy as np

    if type(column.type).__name__ in _RAY:
        tensors: npt.NDArray[Any] = column.to_numpy()
        return tensors
    flat = column.storage
    while hasattr(flat, "flatten") and hasattr(flat.type, "value_type"):
        flat = flat.flatten()
    shaped: npt.NDArray[Any] = flat.to_numpy(zero_copy_only=False).reshape(len(column), *kind.shape)
    return np.asarray(shaped)
