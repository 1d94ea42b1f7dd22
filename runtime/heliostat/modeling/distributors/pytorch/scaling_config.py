"""How much of the runtime a PyTorch training takes."""

from __future__ import annotations

from dataclasses import KW_ONLY, dataclass, field

from heliostat.exceptions import ConfigurationError

__all__ = ["PyTorchScalingConfig", "WorkerResourceConfig"]


@dataclass(frozen=True)
class WorkerResourceConfig:
    """What one worker gets.

    Parameters
    ----------
    num_cpus:
        CPUs, and so threads; 0 is allowed for a worker with a GPU.
    num_gpus:
        GPUs.
    """

    num_cpus: int = 1
    num_gpus: int = 0

    def __post_init__(self) -> None:
        _require_count("WorkerResourceConfig", "num_gpus", self.num_gpus, least=0)
        _require_count("WorkerResourceConfig", "num_cpus", self.num_cpus, least=0 if self.num_gpus else 1)


@dataclass(frozen=True)
class PyTorchScalingConfig:
    """How many workers of what size train together, and what they outlive.

    Parameters
    ----------
    num_nodes, num_workers_per_node:
        Their product is the number of workers, the *world size*.
    resource_requirements_per_worker:
        What each worker gets.
    min_workers, max_workers:
        Train with as many workers in this range as the runtime has room for, whatever
        ``num_nodes`` says. A resize of the runtime changes their number at the next checkpoint.
    max_failures:
        How often the workers start again from the last checkpoint after a process was lost.
    hang_timeout_s:
        Seconds without progress of any rank, while at least one waits in a collective, after which
        the training is given up with a report of where each rank is.
    checkpoints_to_keep:
        How many of its last checkpoints a training keeps; ``None`` for all.
    """

    num_nodes: int = 1
    num_workers_per_node: int = 1
    resource_requirements_per_worker: WorkerResourceConfig = field(default_factory=WorkerResourceConfig)
    _: KW_ONLY
    min_workers: int | None = None
    max_workers: int | None = None
    max_failures: int = 3
    hang_timeout_s: float = 1800.0
    checkpoints_to_keep: int | None = None

    def __post_init__(self) -> None:
        name = "PyTorchScalingConfig"
        _require_count(name, "num_nodes", self.num_nodes, least=1)
        _require_count(name, "num_workers_per_node", self.num_workers_per_node, least=1)
        _require_count(name, "max_failures", self.max_failures, least=0)
        for limit in ("min_workers", "max_workers", "checkpoints_to_keep"):
            if getattr(self, limit) is not None:
                _require_count(name, limit, getattr(self, limit), least=1)
        if self.least > self.most:
            message = f"{name}: at least {self.least} and at most {self.most} workers contradict each other."
            raise ConfigurationError(message, "Pass min_workers <= max_workers.")
        if not self.hang_timeout_s > 0:
            message = f"{name}(hang_timeout_s={self.hang_timeout_s!r}) is not a time to wait."
            raise ConfigurationError(message, "Pass seconds above 0.")
        if not isinstance(self.resource_requirements_per_worker, WorkerResourceConfig):
            message = f"{name}: resource_requirements_per_worker is not a WorkerResourceConfig."
            raise ConfigurationError(message, "Pass WorkerResourceConfig(num_cpus=..., num_gpus=...).")

    @property
    def elastic(self) -> bool:
        """Whether the number of workers may change."""
        return self.least != self.most

    @property
    def least(self) -> int:
        """The smallest number of workers that may train."""
        if self.min_workers is not None:
            return self.min_workers
        total = self.num_nodes * self.num_workers_per_node
        return total if self.max_workers is None else min(total, self.max_workers)

    @property
    def most(self) -> int:
        """The largest number of workers that may train."""
        if self.max_workers is not None:
            return self.max_workers
        return max(self.num_nodes * self.num_workers_per_node, self.least)


def _require_count(owner: str, name: str, value: object, *, least: int) -> None:
    if isinstance(value, bool) or not isinstance(value, int) or value < least:
        message = f"{owner}({name}={value!r}) is not a count."
        raise ConfigurationError(message, f"Pass a whole number from {least}.")
