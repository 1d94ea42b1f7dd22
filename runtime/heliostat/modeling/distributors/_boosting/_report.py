"""What became of a training, and where it can go on from."""

from __future__ import annotations

from dataclasses import dataclass, field


@dataclass(frozen=True)
class Restart:
    """Workers were lost and the training went on."""

    ranks: tuple[int, ...]
    """Ranks that were lost."""
    cause: str
    from_round: int
    """Rounds that were kept; the training went on after them."""
    workers: int
    """How many workers it went on with."""
    seconds: float
    """From the loss until the first new round was done."""


@dataclass(frozen=True)
class TrainingReport:
    """How a ``fit`` went."""

    workers: int
    """Workers at the end."""
    cpus_per_worker: int
    gpus_per_worker: int
    rows: int
    rounds: int
    """Rounds that the model has been trained for."""
    seconds: float
    phases: dict[str, float] = field(default_factory=dict)
    """Seconds of ``start`` (workers, rows on their way), and of rank 0: ``decode matrix train``."""
    restarts: tuple[Restart, ...] = ()
    interrupted: bool = False
    """Whether it was stopped; then the model is the partial one."""
    checkpoint: str | None = None
    """Where the latest checkpoint is, where one was written and stayed: in the location that was given,
    or after an interrupt."""


@dataclass(frozen=True)
class Checkpoint:
    """A model on its way, with what is needed to go on after it."""

    rounds: int
    """Rounds of this ``fit`` that it holds."""
    model: bytes
    history: dict[str, dict[str, list[float]]]
    state: bytes = b""
    """Pickled callbacks as they were."""
