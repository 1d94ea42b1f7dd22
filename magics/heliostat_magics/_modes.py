"""What may follow ``%%distribute``: one line for each mode, imported when it is used.

A mode is a :class:`~heliostat_magics._base.Magic` of its own; its parser reads the rest of the line.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from IPython.core.interactiveshell import InteractiveShell

    from heliostat_magics._base import Magic

__all__ = ["MODES", "make"]

MODES: dict[str, tuple[str, str]] = {
    "": ("heliostat_magics.distribute:SpmdMode", "the cell on all or some ranks"),
    "lightgbm": ("heliostat_magics.distribute_boost:LightGBMMode", "trains a LightGBM model"),
    "map": ("heliostat_magics.distribute_map:MapMode", "the cell for each part of a table or each item"),
    "torch": ("heliostat_magics.distribute:TorchMode", "the cell with PyTorch's process group"),
    "xgboost": ("heliostat_magics.distribute_boost:XGBoostMode", "trains an XGBoost model"),
}
"""Mode -> (``module:class``, what it runs)."""


def make(name: str, shell: InteractiveShell) -> Magic:
    """Import a mode and make it."""
    module, _, kind = MODES[name][0].partition(":")
    mode: Magic = getattr(importlib.import_module(module), kind)(shell)
    return mode
