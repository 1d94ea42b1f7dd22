"""Leave torch's compiler alone until somebody compiles.

The first DDP module and the first step of an optimizer only ask ``torch._dynamo`` whether it is
tracing, and for that import it: 800 modules, as long as importing torch itself. A stand-in in its
place knows the answers of a compiler that nobody has used; whatever else it is asked for makes
way for the real one.
"""

from __future__ import annotations

import functools
import importlib.abc
import sys
from importlib.machinery import ModuleSpec
from typing import TYPE_CHECKING, Any

from heliostat._stand_in import StandIn

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from types import ModuleType


def defer_compiler() -> None:
    """Put the stand-in in place. Harmless when the compiler is loaded, or is not where it was."""
    if _Late.put():
        sys.meta_path.insert(0, _Below())


class _Late(StandIn):
    """Stands in for ``torch._dynamo`` until something else than what is below is used."""

    of = "torch._dynamo"

    @staticmethod
    def graph_break(*_: Any, **__: Any) -> None:
        """Nothing is traced, so no trace is broken off."""

    @staticmethod
    def disable(fn: Any = None, recursive: bool = True, **options: Any) -> Any:
        """Return ``fn``; from when there is a compiler on, the one that it will not trace."""
        if not callable(fn) or isinstance(fn, type) or not hasattr(fn, "__code__"):
            return _Late.real().disable(fn, recursive, **options)
        return _untraced(fn, recursive, options)

    def __getattr__(self, name: str) -> Any:
        return _Part(name) if name in _KNOWN else super().__getattr__(name)

    def __setattr__(self, name: str, value: Any) -> None:
        if name.startswith("__") or sys.modules.get(self.of) is not self:
            super().__setattr__(name, value)
        else:
            setattr(self.real(), name, value)


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
        if not _Late.made_way() and name in _KNOWN[self._name]:
            return _KNOWN[self._name][name]
        return getattr(getattr(_Late.real(), self._name), name)

    def __setattr__(self, name: str, value: Any) -> None:
        setattr(getattr(_Late.real(), self._name), name, value)


class _Below(importlib.abc.MetaPathFinder):
    """Has the real package imported before one of its modules is."""

    def find_spec(
        self, fullname: str, path: Sequence[str] | None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        if not fullname.startswith(f"{_Late.of}.") or _Late.made_way():
            return None
        _Late.real()
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


def _untraced(function: Callable[..., Any], recursive: bool, options: dict[str, Any]) -> Callable[..., Any]:
    disabled: list[Callable[..., Any]] = []

    @functools.wraps(function)
    def untraced(*args: Any, **kwargs: Any) -> Any:
        if not _Late.made_way():
            return function(*args, **kwargs)
        if not disabled:
            disabled.append(_Late.real().disable(function, recursive, **options))
        return disabled[0](*args, **kwargs)

    return untraced
