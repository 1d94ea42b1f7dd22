"""``PyTorchDistributor``: a function that trains with PyTorch, on several workers of the runtime."""

from __future__ import annotations

import importlib.util
import os
import sys
import uuid
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from heliostat import _progress
from heliostat._paths import data_directory
from heliostat._stages import open_location
from heliostat.exceptions import ConfigurationError, MissingDependencyError
from heliostat.modeling._runtime import connect, is_local
from heliostat.modeling.distributors.pytorch._controller import Controller, Training
from heliostat.modeling.distributors.pytorch._datasets import Datasets
from heliostat.modeling.distributors.pytorch._display import Display
from heliostat.modeling.distributors.pytorch._runs import in_use, kept_runs, prune
from heliostat.modeling.distributors.pytorch.scaling_config import PyTorchScalingConfig

if TYPE_CHECKING:
    from collections.abc import Callable

    from heliostat._location import Location
    from heliostat.data import DataConnector
    from heliostat.modeling.distributors.pytorch._controller import Record

__all__ = ["PyTorchDistributor", "PyTorchDistributorResult"]

DEFAULT_ARTIFACTS = "@user/pytorch"
_LEGACY_VARIABLE = "PYTORCH_USE_LEGACY_TRAINER"


class PyTorchDistributor:
    """Runs a function on several workers that train one model together.

    The workers have a process group when the function starts: gloo on CPUs, NCCL on GPUs. What
    the function uses of the notebook travels with it: variables, functions, classes. Modules
    that lie beside the notebook can be imported. ``get_context()`` tells it who it is and takes
    metrics, checkpoints and files; ``ray.train.report`` and its siblings do as well.

    Parameters
    ----------
    train_func:
        Takes no argument, or one: then the ``hyper_params``.
    scaling_config:
        How many workers of what size. Default is one for each GPU, or for each node where there
        are no GPUs, with all CPUs.

    Raises
    ------
    ConfigurationError
        ``train_func`` cannot be called.
    """

    def __init__(
        self, train_func: Callable[..., Any], scaling_config: PyTorchScalingConfig | None = None
    ) -> None:
        if not callable(train_func):
            message = f"train_func={train_func!r} is not a function."
            raise ConfigurationError(message, "Pass the function itself, without calling it.")
        if scaling_config is not None and not isinstance(scaling_config, PyTorchScalingConfig):
            message = f"scaling_config is a {type(scaling_config).__name__}."
            raise ConfigurationError(message, "Pass a PyTorchScalingConfig.")
        self._function, self._scaling = train_func, scaling_config

    def run(
        self,
        *,
        dataset_map: Mapping[str, DataConnector] | None = None,
        hyper_params: Mapping[str, Any] | None = None,
        artifact_stage_location: str | None = None,
    ) -> PyTorchDistributorResult:
        """Train, and return when all workers are done.

        Parameters
        ----------
        dataset_map:
            Rows for the workers, by name: ``get_context().get_dataset_map()``.
        hyper_params:
            Settings for the function: ``get_context().get_hyper_params()``.
        artifact_stage_location:
            Where model, checkpoints and artifacts go: ``@stage/path``, a path or a URL.

        Raises
        ------
        ConfigurationError
            The runtime is too small, or an argument cannot be used.
        TrainingError
            A worker failed; ``rank`` says which, ``log`` where all it printed is.
        TaskCancelledError
            Somebody cancelled it.
        """
        if dataset_map is not None and not isinstance(dataset_map, Mapping):
            message = f"dataset_map is a {type(dataset_map).__name__}."
            action = 'Pass a dictionary of connectors: {"train": DataConnector.from_dataframe(...)}.'
            raise ConfigurationError(message, action)
        _require_torch()
        request_id = uuid.uuid4().hex[:12]
        keep = kept_runs()
        artifacts = open_location(artifact_stage_location or DEFAULT_ARTIFACTS)
        function = _pickled(self._function)
        connect()
        runs = data_directory() / "runs" / "pytorch"
        display = Display(runs / request_id)
        name = f"PyTorchDistributor({getattr(self._function, '__name__', 'train_func')})"
        with (
            in_use(display.directory),
            Datasets(dataset_map, local=is_local()) as datasets,
            _progress.task("pytorch", name, unit="steps") as task,
        ):
            prune(runs, open_location(DEFAULT_ARTIFACTS).join("checkpoints"), keep)
            scaling = self._scaling or PyTorchScalingConfig()
            training = Training(
                request_id=request_id,
                function=function,
                hyper_params=None if hyper_params is None else dict(hyper_params),
                datasets=datasets.pickled,
                artifacts=artifacts,
                legacy=os.environ.get(_LEGACY_VARIABLE, "").lower() in ("1", "true", "yes"),
                directory=str(Path.cwd()),
                paths=_paths(),
                hang_timeout_s=scaling.hang_timeout_s,
                keep=scaling.checkpoints_to_keep,
            )
            task.update(log_path=str(display.log))
            record = Controller(training, self._scaling, task, display).run()
        return PyTorchDistributorResult(request_id, artifacts, record, display)


class PyTorchDistributorResult:
    """What a training left. Made by ``PyTorchDistributor.run``."""

    def __init__(self, request_id: str, artifacts: Location, record: Record, display: Display) -> None:
        self._request_id, self._artifacts, self._record, self._display = (
            request_id,
            artifacts,
            record,
            display,
        )

    def __repr__(self) -> str:
        return f"PyTorchDistributorResult(model_dir={self.get_model_dir()!r}, metrics={self.get_metrics()!r})"

    @property
    def request_id(self) -> str:
        """Unique name of the training."""
        return self._request_id

    def get_metrics(self) -> dict[str, Any]:
        """Return the latest value of each metric that rank 0 reported."""
        return dict(self._record.metrics)

    def get_metrics_history(self) -> list[dict[str, Any]]:
        """Return all that rank 0 reported, in order."""
        return [dict(metrics) for metrics in self._record.history]

    def get_model_dir(self) -> str:
        """Return where the files are that the workers saved in ``get_context().get_model_dir()``."""
        return self._artifacts.join("model", self._request_id).url

    def get_checkpoint_location(self) -> str | None:
        """Return where the last checkpoint is; ``None`` where none was made."""
        if self._record.checkpoint is None:
            return None
        return self._artifacts.join("checkpoints", self._request_id, self._record.checkpoint).url

    def get_logs(self) -> dict[str, Path]:
        """Return the files with what the workers printed, by name: ``"rank-0"``."""
        return {path.stem: path for path in sorted(self._display.directory.glob("rank-*.log"))}

    def get_log(self, name: str | int) -> str:
        """Return what a worker printed.

        Raises
        ------
        ConfigurationError
            There is no worker of that name or rank.
        """
        logs = self.get_logs()
        path = logs.get(f"rank-{name}" if isinstance(name, int) else name)
        if path is None:
            message = f"There is no log {name!r}."
            raise ConfigurationError(message, f"Logs: {', '.join(logs)}.")
        return path.read_text(errors="replace")

    @property
    def restarts(self) -> int:
        """How often workers were lost and the training went on."""
        return self._record.restarts

    @property
    def world_sizes(self) -> list[int]:
        """Number of workers of each start."""
        return list(self._record.world_sizes)


def _require_torch() -> None:
    """Refuse to start without it; importing it here would take a second that only workers need."""
    if importlib.util.find_spec("torch") is None:
        message = "PyTorchDistributor needs the package 'torch', which is not installed."
        action = "Install it: pip install 'heliostat[torch]'"
        raise MissingDependencyError(message, action, package="torch", extra="torch")


def _pickled(function: Callable[..., Any]) -> bytes:
    from ray import cloudpickle

    try:
        pickled: bytes = cloudpickle.dumps(function)
    except Exception as error:
        message = f"train_func uses something that cannot be sent to workers: {error}."
        action = "Make it inside of the function: sessions, connections, locks and open files stay here."
        raise ConfigurationError(message, action) from error
    return pickled


def _paths() -> tuple[str, ...]:
    """Where workers look for modules before they look where they would: as this process does."""
    return tuple(dict.fromkeys(str(Path(entry or ".").absolute()) for entry in ["", *sys.path]))
