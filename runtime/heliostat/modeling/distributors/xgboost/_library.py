"""XGBoost without what only its scikit-learn face needs.

``import xgboost`` imports scikit-learn, and with it pandas and half of SciPy: about a second and
100 MB in each process, for classes that a training does not use. They are left out until somebody
in the same process asks for them.
"""

from __future__ import annotations

import importlib
import sys
import threading
from typing import Any

from heliostat._extras import require

_NEEDS = "sklearn"
_PARTS = ("compat", "sklearn")


def library() -> Any:
    """Import XGBoost; its classes for scikit-learn are loaded when they are first used.

    Raises
    ------
    MissingDependencyError
        It is not installed.
    """
    if "xgboost" in sys.modules or _NEEDS in sys.modules:
        return require("xgboost", "xgboost", "XGBEstimator")
    finder = _Hidden(threading.get_ident())
    sys.meta_path.insert(0, finder)
    try:
        found = require("xgboost", "xgboost", "XGBEstimator")
    finally:
        sys.meta_path.remove(finder)
    if all(hasattr(found, part) for part in _PARTS) and _NEEDS not in sys.modules:
        _defer(found)
    return found


class _Hidden:
    """Finder that lets one thread find no scikit-learn; others, which may be importing it, do."""

    def __init__(self, thread: int) -> None:
        self._thread = thread

    def find_spec(self, name: str, _path: object = None, _target: object = None) -> None:
        if name == _NEEDS and threading.get_ident() == self._thread:
            message = "It is imported when somebody asks for it."
            raise ModuleNotFoundError(message, name=name)


def _defer(found: Any) -> None:
    poor = {part: vars(found)[part] for part in _PARTS}
    face = f"{found.__name__}.sklearn"
    late = [name for name, value in vars(found).items() if getattr(value, "__module__", "") == face]
    for name in ("cv", *late, *_PARTS):
        delattr(found, name)
    for part in _PARTS:
        del sys.modules[f"{found.__name__}.{part}"]

    def missing(name: str) -> Any:
        if name not in ("cv", *late, *_PARTS):
            message = f"module {found.__name__!r} has no attribute {name!r}"
            raise AttributeError(message)
        del found.__getattr__
        rich = {part: importlib.import_module(f"{found.__name__}.{part}") for part in _PARTS}
        for module in [each for key, each in sys.modules.items() if key.startswith(f"{found.__name__}.")]:
            _rebind(module, vars(poor["compat"]), vars(rich["compat"]))
        found.cv = found.training.cv
        for other in late:
            setattr(found, other, getattr(rich["sklearn"], other))
        return getattr(found, name)

    found.__getattr__ = missing
    found.__dir__ = lambda: sorted({*vars(found), *found.__all__})


def _rebind(module: Any, former: dict[str, Any], now: dict[str, Any]) -> None:
    """Give a module, in place of what it imported from the poor part, what the rich one has."""
    for name, value in list(vars(module).items()):
        if not name.startswith("__") and name in now and former.get(name, now) is value:
            setattr(module, name, now[name])
