"""Import Ray in a third of the time.

``import ray`` imports jsonschema, which imports ``rfc3987_syntax`` when it is installed (it
always is beside Jupyter), which compiles a grammar of international URLs: 1.3 s of a 2 s
import, paid again by every worker. Nobody here checks such URLs, so a stand-in takes the
module's place and loads the real one when somebody first asks for it.
"""

from __future__ import annotations

import importlib
import importlib.util
import sys
from types import ModuleType
from typing import Any

_GRAMMAR = "rfc3987_syntax"


class _Deferred(ModuleType):
    """Stands in for the grammar module until an attribute of it is used."""

    def is_valid_syntax(self, *args: Any, **kwargs: Any) -> Any:
        """Check a URL with the real module; jsonschema binds this name at its import."""
        return _load_grammar().is_valid_syntax(*args, **kwargs)

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__"):
            raise AttributeError(name)
        return getattr(_load_grammar(), name)


def _load_grammar() -> Any:
    if isinstance(sys.modules.get(_GRAMMAR), _Deferred):
        del sys.modules[_GRAMMAR]
    return importlib.import_module(_GRAMMAR)


def defer_grammar() -> None:
    """Put the stand-in in place. Harmless when the module is missing or loaded already."""
    if _GRAMMAR in sys.modules:
        return
    spec = importlib.util.find_spec(_GRAMMAR)
    if spec is None:
        return
    module = _Deferred(_GRAMMAR)
    module.__spec__ = spec
    module.__path__ = list(spec.submodule_search_locations or [])
    sys.modules[_GRAMMAR] = module


def import_ray() -> Any:
    """Import Ray the fast way; every import of Ray in Heliostat goes through here."""
    defer_grammar()
    return importlib.import_module("ray")
