"""What happens inside a worker: decode the own rows, join the others, train.

A worker never raises: it returns a ``WorkerFailure``, so that the driver sees the rank and the
real cause, and not the broken connection that the other ranks see a moment later.
"""

from __future__ import annotations

import contextlib
import ctypes
import os
import re
import time
import warnings
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from heliostat.data._spill import RowRange, read_range
from heliostat.exceptions import ConfigurationError, DataError

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    import numpy as np
    import numpy.typing as npt

    Block = npt.NDArray[np.float32]


_SOURCE_POSITION = re.compile(r"^(\[[\d:]+\] )?(\S+\.(cc|h|cu|cuh):\d+: )?")
"""Time and place that XGBoost puts in front of its errors."""


@dataclass(frozen=True)
class Columns:
    """Which columns are what."""

    inputs: Sequence[str]
    kinds: Sequence[str]
    """XGBoost's feature type of each input: ``int``, ``float`` or ``i`` (boolean)."""
    label: str


@dataclass(frozen=True)
class Job:
    """One worker's part of a training."""

    rank: int
    train: RowRange
    evaluate: RowRange | None
    columns: Columns
    params: Mapping[str, Any]
    rounds: int
    report_every: int
    """Rounds between two lines of progress; 0 for none. Only rank 0 reports."""


@dataclass(frozen=True)
class WorkerResult:
    """What a worker leaves; every rank has the same model, so rank 0 alone sends it."""

    model: bytes
    history: Mapping[str, Mapping[str, list[float]]]
    warnings: list[str]


@dataclass(frozen=True)
class WorkerFailure:
    """Why a worker failed."""

    rank: int
    at: float
    error: Exception
    collective: bool
    """Whether XGBoost raised it while the ranks were connected: then another rank may be the cause."""


@contextlib.contextmanager
def _silence() -> Iterator[None]:
    """Swallow the line that XGBoost writes for each rank that joins, at any verbosity."""
    kept = [os.dup(1), os.dup(2)]
    nothing = os.open(os.devnull, os.O_WRONLY)
    flush_all = ctypes.CDLL(None).fflush
    try:
        os.dup2(nothing, 1)
        os.dup2(nothing, 2)
        yield
        flush_all(None)
    finally:
        os.dup2(kept[0], 1)
        os.dup2(kept[1], 2)
        for descriptor in (*kept, nothing):
            os.close(descriptor)


class Worker:
    """The actor. ``progress`` is answered while ``train`` runs."""

    def __init__(self) -> None:
        # OpenMP's waiting threads spin by default, which starves everybody else on the machine.
        # Read once, when the library loads: nothing here may import it before.
        os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
        self._lines: list[str] = []
        self._tracker: Any = None

    def start_tracker(self, workers: int) -> dict[str, Any]:
        """Start the meeting point of the ranks in this process; returns what they need to find it."""
        import ray
        from xgboost.tracker import RabitTracker

        self._tracker = RabitTracker(n_workers=workers, host_ip=ray.util.get_node_ip_address(), sortby="task")
        self._tracker.start()
        arguments: dict[str, Any] = self._tracker.worker_args()
        return arguments

    def progress(self, seen: int) -> list[str]:
        """Lines of progress after the first ``seen``."""
        return self._lines[seen:]

    def train(self, job: Job, rendezvous: Mapping[str, Any] | None) -> WorkerResult | WorkerFailure:
        """Train; ``rendezvous`` is ``None`` for a worker that is alone."""
        joined = False
        try:
            train = decode(job.train, job.columns)
            evaluate = decode(job.evaluate, job.columns) if job.evaluate is not None else None
            from xgboost import collective

            if rendezvous is not None:
                # The id decides the rank; it is sorted as text.
                with _silence():
                    collective.init(**rendezvous, dmlc_task_id=f"{job.rank:08d}")
                joined = True
            result = self._boost(job, train, evaluate)
            if joined:
                # Not on failure: it waits for the others, who wait for this rank.
                collective.finalize()
        except Exception as error:
            return WorkerFailure(job.rank, time.time(), _portable(error), joined and _is_xgboost(error))
        return result

    def _boost(
        self, job: Job, train: tuple[Block, Block], evaluate: tuple[Block, Block] | None
    ) -> WorkerResult:
        import xgboost

        class Progress(xgboost.callback.TrainingCallback):
            def after_iteration(_, model: Any, epoch: int, evals_log: Any) -> bool:  # noqa: N805
                if epoch == 0:
                    _refuse_unused(caught)
                due = (epoch + 1) % job.report_every == 0 if job.report_every else False
                if job.rank == 0 and (due or (job.report_every and epoch + 1 == job.rounds)):
                    self._lines.append(_line(epoch, evals_log))
                return False

        history: dict[str, dict[str, list[float]]] = {}
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            matrices = [(_matrix(train, job, None), "train")]
            if evaluate is not None:
                matrices.append((_matrix(evaluate, job, matrices[0][0]), "eval"))
            booster = xgboost.train(
                dict(job.params),
                matrices[0][0],
                job.rounds,
                evals=matrices,
                evals_result=history,
                verbose_eval=False,
                callbacks=[Progress()],
            )
        told = [str(entry.message) for entry in caught]
        return WorkerResult(bytes(booster.save_raw("ubj")) if job.rank == 0 else b"", history, told)


def decode(part: RowRange, columns: Columns) -> tuple[Block, Block]:
    """Decode rows into one row-major block of float32, missing values as NaN, and their labels.

    Raises
    ------
    DataError
        A row has no label.
    """
    import numpy as np

    block = np.empty((part.rows, len(columns.inputs)), dtype=np.float32)
    labels = np.empty(part.rows, dtype=np.float32)
    start = 0
    for table in read_range(part):
        stop = start + table.num_rows
        np.stack([to_float32(table.column(name)) for name in columns.inputs], axis=1, out=block[start:stop])
        labels[start:stop] = to_float32(table.column(columns.label))
        start = stop
    missing = int(np.isnan(labels).sum())
    if missing:
        message = (
            f"The label column {columns.label!r} has no value in {missing} of the worker's {part.rows} rows."
        )
        raise DataError(message, "Leave those rows out before training.", column=columns.label)
    return block, labels


def to_float32(column: Any) -> Block:
    """Convert a numeric Arrow column; null becomes NaN."""
    import pyarrow as pa

    if pa.types.is_decimal(column.type):
        column = column.cast(pa.float64())
    values: Block = column.cast(pa.float32(), safe=False).to_numpy(zero_copy_only=False)
    return values


def _matrix(rows: tuple[Block, Block], job: Job, reference: Any) -> Any:
    import xgboost

    block, labels = rows
    options = {"max_bin": job.params["max_bin"]} if "max_bin" in job.params else {}
    return xgboost.QuantileDMatrix(
        block,
        label=labels,
        feature_names=list(job.columns.inputs),
        feature_types=list(job.columns.kinds),
        nthread=job.params["nthread"],
        ref=reference,
        **options,
    )


def _refuse_unused(caught: Sequence[warnings.WarningMessage]) -> None:
    """XGBoost only warns of a parameter that it does not know; a misspelt one must not pass."""
    for entry in caught:
        _, found, rest = str(entry.message).partition("Parameters: {")
        names, ended, _ = rest.partition("} are not used")
        if found and ended:
            message = f"XGBoost does not use these parameters: {names.strip()}."
            raise ConfigurationError(message, "Leave them out.")


def _line(epoch: int, evals_log: Mapping[str, Mapping[str, Sequence[float]]]) -> str:
    values = (
        f"{name}-{metric}:{series[-1]:.5f}"
        for name, metrics in evals_log.items()
        for metric, series in metrics.items()
    )
    return "\t".join([f"[{epoch}]", *values])


def _is_xgboost(error: Exception) -> bool:
    return type(error).__name__ == "XGBoostError"


def _portable(error: Exception) -> Exception:
    """Keep an error that survives the way to the driver; of XGBoost's own, keep the sentence."""
    if not _is_xgboost(error):
        return error
    sentence = str(error).strip().partition("\n")[0]
    return RuntimeError(_SOURCE_POSITION.sub("", sentence))
