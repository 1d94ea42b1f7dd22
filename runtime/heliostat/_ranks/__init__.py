"""Ranks: a notebook that is many. The library behind ``%%distribute``.

::

    from heliostat import _ranks

    group = _ranks.start(_ranks.Wish(ranks=4))
    _ranks.conduct(group, group.run("print(rank, world_size)"))
    group.objects.push({"x": 1})
    group.objects.pull("x")
"""

from __future__ import annotations

from heliostat._ranks._conduct import Options, conduct
from heliostat._ranks._current import current, start, stop
from heliostat._ranks._decide import Limits
from heliostat._ranks._group import RankGroup
from heliostat._ranks._handle import Handle
from heliostat._ranks._plan import Wish
from heliostat._ranks._run import Run
from heliostat._ranks._screen import Screen
from heliostat._ranks._targets import parse_targets, spell
from heliostat._ranks._torch import join

__all__ = [
    "Handle",
    "Limits",
    "Options",
    "RankGroup",
    "Run",
    "Screen",
    "Wish",
    "conduct",
    "current",
    "join",
    "parse_targets",
    "spell",
    "start",
    "stop",
]
