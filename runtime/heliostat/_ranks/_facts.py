"""What the group and its ranks tell each other through Ray: small, frozen, picklable."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

__all__ = ["OURS", "RESULT_OF", "STACKS_SIGNAL", "Place", "Prepared", "RankFacts"]

OURS = "heliostat"
"""Key in the metadata of the group's requests, and of the replies to them."""

RESULT_OF = "result:"
"""Before a request's id: what that cell returned. No variable has such a name."""

STACKS_SIGNAL = 12
"""SIGUSR2: a rank writes its stacks to its crash file, also while C code holds the GIL."""


@dataclass(frozen=True)
class Place:
    """Who a rank is; what the user sees as ``rank``, ``local_rank`` and ``world_size``."""

    rank: int
    local_rank: int
    world_size: int
    local_world_size: int


@dataclass(frozen=True)
class RankFacts:
    """What a process needs to become a rank."""

    directory: str
    """Where the notebook runs; the rank runs there too, if the node has it."""
    path: tuple[str, ...]
    """What the notebook added to ``sys.path``."""
    threads: int
    """For OpenMP and its kind."""


@dataclass(frozen=True)
class Prepared:
    """What a rank is, once it listens. ``connection`` holds the keys; it travels through Ray only."""

    pid: int
    started_at: float
    node_id: str
    raylet_pid: int
    host: str
    devices: str
    """``CUDA_VISIBLE_DEVICES``; empty without a GPU."""
    crash_file: str
    connection: dict[str, Any]
