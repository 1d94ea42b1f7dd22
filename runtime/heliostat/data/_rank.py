"""Which of the processes that train together this one is.

Trainers set the environment variables ``RANK``, ``WORLD_SIZE`` and ``LOCAL_WORLD_SIZE`` in the
process of each rank, as ``torchrun`` does.
"""

from __future__ import annotations

import os
from dataclasses import dataclass

from heliostat.exceptions import ConfigurationError


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


def local_ranks() -> int:
    """How many ranks share this machine, as far as the environment says; 1 outside of training."""
    found = os.environ.get("LOCAL_WORLD_SIZE", "")
    return max(int(found), 1) if found.isdigit() else 1
