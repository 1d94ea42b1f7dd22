"""What ``train_func`` learns about the training that it is part of."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any

from heliostat.exceptions import TrainingError

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from heliostat.data import DataConnector
    from heliostat.modeling.distributors.pytorch._rank_state import RankState

__all__ = ["ArtifactManager", "Context", "MetricsReporter", "get_context"]

_current: Context | None = None


class MetricsReporter:
    """Takes metrics while training goes on. Rank 0's are those of the training."""

    def __init__(self, state: RankState) -> None:
        self._state = state

    def log_metrics(self, metrics: Mapping[str, Any]) -> None:
        """Report the latest values; returns at once. Names that are not given keep theirs."""
        self._state.log_metrics(metrics)


class ArtifactManager:
    """Files that belong to the training, in the artifact stage."""

    def __init__(self, state: RankState) -> None:
        self._state = state

    @property
    def location(self) -> str:
        """Where the artifacts of this training lie."""
        return self._state.artifacts.url

    def upload(self, path: str | os.PathLike[str], name: str | None = None) -> str:
        """Put a file of this machine there, whole or not at all; returns where it is.

        Raises
        ------
        DataError
            It cannot be read or written.
        """
        return self._state.upload(path, name)

    def download(self, name: str, directory: str | os.PathLike[str]) -> str:
        """Fetch an artifact into a directory of this machine; returns the path of the file.

        Raises
        ------
        DataError
            There is none of that name.
        """
        return self._state.download(name, directory)

    def list(self) -> list[str]:
        """Names of the artifacts."""
        return self._state.artifact_names()


class Context:
    """The training as one of its ranks sees it. Got by ``get_context``."""

    def __init__(self, state: RankState) -> None:
        self._state = state

    def get_world_size(self) -> int:
        """Return how many workers train together."""
        return self._state.position.size

    def get_rank(self) -> int:
        """Return this worker's number among all, from 0."""
        return self._state.position.rank

    def get_world_rank(self) -> int:
        """Return the same as ``get_rank``."""
        return self._state.position.rank

    def get_local_rank(self) -> int:
        """Return this worker's number among those of its node, from 0."""
        return self._state.position.local_rank

    def get_local_world_size(self) -> int:
        """Return how many workers its node has."""
        return self._state.position.local_size

    def get_node_rank(self) -> int:
        """Return the number of its node, from 0."""
        return self._state.position.node_rank

    def get_master_addr(self) -> str:
        """Return the host where the ranks meet."""
        return os.environ["MASTER_ADDR"]

    def get_master_port(self) -> int:
        """Return the port where the ranks meet."""
        return int(os.environ["MASTER_PORT"])

    def get_default_backend(self) -> str:
        """Return ``"nccl"`` for workers with a GPU, else ``"gloo"``."""
        return self._state.backend

    def get_supported_backends(self) -> list[str]:
        """Return the backends that the installed torch has."""
        from heliostat.modeling.distributors.pytorch._process_group import supported_backends

        return supported_backends()

    def get_hyper_params(self) -> dict[str, Any] | None:
        """Return what ``run`` was given as ``hyper_params``."""
        given = self._state.job.hyper_params
        return None if given is None else dict(given)

    def get_dataset_map(self) -> dict[str, DataConnector] | None:
        """Return what ``run`` was given as ``dataset_map``.

        A ``DataConnector`` reads all rows on every rank; that of a ``ShardedDataConnector`` reads
        this rank's with ``get_shard()``.
        """
        return self._state.dataset_map()

    def get_model_dir(self) -> str:
        """Return a directory for the model: what is in it at the end comes to the artifact stage."""
        return str(self._state.model_dir)

    def get_metrics_reporter(self) -> MetricsReporter:
        """Return where metrics go."""
        return MetricsReporter(self._state)

    def get_artifact_manager(self) -> ArtifactManager:
        """Return where further files go."""
        return ArtifactManager(self._state)

    def report(self, metrics: Mapping[str, Any], checkpoint: str | os.PathLike[str] | None = None) -> None:
        """Report metrics, with a directory of files to start again from. All ranks must call it.

        The files of all ranks make one checkpoint, which is whole when this returns. An elastic
        training may end here, to go on with another number of workers.

        Raises
        ------
        DataError
            The files cannot be read or written.
        """
        self._state.report(metrics, checkpoint)

    def get_checkpoint(self) -> Path | None:
        """Return the directory of the last checkpoint, ``None`` on a first start. Do not change it."""
        return self._state.checkpoint_directory()


def get_context() -> Context:
    """Return the context of the training that runs in this process.

    Raises
    ------
    TrainingError
        There is none: it is there inside of ``train_func`` only.
    """
    if _current is None:
        message = "get_context() is for train_func: there is no training in this process."
        raise TrainingError(message, "Call it inside of the function that PyTorchDistributor runs.")
    return _current


def set_context(context: Context | None) -> None:
    """Make ``context`` the one of this process."""
    global _current  # noqa: PLW0603 - a process is part of one training at a time
    _current = context
