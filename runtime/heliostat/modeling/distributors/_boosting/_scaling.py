"""How many workers of what size a training gets: decided from what was asked for and what there is."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from heliostat.exceptions import ConfigurationError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from heliostat.modeling._runtime import NodeSize


@dataclass(frozen=True)
class ScalingConfig:
    """How much of the runtime a training takes.

    Parameters
    ----------
    num_workers:
        Processes that train together. ``-1``: one per node, or per GPU where GPUs are used.
    num_cpu_per_worker:
        CPUs, and so threads, of each. ``-1``: as many as there are for each.
    use_gpu:
        One GPU for each worker. ``None``: if there are enough and the library can use them.
    """

    num_workers: int = -1
    num_cpu_per_worker: int = -1
    use_gpu: bool | None = None

    def __post_init__(self) -> None:
        for name in ("num_workers", "num_cpu_per_worker"):
            value = getattr(self, name)
            if isinstance(value, bool) or not isinstance(value, int) or (value != -1 and value < 1):
                message = f"{type(self).__name__}({name}={value!r}) is not a count."
                raise ConfigurationError(message, "Pass 1 or more, or -1 for as many as there are.")


@dataclass(frozen=True)
class Placement:
    """The workers of one training."""

    workers: int
    cpus: int
    """CPUs of each worker."""
    gpus: int
    """GPUs of each worker: 0 or 1."""


def plan_placement(
    config: ScalingConfig, nodes: Sequence[NodeSize], *, cuda: bool, library: str = "XGBoost"
) -> Placement:
    """Decide on workers for a training.

    Parameters
    ----------
    config:
        What was asked for.
    nodes:
        What the runtime has.
    cuda:
        Whether the installed library is built for GPUs.

    Raises
    ------
    ConfigurationError
        The runtime has less than what was asked for; ``required`` and ``available`` say how much.
    """
    gpus = 1 if _takes_gpus(config, nodes, cuda=cuda, library=library) else 0
    largest = max((node.cpus for node in nodes), default=0)
    if config.num_cpu_per_worker != -1:
        cpus = config.num_cpu_per_worker
    elif config.num_workers == -1:
        shares = (node.cpus // max(gpus * node.gpus, 1) for node in nodes if node.cpus and node.gpus >= gpus)
        cpus = max(min(shares, default=1), 1)
    else:
        fitting = (c for c in range(largest, 0, -1) if _room(nodes, c, gpus) >= config.num_workers)
        cpus = next(fitting, 1)
    room = _room(nodes, cpus, gpus)
    workers = config.num_workers if config.num_workers != -1 else max(room, 1)
    if room < workers:
        raise _too_small(workers, cpus, gpus, nodes)
    return Placement(workers, cpus, gpus)


def _takes_gpus(config: ScalingConfig, nodes: Sequence[NodeSize], *, cuda: bool, library: str) -> bool:
    gpus = sum(node.gpus for node in nodes)
    wanted = max(config.num_workers, 1)
    if config.use_gpu is None:
        return cuda and gpus >= wanted
    if config.use_gpu and not cuda:
        message = f"use_gpu=True, and the installed {library} is built without GPU support."
        raise ConfigurationError(message, f"Install a build of {library} with it, or leave use_gpu out.")
    if config.use_gpu and gpus < wanted:
        message = f"Training asks for {_count(wanted, 'GPU')}; the runtime has {_count(gpus, 'GPU')}."
        action = f"Grow it with  %resize gpus={wanted}  or train with use_gpu=False."
        raise ConfigurationError(message, action, required=wanted, available=gpus, resize={"gpus": wanted})
    return config.use_gpu


def _room(nodes: Sequence[NodeSize], cpus: int, gpus: int) -> int:
    """How many workers of a size fit; no worker spans two nodes."""
    return sum(min(node.cpus // cpus, node.gpus // gpus if gpus else node.cpus) for node in nodes)


def _too_small(workers: int, cpus: int, gpus: int, nodes: Sequence[NodeSize]) -> ConfigurationError:
    required, available = workers * cpus, sum(node.cpus for node in nodes)
    each = _count(cpus, "CPU") + (" and a GPU" if gpus else "")
    message = (
        f"Training asks for {_count(workers, 'worker')} with {each} each, "
        f"{_count(required, 'CPU')} in all; the runtime has {available}."
    )
    if available >= required:
        message = message.removesuffix(".") + " on nodes that do not fit that many workers."
    action = f"Grow it with  %resize cpus={required}  or ask for less in the scaling config."
    return ConfigurationError(
        message, action, required=required, available=available, resize={"cpus": required}
    )


def _count(number: int, noun: str) -> str:
    return f"{number} {noun}" + ("" if number == 1 else "s")
