"""Let ``ray.train.report`` and its siblings work in a process that Ray Train did not start.

Ray Train keeps one object per process that answers these calls. Here it is put in place when a
program first imports ``ray.train``, which costs half a second that others need not pay. Where
Ray has no such object any more, the public functions themselves are replaced for as long.
"""

from __future__ import annotations

import contextlib
import importlib.abc
import importlib.util
import sys
from typing import TYPE_CHECKING, Any, Protocol

from heliostat.exceptions import ConfigurationError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence
    from importlib.machinery import ModuleSpec
    from types import ModuleType

_MODULE = "ray.train.v2._internal.execution.train_fn_utils"
_PUBLIC = {
    "ray.train": (
        "report",
        "get_checkpoint",
        "get_all_reported_checkpoints",
        "get_context",
        "get_dataset_shard",
        "get_preemption_info",
    ),
    "ray.train.collective": ("barrier", "broadcast_from_rank_zero"),
}
_WATCHED = (_MODULE, *_PUBLIC)


class Answers(Protocol):
    """Who answers, in the terms of a training and not of Ray."""

    @property
    def facts(self) -> Mapping[str, Any]:
        """Return what ``TrainContext`` has: ``world_size``, ``world_rank``, ``experiment_name`` ..."""

    def report(
        self, metrics: Mapping[str, Any], source: tuple[Any, str] | None, name: str | None, *, consume: bool
    ) -> None:
        """Report metrics and the files of a checkpoint (filesystem and path).

        With ``consume`` the files go when the checkpoint is whole.
        """

    def next_name(self) -> str:
        """Return what the next checkpoint will be called if it gets no name."""

    def checkpoint(self) -> tuple[Any, str] | None:
        """Return where the last checkpoint is."""

    def reported(self) -> Sequence[tuple[tuple[Any, str], Mapping[str, Any]]]:
        """Return where all checkpoints are that are kept, oldest first, each with rank 0's metrics."""

    def shard(self, name: str | None) -> Any:
        """Return this rank's part of a dataset."""

    def barrier(self) -> None:
        """Wait for all ranks."""

    def broadcast(self, value: Any) -> Any:
        """Return rank 0's value."""


@contextlib.contextmanager
def answered(answers: Answers) -> Iterator[None]:
    """Have ``ray.train`` ask ``answers`` for the length of the block."""
    finder = _Finder(answers)
    for name in _WATCHED:
        if name in sys.modules:
            finder.loaded(sys.modules[name])
    sys.meta_path.insert(0, finder)
    try:
        yield
    finally:
        sys.meta_path.remove(finder)
        finder.undo()


class _Finder(importlib.abc.MetaPathFinder):
    """Waits for the import of the modules."""

    def __init__(self, answers: Answers) -> None:
        self._answers, self._undo = answers, contextlib.ExitStack()
        self._placed = False

    def find_spec(
        self, fullname: str, path: Sequence[str] | None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        if fullname not in _WATCHED:
            return None
        sys.meta_path.remove(self)
        try:
            spec = importlib.util.find_spec(fullname)
        finally:
            sys.meta_path.insert(0, self)
        if spec is not None and spec.loader is not None:
            spec.loader = _Loader(spec.loader, self)
        return spec

    def loaded(self, module: ModuleType) -> None:
        """Put the answers in place."""
        if module.__name__ == _MODULE and hasattr(module, "set_train_fn_utils"):
            module.set_train_fn_utils(_utils(module, self._answers))
            self._undo.callback(module.set_train_fn_utils, None)
            self._placed = True
        elif module.__name__ in _PUBLIC and not self._placed:
            self._replace_public(module)

    def undo(self) -> None:
        """Leave Ray Train as it was."""
        self._undo.close()

    def _replace_public(self, module: ModuleType) -> None:
        for name in _PUBLIC[module.__name__]:
            if not hasattr(module, name):
                continue
            self._undo.callback(setattr, module, name, getattr(module, name))
            setattr(module, name, getattr(_Functions(self._answers), name))


class _Loader(importlib.abc.Loader):
    """Loads as the real one does, then tells the finder."""

    def __init__(self, real: Any, finder: _Finder) -> None:
        self._real, self._finder = real, finder

    def create_module(self, spec: ModuleSpec) -> ModuleType | None:
        module: ModuleType | None = self._real.create_module(spec)
        return module

    def exec_module(self, module: ModuleType) -> None:
        if module.__spec__ is not None:
            module.__spec__.loader = self._real
        self._real.exec_module(module)
        self._finder.loaded(module)


class _Functions:
    """The calls with the signatures that users know."""

    def __init__(self, answers: Answers) -> None:
        self._answers = answers

    def report(  # noqa: PLR0917 - the signature of Ray Train
        self,
        metrics: Mapping[str, Any],
        checkpoint: Any = None,
        checkpoint_dir_name: str | None = None,
        checkpoint_upload_mode: Any = None,
        delete_local_checkpoint_after_upload: bool | None = None,
        checkpoint_upload_fn: Callable[[Any, str], Any] | None = None,
        validation: Any = False,
    ) -> None:
        if validation:
            message = "ray.train.report(validation=...) needs a function that only Ray's trainers take."
            raise ConfigurationError(message, "Validate in train_func and report the metrics.")
        if delete_local_checkpoint_after_upload is None and checkpoint_upload_mode is not None:
            delete = checkpoint_upload_mode.default_delete_local_checkpoint_after_upload()
        else:
            delete = bool(delete_local_checkpoint_after_upload)
        if checkpoint is not None and checkpoint_upload_fn is not None:
            checkpoint = checkpoint_upload_fn(checkpoint, checkpoint_dir_name or self._answers.next_name())
        source = None if checkpoint is None else (checkpoint.filesystem, checkpoint.path)
        self._answers.report(metrics, source, checkpoint_dir_name, consume=delete)

    def get_checkpoint(self) -> Any:
        found = self._answers.checkpoint()
        return None if found is None else _checkpoint(found)

    def get_all_reported_checkpoints(
        self, consistency_mode: Any = None, timeout_s: float | None = None
    ) -> list[Any]:
        # A report returns when its checkpoint is whole, so there is nothing to wait for.
        del consistency_mode, timeout_s
        from ray.train import ReportedCheckpoint, ReportedCheckpointStatus

        status = ReportedCheckpointStatus.COMMITTED
        return [
            ReportedCheckpoint(checkpoint=_checkpoint(place), metrics=dict(metrics), status=status)
            for place, metrics in self._answers.reported()
        ]

    def get_preemption_info(self) -> None:
        return None

    def get_dataset_shard(self, dataset_info: Any = None) -> Any:
        name = getattr(dataset_info, "dataset_name", dataset_info)
        return self._answers.shard(name)

    def barrier(self) -> None:
        self._answers.barrier()

    def broadcast_from_rank_zero(self, data: Any) -> Any:
        return self._answers.broadcast(data)

    def get_context(self) -> Any:
        from ray.train import TrainContext

        known = {f"get_{name}": _giving(value) for name, value in self._answers.facts.items()}
        made = type("TrainContext", (TrainContext,), known)
        made.__abstractmethods__ = frozenset()  # type: ignore[attr-defined]
        return made()


def _checkpoint(place: tuple[Any, str]) -> Any:
    from ray.train import Checkpoint

    return Checkpoint(place[1], place[0])


def _giving(value: Any) -> Any:
    return lambda _self: value


def _utils(module: Any, answers: Answers) -> Any:
    base = module.TrainFnUtils

    class Utils(_Functions, base):  # type: ignore[misc, valid-type]
        """What Ray Train asks in this process."""

        def is_distributed(self) -> bool:
            return True

    # A method that a later Ray adds is not ours to answer; its call says so by itself.
    Utils.__abstractmethods__ = frozenset()
    return Utils(answers)
