"""The model to go on from, whatever it was given as."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any

from heliostat._stages import open_location
from heliostat.exceptions import ConfigurationError
from heliostat.modeling.distributors._boosting._estimator import BoostingEstimator

if TYPE_CHECKING:
    from collections.abc import Callable

_ACTION = "Pass a booster, an estimator, or the path of a model."


def start_bytes(model: Any, argument: str, library: str, to_bytes: Callable[[Any], bytes]) -> bytes | None:
    """Return the bytes of a model in the form of the library.

    Parameters
    ----------
    model:
        ``None``, a booster, an estimator of ours or of the library, or the name of a file's place.
    argument, library:
        Name of the argument that it came in, and of the library, for errors.
    to_bytes:
        Makes bytes of a booster, or of those of a file. Raises AttributeError for anything else.

    Raises
    ------
    ConfigurationError
        It is no model, or there is no such file.
    """
    if model is None:
        return None
    if isinstance(model, BoostingEstimator):
        model = model.get_booster()
    if isinstance(model, str | os.PathLike):
        place = open_location(model)
        if not place.is_file():
            message = f"{argument}={os.fspath(model)!r} is no file."
            raise ConfigurationError(message, _ACTION)
        model = place.read_bytes()
    try:
        return to_bytes(model)
    except AttributeError:
        message = f"{argument} is a {type(model).__name__}, not a model of {library}."
        raise ConfigurationError(message, _ACTION) from None
