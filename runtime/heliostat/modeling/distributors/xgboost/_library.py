"""XGBoost without what only its scikit-learn face needs.

``import xgboost`` imports scikit-learn, and with it pandas and half of SciPy: about a second and
100 MB in each process, for classes that a training does not use. They are left out until somebody
in the same process asks for them, under whatever name and from whichever thread.
"""

from __future__ import annotations

import importlib
import importlib.util
import sys
import threading
from typing import TYPE_CHECKING, Any

from heliostat._extras import require

if TYPE_CHECKING:
    from importlib.machinery import ModuleSpec

_NAME, _NEEDS = "xgboost", "sklearn"


def library() -> Any:
    """Import XGBoost; its classes for scikit-learn are loaded when they are first used.

    Raises
    ------
    MissingDependencyError
        It is not installed.
    """
    if not {_NAME, _NEEDS} & set(sys.modules):
        finder = _Hidden(threading.get_ident())
        sys.meta_path.insert(0, finder)
        try:
            importlib.import_module(_NAME)
        except ImportError:
            # Tried again below: with scikit-learn, or to say that it is not installed.
            for name in [each for each in sys.modules if each.partition(".")[0] == _NAME]:
                del sys.modules[name]
        finally:
            sys.meta_path.remove(finder)
    return require(_NAME, _NAME, "XGBEstimator")


class _Hidden:
    """Finder that lets one thread find no scikit-learn; others, which may be importing it, do."""

    def __init__(self, thread: int) -> None:
        self._thread, self._asked = thread, False

    def find_spec(self, name: str, _path: object = None, _target: object = None) -> ModuleSpec | None:
        if threading.get_ident() != self._thread:
            return None
        if name == _NEEDS:
            message = "It is imported when somebody asks for it."
            raise ModuleNotFoundError(message, name=name)
        if name != _NAME or self._asked:
            return None
        self._asked = True
        found = importlib.util.find_spec(name)
        if found is not None and found.loader is not None:
            wrapped: Any = _Loader(found.loader)
            found.loader = wrapped
        return found


class _Loader:
    """Has XGBoost's classes deferred before another thread can see the module."""

    def __init__(self, loader: Any) -> None:
        self._loader = loader

    def create_module(self, spec: ModuleSpec) -> Any:
        return self._loader.create_module(spec)

    def exec_module(self, module: Any) -> None:
        module.__spec__.loader = module.__loader__ = self._loader
        self._loader.exec_module(module)
        compat = sys.modules.get(f"{_NAME}.compat")
        if not getattr(compat, "SKLEARN_INSTALLED", True):
            _Deferred(module)


class _Deferred:
    """The names of a package that are wrong without scikit-learn, taken away until one is asked for."""

    def __init__(self, package: Any) -> None:
        compat, face, training = (package.compat, package.sklearn, package.training)
        self._package, self._parts = package, (compat, face)
        self._poor = {**vars(compat), **vars(face)}
        self._lock, self._loading = threading.RLock(), False

        def of_face(module: Any) -> list[str]:
            return [n for n, v in vars(module).items() if getattr(v, "__module__", "") == face.__name__]

        self._late: list[tuple[Any, dict[str, Any]]] = []
        self._take(compat, [n for n in vars(compat) if n.startswith("XGB") or _NEEDS in n.lower()])
        self._take(training, ["cv"])
        self._take(package, ["cv", *of_face(package)])
        names = of_face(face)
        self._take(face, names)
        face.__all__ = [name for name in names if not name.startswith("_")]

    def _take(self, module: Any, names: list[str]) -> None:
        self._late.append((module, {name: vars(module).pop(name) for name in names}))

        def missing(name: str) -> Any:
            if name in names:
                self._load()
                if name in vars(module):
                    return vars(module)[name]
            message = f"module {module.__name__!r} has no attribute {name!r}"
            raise AttributeError(message)

        module.__getattr__ = missing
        module.__dir__ = lambda: sorted({*vars(module), *names})

    def _load(self) -> None:
        """Give everybody what they would have had of an import with scikit-learn."""
        with self._lock:
            if self._loading or not self._late:
                return
            self._loading = True
            try:
                for part in self._parts:
                    importlib.reload(part)
            finally:
                self._loading = False
            rich = {name: value for part in reversed(self._parts) for name, value in vars(part).items()}
            for key, module in list(sys.modules.items()):
                if key.startswith(f"{self._package.__name__}."):
                    self._rebind(module, rich)
            for module, names in self._late:
                for name, poor in names.items():
                    vars(module).setdefault(name, rich.get(name, poor))
                del module.__getattr__, module.__dir__
            del self._parts[1].__all__
            self._late = []

    def _rebind(self, module: Any, rich: dict[str, Any]) -> None:
        for name, value in list(vars(module).items()):
            if not name.startswith("__") and name in rich and self._poor.get(name, rich) is value:
                setattr(module, name, rich[name])
