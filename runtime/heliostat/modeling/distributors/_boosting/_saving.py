"""Models on disk: the library's own file, and beside it what the estimator knows."""

from __future__ import annotations

import json
import warnings
from dataclasses import asdict
from typing import Any, TypeVar

from heliostat.exceptions import DataError
from heliostat.modeling.distributors._boosting._columns import Columns

_MODEL, _SETTINGS = "model", "estimator.json"
_FORMAT = 1
Estimator = TypeVar("Estimator")


def save(estimator: Any, model: bytes, location: str) -> None:
    """Write ``model`` and the settings of ``estimator`` below a location."""
    from heliostat._stages import open_location

    directory = open_location(location)
    settings, left_out = _plain(estimator)
    if left_out:
        message = f"Functions cannot be saved and were left out: {', '.join(left_out)}."
        warnings.warn(message, UserWarning, stacklevel=3)
    text = json.dumps(
        {
            "format": _FORMAT,
            "class": type(estimator).__name__,
            "settings": settings,
            "columns": asdict(estimator._columns),
            "eval_results": estimator.get_eval_results(),
        },
        default=_number,
        indent=1,
    )
    with directory.join(_MODEL).open_output() as file:
        file.write(model)
    with directory.join(_SETTINGS).open_output() as file:
        file.write(text.encode())


def load(cls: type[Estimator], location: str) -> Estimator:
    """Read an estimator of class ``cls`` back. Raises DataError."""
    from heliostat._stages import open_location

    directory = open_location(location)
    text = directory.join(_SETTINGS).read_bytes()
    try:
        saved = json.loads(text)
        name, number = saved["class"], saved["format"]
    except (ValueError, KeyError, TypeError) as error:
        message = f"{directory}/{_SETTINGS} is not what an estimator writes: {error}"
        raise DataError(message) from error
    if name != cls.__name__ or number != _FORMAT:
        message = f"{directory} holds a {name} of format {number}, not a {cls.__name__} of {_FORMAT}."
        raise DataError(message, f"Load it with {name}.load().")
    settings = dict(saved["settings"])
    scaling = settings.pop("scaling_config")
    made: Any = cls(**settings)
    if scaling is not None:
        made.scaling_config = made._scaling_class(**scaling)
    columns = saved["columns"]
    lists = {key: tuple(columns[key]) for key in ("inputs", "kinds")}
    classes = None if columns["classes"] is None else tuple(columns["classes"])
    made._keep(
        directory.join(_MODEL).read_bytes(),
        {},
        saved["eval_results"],
        Columns(**{**columns, **lists, "classes": classes}),
    )
    found: Estimator = made
    return found


def _plain(estimator: Any) -> tuple[dict[str, Any], list[str]]:
    settings = estimator.get_params()
    left_out = ["callbacks"] if settings.pop("callbacks") else []
    scaling = settings["scaling_config"]
    settings["scaling_config"] = None if scaling is None else asdict(scaling)
    if callable(settings["objective"]):
        left_out.append("objective")
        del settings["objective"]
    params = dict(settings["params"] or {})
    for name, value in list(params.items()):
        try:
            json.dumps(value, default=_number)
        except TypeError:
            left_out.append(f"params[{name!r}]")
            del params[name]
    settings["params"] = params if settings["params"] is not None else None
    return settings, left_out


def _number(value: Any) -> Any:
    """Numbers and arrays of numpy as JSON has them."""
    if hasattr(value, "tolist"):
        return value.tolist()
    message = f"{type(value).__name__} is not plain"
    raise TypeError(message)
