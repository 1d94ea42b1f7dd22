"""What a rank holds while ``train_func`` runs; ``Context`` and ``ray.train`` are faces of it."""

from __future__ import annotations

import contextlib
import os
import shutil
from pathlib import Path
from typing import TYPE_CHECKING, Any

from heliostat._stages import open_location
from heliostat.exceptions import ConfigurationError, DataError
from heliostat.modeling.distributors.pytorch._committed import Committed, as_directory
from heliostat.modeling.distributors.pytorch._datasets import load_datasets
from heliostat.modeling.distributors.pytorch._job import Metrics
from heliostat.modeling.distributors.pytorch._process_group import default_backend

if TYPE_CHECKING:
    from collections.abc import Mapping

    from heliostat._location import Location
    from heliostat.data import DataConnector
    from heliostat.modeling._workers import WorkerContext
    from heliostat.modeling.distributors.pytorch._job import Job
    from heliostat.modeling.distributors.pytorch._plan import Position


class ResizeRequestedError(BaseException):
    """Leaves ``train_func`` at a checkpoint, past its ``except Exception``."""


class RankState:
    """One rank of one attempt."""

    def __init__(self, worker: WorkerContext, job: Job, scratch: Path) -> None:
        self.job, self._worker, self._scratch = job, worker, scratch
        self.backend = default_backend(job.gpus)
        self.position: Position = job.position
        self.model_dir = scratch / "model"
        self.model_dir.mkdir(parents=True, exist_ok=True)
        self.reports = 0
        """Reports so far; part of what counts as activity."""
        self._rows: dict[str, int] = {}
        self._checkpoints = job.checkpoints
        self.reported = [(self._place.join(kept.name), kept.metrics) for kept in job.reported]
        """Checkpoints that are whole and kept, oldest first, with rank 0's metrics."""
        self._opened = contextlib.ExitStack()
        self._datasets: dict[str, DataConnector] | None = None

    @property
    def artifacts(self) -> Location:
        """Where files of this training go."""
        return self.job.artifacts.join("artifacts", self.job.request_id)

    @property
    def latest_checkpoint(self) -> Location | None:
        """The last checkpoint that is whole."""
        return self.reported[-1][0] if self.reported else None

    @property
    def rows(self) -> int | None:
        """Rows that are this rank's own, of the divided datasets that it asked for; ``None`` without any."""
        return sum(self._rows.values()) if self._rows else None

    def next_name(self) -> str:
        """What the next checkpoint is called if it gets no name."""
        return f"checkpoint_{self._checkpoints:06d}"

    def close(self) -> None:
        """Remove copies of checkpoints."""
        self._opened.close()

    def dataset_map(self) -> dict[str, DataConnector] | None:
        """The connectors, unpickled once."""
        if self._datasets is None and self.job.datasets is not None:
            self._datasets = load_datasets(self.job.datasets)
            divided: dict[str, Any] = {k: v for k, v in self._datasets.items() if hasattr(v, "get_shard")}
            for name, connector in divided.items():
                slices = connector.get_shard().source.slices() or ()
                self._rows[name] = sum(piece.stop - piece.start for piece in slices)
        return self._datasets

    def dataset_shard(self, name: str | None) -> Any:
        """Return this rank's rows of the dataset called ``name``; ``None`` when there are no datasets."""
        datasets = self.dataset_map()
        if datasets is None:
            return None
        if name is None and len(datasets) == 1:
            name = next(iter(datasets))
        if name not in datasets:
            message = f"There is no dataset {name!r} in the dataset_map."
            raise ConfigurationError(message, f"It has: {', '.join(datasets) or 'none'}.")
        shard: Any = datasets[name]
        if hasattr(shard, "get_shard"):
            return shard.get_shard().to_arrow()
        rows = shard.to_arrow()
        rank, size = self.position.rank, self.position.size
        start, stop = (rows.num_rows * edge // size for edge in (rank, rank + 1))
        self._rows[name] = stop - start
        return rows.slice(start, stop - start)

    def log_metrics(self, metrics: Mapping[str, Any]) -> None:
        """Send metrics to the driver."""
        self.reports += 1
        self._worker.send(Metrics({str(name): _plain(value) for name, value in metrics.items()}))

    def report(self, metrics: Mapping[str, Any], checkpoint: str | os.PathLike[str] | None) -> None:
        """Report with a directory of this machine as the checkpoint."""
        if checkpoint is not None and not Path(checkpoint).is_dir():
            message = f"The checkpoint {os.fspath(checkpoint)} is not a directory."
            raise DataError(message, "Write the files into a directory and pass that.")
        self.report_from(metrics, None if checkpoint is None else _local(Path(checkpoint)))

    def report_from(
        self,
        metrics: Mapping[str, Any],
        source: tuple[Any, str] | None,
        name: str | None = None,
        *,
        consume: bool = False,
    ) -> None:
        """Report with files on a filesystem as the checkpoint. All ranks must call it.

        With ``consume`` the files are removed when the checkpoint is whole.
        """
        values = {str(key): _plain(value) for key, value in metrics.items()}
        committed = Committed(self._next_checkpoint(name))
        error = None
        try:
            if source is not None:
                committed.add(*source)
        except Exception as failed:
            error = failed
        first = values if self.position.rank == 0 else None
        said = self._worker.gather((source is not None, error is None, self._worker.stopping, first))
        if error is not None or not all(fine for _, fine, _, _ in said):
            self._discard(committed)
            raise error or DataError("Another rank could not write its part of the checkpoint.")
        offered = any(has for has, _, _, _ in said)
        if offered:
            self._commit(committed, said[0][3])
        if consume and source is not None:
            source[0].delete_dir(source[1])
        self.reports += 1
        self._worker.send(Metrics(values, committed.final.name if offered else None))
        # Not before the driver hears of a newer one: it offers what it knows after a loss.
        self._remove_old()
        if offered and said[0][2]:
            raise ResizeRequestedError

    def checkpoint_directory(self) -> Path | None:
        """The last checkpoint, in a directory of this machine."""
        latest = self.latest_checkpoint
        return None if latest is None else self._opened.enter_context(as_directory(latest))

    def upload(self, path: str | os.PathLike[str], name: str | None) -> str:
        """Put a file into the artifact stage."""
        source, target = Path(path), self.artifacts.join(name or Path(path).name)
        try:
            with source.open("rb") as read, target.open_output() as written:
                shutil.copyfileobj(read, written, 1 << 20)
        except OSError as failed:
            message = f"{source} cannot be read: {failed.strerror}."
            raise DataError(message, "Write it first.") from failed
        return target.url

    def download(self, name: str, directory: str | os.PathLike[str]) -> str:
        """Fetch a file from the artifact stage."""
        target = Path(directory) / Path(name).name
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_bytes(self.artifacts.join(name).read_bytes())
        return str(target)

    def artifact_names(self) -> list[str]:
        """Names of the files in the artifact stage."""
        start = len(self.artifacts.path.rstrip("/")) + 1
        return [entry.location.path[start:] for entry in self.artifacts.list()]

    def publish_model(self) -> None:
        """Bring the files of ``model_dir`` to the artifact stage. All ranks must call it."""
        committed = Committed(self.job.artifacts.join("model", self.job.request_id))
        error: Exception | None = None
        if self.position.local_rank == 0:
            try:
                committed.add(*_local(self.model_dir))
            except Exception as failed:
                error = failed
        together(self._worker, error, "Another rank could not upload its part of the model.")
        if self.position.rank == 0:
            committed.commit()
        if self.position.local_rank == 0:
            shutil.rmtree(self._scratch, ignore_errors=True)

    def _next_checkpoint(self, name: str | None) -> Location:
        # A name of its own for each attempt: what a lost one left must not get into the next.
        again = f"-{self.job.attempt}" if self.job.attempt else ""
        return self._place.join(f"{name or self.next_name()}{again}")

    @property
    def _place(self) -> Location:
        return self.job.artifacts.join("checkpoints", self.job.request_id)

    def _commit(self, committed: Committed, metrics: Mapping[str, Any]) -> None:
        error: Exception | None = None
        if self.position.rank == 0:
            try:
                committed.commit()
            except Exception as failed:
                error = failed
        together(self._worker, error, "Rank 0 could not complete the checkpoint.")
        self._checkpoints += 1
        self.reported.append((committed.final, metrics))

    def _remove_old(self) -> None:
        """Let go of checkpoints beyond the number that is kept."""
        while self.job.keep is not None and len(self.reported) > self.job.keep:
            oldest, _ = self.reported.pop(0)
            if self.position.rank == 0:
                # One that cannot be removed is no reason to stop a training.
                with contextlib.suppress(DataError):
                    oldest.delete()

    def _discard(self, committed: Committed) -> None:
        if self.position.rank == 0:
            committed.discard()


def together(worker: WorkerContext, error: Exception | None, otherwise: str) -> None:
    """Wait for all ranks; raise the own error, or ``otherwise`` where another rank has one."""
    if not all(worker.gather(error is None)) or error is not None:
        raise error or DataError(otherwise)


def _local(directory: Path) -> tuple[Any, str]:
    place = open_location(directory.absolute())
    return place.filesystem, place.path


def _plain(value: Any) -> Any:
    """A value that can be read where torch is not loaded: tensors of one number become numbers."""
    item = getattr(value, "item", None)
    if callable(item) and getattr(value, "size", None) is not None:
        with contextlib.suppress(Exception):
            return item()
    return value
