"""Scale the cluster and ask for its size.

``scale_cluster`` is a caller of the runtime's own resize and no second mechanism: ``%resize`` and
this do the same.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, TypedDict

from heliostat._handle import init
from heliostat.exceptions import ConfigurationError

if TYPE_CHECKING:
    from collections.abc import Mapping

    from heliostat._runtime import Runtime

__all__ = [
    "NodeInfo",
    "get_available_cpu",
    "get_available_gpu",
    "get_cluster_size",
    "get_grafana_dashboard_url",
    "get_nodes",
    "get_num_cpus_per_node",
    "get_ray_dashboard_url",
    "scale_cluster",
]

_ROLLBACK_SECONDS = 720
_OPTIONS = ("block_until_min_cluster_size", "rollback_after_seconds")


class NodeInfo(TypedDict):
    """One node: its name, and the CPUs and GPUs that Ray has on it."""

    name: str
    cpus: float
    gpus: float


def scale_cluster(
    expected_cluster_size: int | str,
    *legacy: int,
    notebook_name: str | None = None,
    is_async: bool = False,
    options: Mapping[str, Any] | None = None,
) -> bool:
    """Bring the cluster to a number of nodes, the head counted in.

    Parameters
    ----------
    expected_cluster_size:
        How many nodes there should be, from 1. The older call ``scale_cluster(name, 3)``, with
        the notebook's name first, works too.
    notebook_name:
        Taken for compatibility (and ``OBJECT_NAME`` in its place): a runtime belongs to the
        kernel that calls.
    is_async:
        Return at once; the change goes on and is rolled back on timeout all the same.
    options:
        ``rollback_after_seconds`` (720): go back to the former size when it is not reached by
        then. ``block_until_min_cluster_size``: return as soon as this many nodes are there.

    Returns
    -------
    bool
        ``True``: the size (or the minimum) is reached, or with ``is_async`` was asked for.

    Raises
    ------
    ConfigurationError
        An argument cannot be used; nothing was changed.
    ResizeTimeoutError
        The size was not reached in time; the cluster has its former size again.
    """
    size = _size(expected_cluster_size, legacy)
    rollback, minimum = _read_options(size, options or {})
    _runtime(notebook_name).resize(
        nodes=size, wait=not is_async, rollback_after_seconds=rollback, minimum_nodes=minimum
    )
    return True


def _size(first: int | str, legacy: tuple[int, ...]) -> int:
    if isinstance(first, str) and len(legacy) == 1:
        return _whole("expected_cluster_size", legacy[0], 1)
    if legacy:
        message = "scale_cluster takes one size."
        raise ConfigurationError(message, "Call scale_cluster(3).")
    return _whole("expected_cluster_size", first, 1)


def _whole(name: str, value: object, least: int) -> int:
    if isinstance(value, bool) or not isinstance(value, int) or value < least:
        message = f"{name} is {value!r}, which is not a whole number of {least} or more."
        raise ConfigurationError(message)
    return value


def _read_options(size: int, options: Mapping[str, Any]) -> tuple[float, int | None]:
    unknown = sorted(set(options) - set(_OPTIONS))
    if unknown:
        message = f"scale_cluster has no option {unknown[0]!r}."
        raise ConfigurationError(message, f"Options are {', '.join(_OPTIONS)}.")
    rollback = _whole("rollback_after_seconds", options.get("rollback_after_seconds", _ROLLBACK_SECONDS), 1)
    minimum = options.get("block_until_min_cluster_size")
    if minimum is None:
        return float(rollback), None
    if _whole("block_until_min_cluster_size", minimum, 1) > size:
        message = f"block_until_min_cluster_size is {minimum} and the cluster is to have {size} nodes."
        raise ConfigurationError(message, f"Give at most {size}.")
    return float(rollback), int(minimum)


def _runtime(notebook_name: str | None = None) -> Runtime:
    """Return the runtime of this kernel; the name is only kept for compatibility."""
    del notebook_name
    return init()


def get_nodes() -> list[NodeInfo]:
    """Return the nodes, head first."""
    return [
        NodeInfo(name=node.name, cpus=node.cpus, gpus=node.gpus)
        for node in _runtime().nodes()
        if node.state == "alive"
    ]


def get_cluster_size() -> int:
    """Return the number of nodes, the head counted in."""
    return len(get_nodes())


def get_available_cpu() -> float:
    """Return the CPUs that no task or actor holds now."""
    return sum(node.cpus - (node.cpus_used or 0.0) for node in _runtime().nodes() if node.state == "alive")


def get_available_gpu() -> float:
    """Return the GPUs that no task or actor holds now."""
    return sum(node.gpus - (node.gpus_used or 0.0) for node in _runtime().nodes() if node.state == "alive")


def get_num_cpus_per_node() -> int:
    """Return the CPUs of the node that has fewest: what every node can give."""
    return int(min(node["cpus"] for node in get_nodes()))


def get_ray_dashboard_url() -> str | None:
    """Return ``None``: Ray's dashboard is not started; the panel and ``%runtime`` show its facts."""
    return None


def get_grafana_dashboard_url() -> str | None:
    """Return ``None``: no Grafana comes with the runtime."""
    return None
