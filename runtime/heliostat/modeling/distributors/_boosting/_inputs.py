"""What ``fit`` was given, in one shape: connectors whose columns have names and roles."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from heliostat.data.data_connector import DataConnector
from heliostat.exceptions import ConfigurationError, DataError
from heliostat.modeling.distributors._boosting._columns import check_names, require_columns

LABEL = "__heliostat_label__"
_ROLE = "__heliostat_{}__"


@dataclass(frozen=True)
class Given:
    """One data set: a connector, and which of its columns are what."""

    connector: DataConnector
    inputs: tuple[str, ...]
    label: str
    roles: Mapping[str, str] = field(default_factory=dict)
    named: bool = True
    frame: Any = None
    """The frame itself where it is in memory, for the order of its categories."""


def given(
    dataset: Any,
    input_cols: Any = None,
    label_col: Any = None,
    roles: Mapping[str, Any] | None = None,
    like: Given | None = None,
) -> Given:
    """Shape what was passed as a data set.

    Parameters
    ----------
    dataset, input_cols, label_col:
        As passed to ``fit``: a connector or frame with names of columns, ``(X, y)`` as a tuple,
        or ``X`` and ``y`` as the first two.
    roles:
        For each role the name of a column, or an array as long as the data; ``None`` is left out.
    like:
        The training data, whose names are the default for an evaluation set.

    Raises
    ------
    ConfigurationError
        It cannot be told what is what.
    DataError
        Columns are missing, or lengths differ.
    """
    roles = {role: value for role, value in (roles or {}).items() if value is not None}
    if isinstance(dataset, tuple):
        if len(dataset) != 2:
            message = f"A data set in a tuple is (X, y), and this one has {len(dataset)} parts."
            raise ConfigurationError(message, "Pass weights and groups by their own arguments.")
        return _of_arrays(dataset[0], dataset[1], roles, like)
    if _is_target(dataset, input_cols):
        return _of_arrays(dataset, input_cols, roles, like)
    if like is not None and (like.label == LABEL or not input_cols):
        if like.label == LABEL:
            message = "The model is trained on (X, y), so an evaluation set is (X, y) as well."
            raise ConfigurationError(message, "Pass eval_set=(X, y).")
        input_cols, label_col = like.inputs, like.label
    check_names(input_cols, label_col)
    frame, connector = _connector(dataset)
    names = {role: value for role, value in roles.items() if isinstance(value, str)}
    arrays = {role: value for role, value in roles.items() if role not in names}
    where = "data" if like is None else "evaluation set"
    require_columns(connector.schema, [*input_cols, label_col, *names.values()], where)
    if arrays:
        connector = _with_arrays(_table(frame, connector), arrays)
        names |= {role: _ROLE.format(role) for role in arrays}
    return Given(connector, tuple(input_cols), label_col, names, frame=frame)


def evaluation_sets(value: Any, train: Given, roles: Sequence[Mapping[str, Any]]) -> dict[str, Given]:
    """Shape ``eval_set``: one data set, a list of them, or a mapping of names to them.

    A single one is called ``eval``, those of a list ``eval``, ``eval_1``, ... ``roles`` has
    those of each that are arrays of its own.
    """
    if value is None:
        return {}
    if isinstance(value, Mapping):
        named = {str(name): part for name, part in value.items()}
    elif isinstance(value, list):
        named = {"eval" if not index else f"eval_{index}": part for index, part in enumerate(value)}
    else:
        named = {"eval": value}
    if "train" in named:
        message = "The name 'train' is that of the training data."
        raise ConfigurationError(message, "Give the evaluation set another name.")
    shared = {role: name for role, name in train.roles.items() if not name.startswith("__heliostat_")}
    found = {}
    for index, (name, part) in enumerate(named.items()):
        own = dict(roles[index]) if index < len(roles) else {}
        found[name] = given(part, None, None, {**shared, **own}, like=train)
    return found


def own_roles(eval_set: Any, **arrays: Sequence[Any]) -> list[dict[str, Any]]:
    """Put the arrays that belong to each evaluation set together."""
    count = len(eval_set) if isinstance(eval_set, list | Mapping) else int(eval_set is not None)
    for name, given_arrays in arrays.items():
        if given_arrays is not None and len(given_arrays) not in (0, count):
            message = f"There are {count} evaluation sets and {len(given_arrays)} arrays of {name} for them."
            raise ConfigurationError(message, "Pass one for each, or none.")
    return [
        {name: values[index] for name, values in arrays.items() if values is not None and len(values)}
        for index in range(count)
    ]


def features(data: Any, inputs: Sequence[str], *, named: bool) -> DataConnector:
    """Shape what ``predict`` was given: a connector or frame with the inputs, or an array of them."""
    if not isinstance(data, DataConnector) and _is_array(data):
        return DataConnector.from_dataframe(_table_of_array(data))
    connector = _connector(data)[1]
    if not named and len(connector.columns) == len(inputs) and connector.columns != list(inputs):
        message = "The model was trained on an array, whose columns have no names."
        raise DataError(message, "Pass an array to predict() as well.")
    require_columns(connector.schema, list(inputs))
    return connector


def _is_target(dataset: Any, second: Any) -> bool:
    """Whether the second argument is ``y`` and not names of columns."""
    if second is None or isinstance(second, str):
        return False
    if isinstance(second, list | tuple):
        texts = all(isinstance(item, str) for item in second)
        columns = getattr(dataset, "columns", None)
        return not texts or (columns is None and not isinstance(dataset, DataConnector))
    return True


def _of_arrays(features: Any, target: Any, roles: Mapping[str, Any], like: Given | None) -> Given:
    import numpy as np

    named = not _is_array(features)
    table = _table_of_array(features) if not named else _table(*_connector(features))
    inputs = tuple(table.column_names)
    if like is not None and inputs != like.inputs:
        if set(inputs) != set(like.inputs):
            message = "The evaluation set has other columns than the training data."
            raise DataError(message, f"Columns of the training: {', '.join(like.inputs[:10])}.")
        inputs = like.inputs
    shape = getattr(target, "shape", None)
    if shape is not None and len(shape) > 1 and int(np.prod(shape[1:])) != 1:
        message = f"The labels have the shape {tuple(shape)}; models with several outputs are not offered."
        raise ConfigurationError(message, "Pass one label for each row.")
    by_name = {role: value for role, value in roles.items() if isinstance(value, str)}
    if by_name:
        message = f"{', '.join(by_name)} must be an array where the data is (X, y)."
        raise ConfigurationError(message, "Pass one value for each row.")
    connector = _with_arrays(table, {"label": target, **roles})
    columns = {role: _ROLE.format(role) for role in roles}
    return Given(connector, inputs, LABEL, columns, named=named, frame=None if not named else features)


def _connector(data: Any) -> tuple[Any, DataConnector]:
    if isinstance(data, DataConnector):
        return None, data
    return data, DataConnector.from_dataframe(data)


def _table(frame: Any, connector: DataConnector) -> Any:
    if frame is None:
        message = "Values for each row can be arrays only where the data is in memory."
        raise ConfigurationError(message, "Name a column of the data instead.")
    return connector.to_arrow()


def _is_array(data: Any) -> bool:
    """Whether it is a matrix whose columns have no names. Sparse ones are refused by name."""
    kind = type(data)
    if kind.__module__.partition(".")[0] == "scipy":
        message = f"A sparse matrix ({kind.__name__}) is not taken."
        raise DataError(message, "Pass X.toarray(), if it fits in memory.")
    return isinstance(data, list) or (hasattr(data, "__array__") and not hasattr(data, "columns"))


def _table_of_array(data: Any) -> Any:
    import numpy as np
    import pyarrow as pa

    matrix = np.asarray(data)
    if matrix.ndim != 2 or matrix.dtype.kind not in "fiub":
        message = f"An array of shape {matrix.shape} and type {matrix.dtype} is not a matrix of numbers."
        raise DataError(message, "Pass one row for each example and one column for each input.")
    columns = [np.ascontiguousarray(matrix[:, index]) for index in range(matrix.shape[1])]
    return pa.table({f"f{index}": column for index, column in enumerate(columns)})


def _with_arrays(table: Any, arrays: Mapping[str, Any]) -> DataConnector:
    import numpy as np
    import pyarrow as pa

    for role, values in arrays.items():
        if hasattr(values, "cat"):
            values = values.astype(values.cat.categories.dtype)  # noqa: PLW2901
        array = values if isinstance(values, pa.Array) else pa.array(np.asarray(values).ravel())
        if len(array) != table.num_rows:
            message = f"There are {table.num_rows} rows and {len(array)} values of {role}."
            raise DataError(message, "Pass one value for each row.")
        table = table.append_column(_ROLE.format(role), array)
    return DataConnector.from_dataframe(table)
