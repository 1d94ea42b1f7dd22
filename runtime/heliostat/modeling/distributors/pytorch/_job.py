"""What the driver tells a rank, and what a rank tells the driver."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from heliostat._location import Location
    from heliostat.modeling.distributors.pytorch._plan import Position


@dataclass(frozen=True)
class Frame:
    """One line of a stack."""

    file: str
    line: int
    function: str


@dataclass(frozen=True)
class Job:
    """One rank's part of a training."""

    request_id: str
    attempt: int
    position: Position
    function: bytes
    """The pickled ``train_func``; the rank unpickles it when its surroundings are ready."""
    hyper_params: Mapping[str, Any] | None
    datasets: bytes | None
    """A pickled map of connectors."""
    cpus: int
    """CPUs of this rank, and so its threads."""
    gpus: int
    """GPUs of this rank."""
    local: bool
    """Whether all ranks are on the driver's machine; then nothing listens to the network."""
    legacy: bool
    """Whether ``train_func`` sets up the process group itself."""
    hang_timeout_s: float
    directory: str
    """The driver's working directory."""
    paths: Sequence[str]
    """The driver's ``sys.path``."""
    log_path: str
    artifacts: Location
    reported: Sequence[Reported]
    """Checkpoints that are whole and kept, oldest first."""
    checkpoints: int
    """How many checkpoints were made so far."""
    keep: int | None
    """How many checkpoints are kept; ``None`` for all."""


@dataclass(frozen=True)
class Reported:
    """A checkpoint that is whole: its name, and rank 0's metrics that came with it."""

    name: str
    metrics: Mapping[str, Any]


@dataclass(frozen=True)
class Metrics:
    """What ``train_func`` reported, with the checkpoint that belongs to it."""

    values: Mapping[str, Any]
    checkpoint: str | None = None
    """Name of a checkpoint that is now whole."""


@dataclass(frozen=True)
class Pulse:
    """Sent twice a second. ``activity`` grows with all that a rank does."""

    activity: int
    steps: int
    step_seconds: float | None
    rows: int | None
    """Rows that are the rank's own, where its datasets are divided."""
    memory_bytes: int | None


@dataclass(frozen=True)
class Printed:
    """Output of a rank. ``stored``: whether it lies in the driver's file already."""

    data: bytes
    stored: bool


class End(StrEnum):
    """How ``train_func`` ended on a rank."""

    RETURNED = "returned"
    RAISED = "raised"
    RESIZE = "resize"
    INTERRUPTED = "interrupted"


@dataclass(frozen=True)
class Outcome:
    """The end of one rank's attempt."""

    end: End
    at: float
    error: bytes | None = None
    """The pickled exception."""
    summary: str = ""
    """Type and text of the exception, for where it cannot be unpickled."""
    frames: Sequence[Frame] = ()
    """The stack below ``train_func``, outermost first."""
    secondary: bool = False
    """Whether the exception only tells that another rank was lost."""
