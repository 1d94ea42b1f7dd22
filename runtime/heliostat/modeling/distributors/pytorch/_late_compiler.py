"""Leave torch's compiler alone until somebody compiles.

The first DDP module and the first step of an optimizer only ask ``torch._dynamo`` whether it is
tracing, and for that import it: 800 modules, as long as importing torch itself. A stand-in in its
place knows the answers of a compiler that nobody has used; whatever else it is asked for makes
way for the real one.
"""

from __future__ import annotations

import functools
import importlib
import importlib.abc
import importlib.util
import sys
from importlib.machinery import ModuleSpec
from types import ModuleType
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

_NAME = "torch._dynamo"


def defer_compiler() -> None:
    """Put the stand-in in place. Harmless when the compiler is loaded, or is not where it was."""
    if _NAME in sys.modules:
        return
    spec = importlib.util.find_spec(_NAME)
    if spec is None:
        return
    stand_in = _Late(_NAME)
    stand_in.__spec__ = spec
    stand_in.__path__ = list(spec.submodule_search_locations or [])
    sys.modules[_NAME] = stand_in
    sys.meta_path.insert(0, _Below())


class _Late(ModuleType):
    """Stands in for ``torch._dynamo`` until something else than what is below is used."""

    @staticmethod
    def graph_break(*_: Any, **__: Any) -> None:
        """Nothing is traced, so no trace is broken off."""

    @staticmethod
    def disable(fn: Any = None, recursive: bool = True, **options: Any) -> Any:
        """Return ``fn``; from when there is a compiler on, the one that it will not trace."""
        if not callable(fn) or isinstance(fn, type) or not hasattr(fn, "__code__"):
            return _real().disable(fn, recursive, **options)
        return _untraced(fn, recursive, options)

    def __getattr__(self, name: str) -> Any:
        if name in _KNOWN:
            return _Part(name)
        if name.startswith("__"):
            raise AttributeError(name)
        return getattr(_real(), name)

    def __setattr__(self, name: str, value: Any) -> None:
        if name.startswith("__") or sys.modules.get(_NAME) is not self:
            super().__setattr__(name, value)
        else:
            setattr(_real(), name, value)


_KNOWN: dict[str, dict[str, Callable[..., Any]]] = {
    "utils": {"get_optimize_ddp_mode": lambda: "ddp_optimizer"},
    "trace_rules": {"clear_lru_cache": lambda: None},
}
"""Functions of submodules with what they answer while nobody has compiled."""


class _Part:
    """Stands in for a submodule, for who asks for it through the stand-in."""

    def __init__(self, name: str) -> None:
        self.__dict__["_name"] = name

    def __getattr__(self, name: str) -> Any:
        if not _is_real() and name in _KNOWN[self._name]:
            return _KNOWN[self._name][name]
        return getattr(getattr(_real(), self._name), name)

    def __setattr__(self, name: str, value: Any) -> None:
        setattr(getattr(_real(), self._name), name, value)


class _Below(importlib.abc.MetaPathFinder):
    """Has the real package imported before one of its modules is."""

    def find_spec(
        self, fullname: str, path: Sequence[str] | None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        if not fullname.startswith(f"{_NAME}.") or _is_real():
            return None
        _real()
        found = sys.modules.get(fullname)
        # The import that asks would make it anew; let it have what the package has made.
        return None if found is None else ModuleSpec(fullname, _There(found))


class _There(importlib.abc.Loader):
    """Loads a module that is there already."""

    def __init__(self, module: ModuleType) -> None:
        self._module, self._spec = module, module.__spec__

    def create_module(self, spec: ModuleSpec) -> ModuleType:
        return self._module

    def exec_module(self, module: ModuleType) -> None:
        module.__spec__ = self._spec


def _is_real() -> bool:
    return not isinstance(sys.modules.get(_NAME), _Late)


def _real() -> Any:
    if not _is_real():
        del sys.modules[_NAME]
    return importlib.import_module(_NAME)


def _untraced(function: Callable[..., Any], recursive: bool, options: dict[str, Any]) -> Callable[..., Any]:
    disabled: list[Callable[..., Any]] = []

    @functools.wraps(function)
    def untraced(*args: Any, **kwargs: Any) -> Any:
        if not _is_real():
            return function(*args, **kwargs)
        if not disabled:
            disabled.append(_real().disable(function, recursive, **options))
        return disabled[0](*args, **kwargs)

    return untraced
