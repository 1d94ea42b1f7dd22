"""From what ``fit`` was given to what each worker gets: columns, categories, classes, parts of rows."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

from heliostat.exceptions import ConfigurationError, DataError
from heliostat.modeling.distributors._boosting import _columns
from heliostat.modeling.distributors._boosting._rows import at_groups

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from heliostat.modeling.distributors._boosting._columns import Columns
    from heliostat.modeling.distributors._boosting._inputs import Given
    from heliostat.modeling.distributors._boosting._rows import Rows
    from heliostat.modeling.distributors._boosting._spec import Spec


def columns_of(train: Given, categorical: Sequence[str]) -> Columns:
    """Decide which columns are what, by their types. Raises ConfigurationError, DataError."""
    schema = train.connector.schema
    require = [name for name in categorical if name not in train.inputs]
    if require:
        message = f"categorical_cols names {', '.join(map(repr, require))}, which is no input."
        raise ConfigurationError(message)
    kinds = tuple(
        _columns.CATEGORY if name in categorical else _columns.kind_of(schema, name) for name in train.inputs
    )
    if not _columns.is_text(schema, train.label):
        _columns.kind_of(schema, train.label)
    return _columns.Columns(train.inputs, kinds, train.label, train.roles, named=train.named)


def complete(columns: Columns, train: Given, rows: Rows, spec: Spec) -> Columns:
    """Find categories and classes, which takes a look at the rows."""
    if not rows.rows:
        message = "There are no rows to train on."
        raise DataError(message)
    categories = {
        name: _categories(train, rows, name)
        for name, kind in zip(columns.inputs, columns.kinds, strict=True)
        if kind == _columns.CATEGORY
    }
    classes = None
    if _columns.is_text(train.connector.schema, train.label):
        if not spec.classifier:
            message = f"The label column {train.label!r} has texts, and {spec.objective} predicts numbers."
            raise DataError(message, "Choose an objective for classes.", column=train.label)
        classes = tuple(_columns.distinct(rows, train.label))
    return replace(columns, categories=categories, classes=classes)


class Parts:
    """Each rank's part of every data set, for any number of workers."""

    def __init__(self, rows: Mapping[str, Rows], inputs: Mapping[str, Given], *, grouped: bool) -> None:
        self._rows, self._inputs, self._grouped = rows, inputs, grouped
        for name, each in inputs.items():
            if grouped and "qid" not in each.roles:
                message = f"The data set {name!r} has no groups, and the training data has."
                raise ConfigurationError(message, "Pass them as eval_qid.")

    def of(self, count: int) -> list[dict[str, Any]]:
        """Return for each rank its part of each data set by name. Raises DataError for too few rows."""
        split: dict[str, list[Any]] = {}
        for name, rows in self._rows.items():
            if rows.rows < count:
                message = f"There are fewer {name} rows ({rows.rows}) than workers ({count})."
                raise DataError(message, "Ask for fewer workers in the scaling config.")
            if self._grouped:
                split[name] = at_groups(rows, self._inputs[name].roles["qid"], count)
            else:
                split[name] = rows.split(count)
        return [{name: parts[rank] for name, parts in split.items()} for rank in range(count)]


def wanted(each: Given) -> list[str]:
    """Every column of a data set that is read."""
    return list(dict.fromkeys([*each.inputs, each.label, *each.roles.values()]))


def columns_by_set(columns: Columns, inputs: Mapping[str, Given]) -> dict[str, Columns]:
    """Columns of each data set: all as in the training, but for where label and roles are."""
    return {name: replace(columns, label=each.label, roles=dict(each.roles)) for name, each in inputs.items()}


def _categories(train: Given, rows: Rows, name: str) -> list[Any]:
    """Values of a category in the order of their codes: the frame's own where it has one."""
    frame = train.frame
    column: Any = frame[name] if frame is not None and hasattr(frame, "columns") else None
    if hasattr(column, "cat") and hasattr(column.cat, "categories"):
        return list(column.cat.categories)
    return _columns.distinct(rows, name)
