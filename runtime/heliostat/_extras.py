"""Imports of packages that not every installation has, with an error that says how to get them."""

from __future__ import annotations

import importlib
from typing import Any

from heliostat.exceptions import MissingDependencyError


def require(module: str, extra: str, purpose: str) -> Any:
    """Import ``module``, or say which extra of Heliostat brings it.

    Parameters
    ----------
    module:
        Name to import; the imported module is returned.
    extra:
        Extra of the distribution that installs it.
    purpose:
        What it is needed for, as the start of a sentence.

    Raises
    ------
    MissingDependencyError
        The package is not installed. A package that is there and broken raises its own error.
    """
    try:
        return importlib.import_module(module)
    except ModuleNotFoundError as error:
        if error.name != module.partition(".")[0]:
            raise
        message = f"{purpose} needs the package {error.name!r}, which is not installed."
        action = f"Install it: pip install 'heliostat[{extra}]'"
        raise MissingDependencyError(message, action, package=error.name, extra=extra) from None
