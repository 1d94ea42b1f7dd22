"""Workers of the runtime for distributed training: warm, watched, and gone when they should be."""

from __future__ import annotations

from heliostat.modeling._workers._actor import WorkerContext
from heliostat.modeling._workers._deaths import Death
from heliostat.modeling._workers._group import Group, Layout, lease
from heliostat.modeling._workers._pool import pool
from heliostat.modeling._workers._run import (
    Event,
    Failure,
    Finished,
    PeerLostError,
    Run,
    RunFailedError,
    Said,
    cause,
    training_error,
)
from heliostat.modeling._workers._worker import Size

__all__ = [
    "Death",
    "Event",
    "Failure",
    "Finished",
    "Group",
    "Layout",
    "PeerLostError",
    "Run",
    "RunFailedError",
    "Said",
    "Size",
    "WorkerContext",
    "cause",
    "lease",
    "pool",
    "training_error",
]
