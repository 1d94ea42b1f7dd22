"""Import Ray in a third of the time.

``import ray`` imports jsonschema, which imports ``rfc3987_syntax`` when it is installed (it
always is beside Jupyter), which compiles a grammar of international URLs: 1.3 s of a 2 s
import, paid again by every worker. Nobody here checks such URLs, so a stand-in takes the
module's place and loads the real one when somebody first asks for it.
"""

from __future__ import annotations

import importlib
from typing import Any

from heliostat._stand_in import StandIn


class _Grammar(StandIn):
    """Stands in for the grammar module until an attribute of it is used."""

    of = "rfc3987_syntax"

    @classmethod
    def is_valid_syntax(cls, *args: Any, **kwargs: Any) -> Any:
        """Check a URL with the real module; jsonschema binds this name at its import."""
        return cls.real().is_valid_syntax(*args, **kwargs)


def defer_grammar() -> None:
    """Put the stand-in in place. Harmless when the module is missing or loaded already."""
    _Grammar.put()


def import_ray() -> Any:
    """Import Ray the fast way; every import of Ray in Heliostat goes through here."""
    defer_grammar()
    return importlib.import_module("ray")
