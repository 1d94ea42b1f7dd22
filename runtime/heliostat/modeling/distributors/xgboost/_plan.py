"""Decisions before a training: how many workers of what size, and with which parameters.

Pure: everything here is computed from its arguments, so each decision can be tested alone.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from heliostat.exceptions import ConfigurationError

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

_SET_ELSEWHERE = {
    "nthread": "XGBScalingConfig(num_cpu_per_worker=...)",
    "n_jobs": "XGBScalingConfig(num_cpu_per_worker=...)",
    "device": "XGBScalingConfig(use_gpu=...)",
    "gpu_id": "XGBScalingConfig(use_gpu=...)",
    "num_boost_round": "n_estimators",
}
_NOT_OFFERED = {"callbacks", "custom_metric", "early_stopping_rounds", "enable_categorical", "feval", "obj"}


@dataclass(frozen=True)
class XGBScalingConfig:
    """How much of the runtime a training takes.

    Parameters
    ----------
    num_workers:
        Processes that train together. ``-1``: one per node, or per GPU where GPUs are used.
    num_cpu_per_worker:
        CPUs, and so threads, of each. ``-1``: as many as there are for each.
    use_gpu:
        One GPU for each worker. ``None``: if there are enough and this XGBoost can use them.
    """

    num_workers: int = -1
    num_cpu_per_worker: int = -1
    use_gpu: bool | None = None

    def __post_init__(self) -> None:
        for name in ("num_workers", "num_cpu_per_worker"):
            value = getattr(self, name)
            if isinstance(value, bool) or not isinstance(value, int) or (value != -1 and value < 1):
                message = f"XGBScalingConfig({name}={value!r}) is not a count."
                raise ConfigurationError(message, "Pass 1 or more, or -1 for as many as there are.")


@dataclass(frozen=True)
class NodeSize:
    """What a node has in all, free or not."""

    cpus: int
    gpus: int


@dataclass(frozen=True)
class Placement:
    """The workers of one training."""

    workers: int
    cpus: int
    """CPUs of each worker."""
    gpus: int
    """GPUs of each worker: 0 or 1."""


@dataclass(frozen=True)
class TrainSpec:
    """What to train."""

    rounds: int
    params: Mapping[str, Any]


def plan_placement(config: XGBScalingConfig, nodes: Sequence[NodeSize], *, cuda: bool) -> Placement:
    """Decide on workers for a training.

    Parameters
    ----------
    config:
        What was asked for.
    nodes:
        What the runtime has.
    cuda:
        Whether the installed XGBoost is built for GPUs.

    Raises
    ------
    ConfigurationError
        The runtime has less than what was asked for; ``required`` and ``available`` say how much.
    """
    gpus = 1 if _takes_gpus(config, nodes, cuda=cuda) else 0
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


def plan_training(
    n_estimators: int | None, objective: str | None, params: Mapping[str, Any] | None
) -> TrainSpec:
    """Merge the arguments of the estimator; keys of ``params`` go before the arguments.

    Raises
    ------
    ConfigurationError
        A parameter is set elsewhere, is not offered, or has no usable value.
    """
    merged: dict[str, Any] = {"objective": objective, **(params or {})}
    rounds = merged.pop("n_estimators", n_estimators)
    for name in merged:
        if name in _SET_ELSEWHERE:
            message = f"params[{name!r}] is not taken."
            raise ConfigurationError(message, f"Use {_SET_ELSEWHERE[name]}.")
        if name in _NOT_OFFERED:
            message = f"params[{name!r}] is not offered by XGBEstimator."
            raise ConfigurationError(message, "Leave it out, or train with xgboost.train in a Ray task.")
    if isinstance(rounds, bool) or not isinstance(rounds, int) or rounds < 1:
        message = f"n_estimators={rounds!r} is not a number of rounds."
        raise ConfigurationError(message, "Pass 1 or more.")
    if not isinstance(merged["objective"], str):
        message = f"objective={merged['objective']!r} is not the name of an objective."
        raise ConfigurationError(message, 'Pass a name that XGBoost knows, such as "binary:logistic".')
    if merged.get("tree_method", "hist") not in ("hist", "auto"):
        message = f"tree_method={merged['tree_method']!r} is not offered by XGBEstimator."
        raise ConfigurationError(message, 'Workers train on histograms: leave it out or pass "hist".')
    return TrainSpec(rounds, {**merged, "tree_method": "hist"})


def _takes_gpus(config: XGBScalingConfig, nodes: Sequence[NodeSize], *, cuda: bool) -> bool:
    gpus = sum(node.gpus for node in nodes)
    wanted = max(config.num_workers, 1)
    if config.use_gpu is None:
        return cuda and gpus >= wanted
    if config.use_gpu and not cuda:
        message = "use_gpu=True, and the installed XGBoost is built without GPU support."
        raise ConfigurationError(
            message, "Install the full build (pip install xgboost) or leave use_gpu out."
        )
    if config.use_gpu and gpus < wanted:
        message = f"Training asks for {_count(wanted, 'GPU')}; the runtime has {_count(gpus, 'GPU')}."
        action = f"Grow it with  %resize gpus={wanted}  or train with use_gpu=False."
        raise ConfigurationError(message, action, required=wanted, available=gpus)
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
    action = f"Grow it with  %resize cpus={required}  or ask for less in XGBScalingConfig."
    return ConfigurationError(message, action, required=required, available=available)


def _count(number: int, noun: str) -> str:
    return f"{number} {noun}" + ("" if number == 1 else "s")
