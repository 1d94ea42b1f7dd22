"""Which columns are what, decided before anything starts, and how a worker decodes them."""

from __future__ import annotations

import itertools
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from heliostat.exceptions import ConfigurationError, DataError, TaskCancelledError

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    import pyarrow as pa

    from heliostat.modeling.distributors._boosting._rows import Part, Rows

CATEGORY = "c"


@dataclass(frozen=True)
class Columns:
    """Which columns of a data set are what. ``roles`` has those beside inputs and label."""

    inputs: tuple[str, ...]
    kinds: tuple[str, ...]
    """XGBoost's feature type of each input: ``int``, ``float``, ``i`` (boolean), ``c`` (category)."""
    label: str
    roles: Mapping[str, str] = field(default_factory=dict)
    """``weight``, ``qid``, ... to the name of the column."""
    named: bool = True
    """Whether the names are the user's; a matrix without names gives a model without."""
    wide: bool = False
    """Decode to float64 in place of float32."""
    classes: tuple[Any, ...] | None = None
    """Labels that stand for 0, 1, ...; ``None`` where labels are numbers themselves."""
    categories: Mapping[str, Any] = field(default_factory=dict)
    """For each input that is a category, its values in the order of their codes."""

    @property
    def all(self) -> list[str]:
        """Every column that is read, each once."""
        return list(dict.fromkeys([*self.inputs, self.label, *self.roles.values()]))


@dataclass
class Decoded:
    """Rows as a library takes them."""

    features: Any
    """Row-major block; a pandas DataFrame where there are categories."""
    label: Any
    roles: dict[str, Any]


def kind_of(schema: pa.Schema, name: str) -> str:
    """XGBoost's name for the type of a column, as it gives it to a pandas column of that type."""
    import pyarrow as pa

    found = schema.field(name).type
    if pa.types.is_boolean(found):
        return "i"
    if pa.types.is_integer(found):
        return "int"
    if pa.types.is_floating(found) or pa.types.is_decimal(found):
        return "float"
    if pa.types.is_dictionary(found):
        return CATEGORY
    if pa.types.is_null(found):
        return "float"
    message = f"The column {name!r} is of type {found}, not of numbers or categories."
    action = f"Encode it as numbers, leave it out, or pass categorical_cols=[{name!r}]."
    raise DataError(message, action, column=name)


def require_columns(schema: pa.Schema, names: Sequence[str], where: str = "data") -> None:
    """Raise DataError unless all ``names`` are there; ``where`` is what the reader calls the data."""
    missing = [name for name in names if name not in schema.names]
    if missing:
        message = f"The {where} has no column {', '.join(map(repr, missing))}."
        shown = ", ".join(schema.names[:10]) + (", ..." if len(schema.names) > 10 else "")
        raise DataError(message, f"Columns: {shown}.", missing=missing)


def needs_float64(schema: pa.Schema, names: Sequence[str]) -> bool:
    """Whether numpy would put these columns into one array of float64, as LightGBM does of pandas."""
    import numpy as np
    import pyarrow as pa

    kinds: list[Any] = [np.dtype("float32")]
    for name in names:
        found = schema.field(name).type
        if pa.types.is_boolean(found) or pa.types.is_dictionary(found):
            continue
        kinds.append(found.to_pandas_dtype() if not pa.types.is_decimal(found) else np.float64)
    return bool(np.result_type(*kinds) == np.float64)


def distinct(rows: Rows, name: str) -> list[Any]:
    """Values of a column without null, sorted; reads that column once."""
    import pyarrow as pa
    import pyarrow.compute as pc

    seen: Any = None
    for table in rows.whole.tables([name]):
        column = table.column(name)
        if pa.types.is_dictionary(column.type):
            column = column.cast(column.type.value_type)
        found = pc.unique(column)
        seen = found if seen is None else pc.unique(pa.chunked_array([seen, found]))
    values: list[Any] = [] if seen is None else [value for value in seen.to_pylist() if value is not None]
    try:
        return sorted(values)
    except TypeError as error:
        message = f"The values of {name!r} cannot be sorted: {error}."
        raise DataError(message, "Make them of one type.", column=name) from error


def is_text(schema: pa.Schema, name: str) -> bool:
    """Whether a column has texts or categories, not numbers."""
    import pyarrow as pa

    found = schema.field(name).type
    return bool(
        pa.types.is_dictionary(found)
        or pa.types.is_string(found)
        or pa.types.is_large_string(found)
        or pa.types.is_string_view(found)
    )


def decode(part: Part, columns: Columns, check: Callable[[], bool], *, threads: int = 1) -> Decoded:
    """Decode rows into one block, missing values as NaN, with their labels and roles.

    Parameters
    ----------
    check:
        Asked between pieces; when it is true the work is given up with TaskCancelledError.
    threads:
        How many decode side by side.

    Raises
    ------
    DataError
        A row has no label, or a value is no number.
    """
    import numpy as np
    import pyarrow as pa

    block = np.empty((part.rows, len(columns.inputs)), dtype=np.float64 if columns.wide else np.float32)
    labels = np.empty(part.rows, dtype=np.float32)
    roles: dict[str, Any] = {
        role: np.empty(part.rows, dtype=np.int64 if role == "qid" else np.float32) for role in columns.roles
    }

    def fill(start: int, piece: Part) -> None:
        for table in piece.tables(columns.all):
            if check():
                message = "The training was stopped while its rows were read."
                raise TaskCancelledError(message)
            stop = start + table.num_rows
            arrays = [input_of(table.column(name), name, columns) for name in columns.inputs]
            np.stack(arrays, axis=1, out=block[start:stop])
            labels[start:stop] = _labels(table.column(columns.label), columns)
            for role, name in columns.roles.items():
                roles[role][start:stop] = _role(table.column(name), role, name)
            start = stop
            del table, arrays
            # Else Arrow keeps what it decoded into, half the size of the block, beside the matrix.
            pa.default_memory_pool().release_unused()

    pieces = part.pieces()
    starts = itertools.accumulate((piece.rows for piece in pieces), initial=0)
    with ThreadPoolExecutor(threads) as pool:
        list(pool.map(fill, starts, pieces))
    _refuse_missing(labels, columns.label)
    return Decoded(as_frame(block, columns) if columns.categories else block, labels, roles)


def as_frame(block: Any, columns: Columns) -> Any:
    """Make a pandas DataFrame of a block whose categories are codes; -1 and NaN mean missing."""
    import numpy as np
    import pandas as pd

    made = {}
    for index, (name, kind) in enumerate(zip(columns.inputs, columns.kinds, strict=True)):
        values = block[:, index]
        if kind == CATEGORY:
            codes = np.where(np.isnan(values), -1, values).astype(np.int32)
            made[name] = pd.Categorical.from_codes(codes, categories=pd.Index(columns.categories[name]))
        else:
            made[name] = values
    return pd.DataFrame(made, copy=False)


def to_number(column: Any, kind: Any) -> Any:
    """Convert a numeric Arrow column; null becomes NaN."""
    import numpy as np
    import pyarrow as pa

    target = pa.float64() if kind == np.float64 else pa.float32()
    if pa.types.is_decimal(column.type):
        column = column.cast(pa.float64())
    return column.cast(target, safe=False).to_numpy(zero_copy_only=False)


def input_of(column: Any, name: str, columns: Columns) -> Any:
    """Convert an Arrow column that is an input: numbers as they are, categories to their codes."""
    import numpy as np

    kind = np.float64 if columns.wide else np.float32
    if name in columns.categories:
        return _codes(column, columns.categories[name], kind)
    return to_number(column, kind)


def _codes(column: Any, values: Sequence[Any], kind: Any) -> Any:
    """Place of each value among ``values``; NaN for null and for what is not among them."""
    import pyarrow as pa
    import pyarrow.compute as pc

    if pa.types.is_dictionary(column.type):
        column = column.cast(column.type.value_type)
    return to_number(pc.index_in(column, value_set=pa.array(list(values), column.type)), kind)


def _labels(column: Any, columns: Columns) -> Any:
    import numpy as np

    if columns.classes is None:
        return to_number(column, np.float32)
    found = _codes(column, columns.classes, np.float32)
    unseen = np.isnan(found) & column.is_valid().to_numpy(zero_copy_only=False)
    if unseen.any():
        other = column[int(unseen.argmax())].as_py()
        message = f"The label column {columns.label!r} has {other!r}, which no row of the training has."
        raise DataError(message, "Train on rows of every class.", column=columns.label)
    return found


def _role(column: Any, role: str, name: str) -> Any:
    import numpy as np
    import pyarrow as pa

    if column.null_count:
        message = f"The column {name!r}, used as {role}, has {column.null_count} rows without a value."
        raise DataError(message, "Fill them before training.", column=name)
    if role == "qid":
        if not pa.types.is_integer(column.type):
            message = f"The column {name!r} with the groups is of type {column.type}."
            raise DataError(message, "Number the groups with whole numbers.", column=name)
        return column.to_numpy()
    return to_number(column, np.float32)


def _refuse_missing(labels: Any, name: str) -> None:
    import numpy as np

    missing = int(np.isnan(labels).sum())
    if missing:
        message = f"The label column {name!r} has no value in {missing} of the worker's {len(labels)} rows."
        raise DataError(message, "Leave those rows out before training.", column=name)


def check_names(input_cols: Any, label_col: Any) -> None:
    """Raise ConfigurationError unless the names of inputs and label were given as they should be."""
    if not isinstance(label_col, str) or not input_cols or isinstance(input_cols, str):
        message = "fit() needs the names of the columns to learn from and of the one to predict."
        raise ConfigurationError(message, 'Pass input_cols=["a", "b"] and label_col="y".')
    if label_col in input_cols:
        message = f"The label {label_col!r} is among the input columns: the model would read the answer."
        raise ConfigurationError(message, "Take it out of input_cols.")
