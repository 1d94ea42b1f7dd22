"""``%runtime``: show and steer the Ray runtime behind the notebook."""

from __future__ import annotations

from typing import TYPE_CHECKING

from heliostat_magics._actions import act
from heliostat_magics._arguments import make_parser, read
from heliostat_magics._base import Magic

if TYPE_CHECKING:
    import argparse

    from heliostat_magics._parser import MagicParser
    from heliostat_magics._view import RuntimeView

__all__ = ["RuntimeMagic"]


class RuntimeMagic(Magic):
    """``%runtime``."""

    def parser(self, line: str) -> MagicParser:
        """Make the parser."""
        del line
        return make_parser()

    def run(self, arguments: argparse.Namespace, cell: str | None) -> RuntimeView | None:
        """Do what the command says, and show the runtime."""
        del cell
        return act(self.shell, read(arguments))
