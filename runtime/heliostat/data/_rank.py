"""Which of the processes that train together this one is.

Trainers set the environment variables ``RANK``, ``WORLD_SIZE`` and ``LOCAL_WORLD_SIZE`` in the
process of each rank, as ``torchrun`` does.
"""

from __future__ import annotations

import os
from dataclasses import dataclass

from heliostat.exceptions import ConfigurationError

CPUS_VARIABLE = "HELIOSTAT_RANK_CPUS"
"""Set for a rank that runs on CPUs of its own: how many."""


@dataclass(frozen=True)
class Rank:
    """Number ``rank`` of ``world_size``, counted from 0."""

    rank: int
    world_size: int

    def __post_init__(self) -> None:
        if not 0 <= self.rank < self.world_size:
            message = f"There is no rank {self.rank} of {self.world_size}."
            raise ConfigurationError(message, "Ranks are counted from 0.")


def current_rank() -> Rank | None:
    """Return the rank of this process, or ``None`` outside of training."""
    rank, world_size = os.environ.get("RANK", ""), os.environ.get("WORLD_SIZE", "")
    return Rank(int(rank), int(world_size)) if rank.isdigit() and world_size.isdigit() else None


def rank_cpus(usable: int) -> int:
    """Of the ``usable`` CPUs of this machine those for this rank: its own, or an equal part.

    All of them outside of training, as far as the environment says.
    """
    own, ranks = os.environ.get(CPUS_VARIABLE, ""), os.environ.get("LOCAL_WORLD_SIZE", "")
    if own.isdigit():
        return max(int(own), 1)
    return max(usable // max(int(ranks), 1), 1) if ranks.isdigit() else usable
