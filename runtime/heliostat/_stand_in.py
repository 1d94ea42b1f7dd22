"""Modules that others import early and nobody may ever need: something takes their place until then."""

from __future__ import annotations

import importlib
import importlib.util
import sys
from types import ModuleType
from typing import Any, ClassVar

__all__ = ["StandIn"]


class StandIn(ModuleType):
    """In the place of the module ``of``; makes way for it when it is asked for what it does not have.

    Who bound a name of the stand-in at an import keeps that: subclasses have such names as
    functions that ask for :meth:`real` when they are called.
    """

    of: ClassVar[str]

    @classmethod
    def put(cls) -> bool:
        """Take the place; returns False, and does nothing, where the module is loaded or missing."""
        if cls.of in sys.modules:
            return False
        spec = importlib.util.find_spec(cls.of)
        if spec is None:
            return False
        module = cls(cls.of)
        module.__spec__ = spec
        module.__path__ = list(spec.submodule_search_locations or [])
        sys.modules[cls.of] = module
        return True

    @classmethod
    def made_way(cls) -> bool:
        """Whether the real module is in its place."""
        return not isinstance(sys.modules.get(cls.of), cls)

    @classmethod
    def real(cls) -> Any:
        """Import the real module and return it."""
        if not cls.made_way():
            del sys.modules[cls.of]
        return importlib.import_module(cls.of)

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__"):
            raise AttributeError(name)
        return getattr(self.real(), name)
