"""Where rows come from: each kind of source behind the same few verbs.

``source_of`` takes what a user has in hand; ``source_from`` takes descriptions of sources.
Each kind is a module of its own, imported when something of that kind is met.
"""

from __future__ import annotations

from heliostat.data._sources._base import Source
from heliostat.data._sources._described import source_from
from heliostat.data._sources._dispatch import source_of
from heliostat.data._sources._width import BATCH_ROWS

__all__ = ["BATCH_ROWS", "Source", "source_from", "source_of"]
