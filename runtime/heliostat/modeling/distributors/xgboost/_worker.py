"""What happens inside a worker: decode the own rows, join the others, train.

What XGBoost raises while ranks are connected may only mean that another rank is gone; it is told
as that, so that the driver looks for the true cause elsewhere.
"""

from __future__ import annotations

import re
import time
import warnings
from typing import TYPE_CHECKING, Any

from heliostat.exceptions import ConfigurationError
from heliostat.modeling._workers import PeerLostError
from heliostat.modeling.distributors._boosting._driving import Trained
from heliostat.modeling.distributors._boosting._quiet import silence
from heliostat.modeling.distributors._boosting._reporting import glances
from heliostat.modeling.distributors._boosting._spec import leave_out
from heliostat.modeling.distributors.xgboost._library import library

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from heliostat.modeling._workers import WorkerContext
    from heliostat.modeling.distributors._boosting._columns import Columns, Decoded
    from heliostat.modeling.distributors._boosting._job import Job
    from heliostat.modeling.distributors._boosting._reporting import Reporter

_SOURCE_POSITION = re.compile(r"^(\[[\d:]+\] )?(\S+\.(cc|h|cu|cuh):\d+: )?")
"""Time and place that XGBoost puts in front of its errors."""


_ASKING = ("eval_metric", "custom_metric", "early_stopping_rounds")
"""Settings that ask for metrics of every round."""


def train(context: WorkerContext, job: Job) -> Trained:
    """Train on this rank; every rank ends with the same model, rank 0 returns it."""
    from heliostat.modeling.distributors.xgboost import _sketch

    decoded, report = job.read(context)
    xgboost = library()
    sorts = (
        not job.gpu and len(decoded["train"].label) >= _sketch.LEAST_ROWS and _sketch.usable()
    )  # asked before the ranks are joined, which would have to ask together
    rendezvous = _meet(context)
    try:
        if rendezvous is not None:
            # The id decides the rank; it is sorted as text.
            with silence():
                xgboost.collective.init(**rendezvous, dmlc_task_id=f"{context.rank:08d}")
        trained = _boost(context, job, decoded, report, sorts=sorts)
        if rendezvous is not None and not trained.stopped:
            # Not on failure: it waits for the others, who wait for this rank.
            xgboost.collective.finalize()
    except xgboost.core.XGBoostError as error:
        sentence = _SOURCE_POSITION.sub("", str(error).strip().partition("\n")[0])
        kind = RuntimeError if rendezvous is None else PeerLostError
        raise kind(sentence) from None
    return trained


_tracker: Any = None


def _meet(context: WorkerContext) -> dict[str, Any] | None:
    """Agree on where ranks find each other: rank 0 keeps the meeting point in its process."""
    global _tracker  # noqa: PLW0603 - it lives as long as its training
    _tracker = None
    if context.size == 1:
        return None
    arguments = None
    if context.rank == 0:
        import ray
        from xgboost.tracker import RabitTracker

        _tracker = RabitTracker(n_workers=context.size, host_ip=ray.util.get_node_ip_address(), sortby="task")
        _tracker.start()
        arguments = _tracker.worker_args()
    found: dict[str, Any] = context.gather(arguments)[0]
    return found


def _boost(
    context: WorkerContext, job: Job, decoded: dict[str, Decoded], report: Reporter, *, sorts: bool
) -> Trained:
    import xgboost

    spec, done = job.spec, job.done
    options = {name: spec.options[name] for name in ("obj", "custom_metric") if name in spec.options}
    own = job.kept() or _callbacks(job)
    history: dict[str, dict[str, list[float]]] = {}
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        report.phase("sketches")
        matrices: list[tuple[Any, str]] = []
        began = time.monotonic()
        for name in list(decoded):
            # Popped: the rows are freed as soon as they are in the matrix.
            reference = matrices[0][0] if matrices else None
            rows, columns = decoded.pop(name), job.columns[name]
            made = matrix(rows, columns, job, reference, sorts=sorts and reference is None)
            del rows
            matrices.append((made, name))
        report.phases["matrix"] = time.monotonic() - began
        report.phase("trains")
        began = time.monotonic()
        first = _First(job, report, done, caught, matrices[0])
        booster = xgboost.train(
            _params(job),
            matrices[0][0],
            spec.rounds - done,
            evals=matrices if job.watched(*_ASKING) else (),
            evals_result=history,
            verbose_eval=False,
            xgb_model=None if job.model is None else bytearray(job.model),
            callbacks=[first, *(_shifted(callback, done) for callback in own), _Last(job, report, done, own)],
            **options,
        )
        report.phases["train"] = time.monotonic() - began
    told = [str(entry.message) for entry in caught]
    if context.rank:
        return Trained(b"", first.rounds, {}, stopped=first.stopped, warnings=[])
    return Trained(
        bytes(booster.save_raw("ubj")),
        first.rounds,
        {name: {m: list(v) for m, v in found.items()} for name, found in history.items()},
        warnings=told,
        phases=report.phases,
        callbacks=report.pickled(own[: len(job.callbacks)]),
        stopped=first.stopped,
    )


def _params(job: Job) -> dict[str, Any]:
    params = {**job.spec.params, "nthread": job.threads, "device": "cuda" if job.gpu else "cpu"}
    classes = job.columns["train"].classes
    if classes is not None and str(params.get("objective", "")).startswith("multi:"):
        params.setdefault("num_class", len(classes))
    return params


def _callbacks(job: Job) -> list[Any]:
    import xgboost

    callbacks = list(job.callbacks)
    rounds = job.spec.options.get("early_stopping_rounds")
    if rounds:
        maximize = job.spec.options.get("maximize")
        callbacks.append(xgboost.callback.EarlyStopping(rounds=rounds, maximize=maximize))
    return callbacks


def matrix(rows: Decoded, columns: Columns, job: Job, reference: Any, *, sorts: bool) -> Any:
    """Quantise rows: with cuts of their own (all ranks' together), or with those of ``reference``.

    ``sorts`` lets the sketch be given sorted values where that makes the same one.
    """
    import xgboost

    from heliostat.modeling.distributors.xgboost import _sketch

    params, options = job.spec.params, job.spec.options
    extra: dict[str, Any] = {"max_bin": params["max_bin"]} if "max_bin" in params else {}
    extra |= {"missing": options["missing"]} if "missing" in options else {}
    if reference is None and "feature_weights" in options:
        extra["feature_weights"] = options["feature_weights"]
    roles = dict(rows.roles)
    if "qid" in roles and "weight" in roles:
        import numpy as np

        # XGBoost weighs whole groups: the first row speaks for its group.
        first = np.flatnonzero(np.diff(roles["qid"], prepend=roles["qid"][0] - 1))
        roles["weight"] = roles["weight"][first]
    names = list(columns.inputs) if columns.named else None
    kinds = list(columns.kinds) if columns.named or columns.categories else None
    max_bin = extra.get("max_bin", _sketch.MAX_BIN)
    if sorts and not roles and not columns.categories and not extra.keys() - {"max_bin"}:
        return _sketch.matrix(
            rows.features,
            rows.label,
            threads=job.threads,
            max_bin=max_bin,
            feature_names=names,
            feature_types=kinds,
        )
    return xgboost.QuantileDMatrix(
        rows.features,
        label=rows.label,
        feature_names=names,
        feature_types=kinds,
        nthread=job.threads,
        ref=reference,
        enable_categorical=bool(columns.categories),
        **roles,
        **extra,
    )


def _shifted(callback: Any, done: int) -> Any:
    """Let a callback count rounds from the start of ``fit``, also after a restart."""
    import xgboost

    if not done or isinstance(callback, xgboost.callback.EarlyStopping):
        return callback  # it counts the model's own rounds

    class Shifted(xgboost.callback.TrainingCallback):
        def before_training(self, model: Any) -> Any:
            return callback.before_training(model)

        def after_training(self, model: Any) -> Any:
            return callback.after_training(model)

        def before_iteration(self, model: Any, epoch: int, evals_log: Any) -> bool:
            return bool(callback.before_iteration(model, epoch + done, evals_log))

        def after_iteration(self, model: Any, epoch: int, evals_log: Any) -> bool:
            return bool(callback.after_iteration(model, epoch + done, evals_log))

    return Shifted()


def _base() -> Any:
    """Return XGBoost's class of callbacks; it is imported late, so ours are made late."""
    import xgboost

    return xgboost.callback.TrainingCallback


def _First(  # noqa: N802
    job: Job, report: Reporter, done: int, caught: Sequence[warnings.WarningMessage], train: tuple[Any, str]
) -> Any:
    """Our first callback: sees every round, also the one that another callback ends with."""
    every, watched = glances(job.spec.rounds), job.watched(*_ASKING)

    class First(_base()):  # type: ignore[misc]
        rounds, stopped = done, False
        latest: Mapping[str, float] = {}

        def before_iteration(self, _model: Any, epoch: int, evals_log: Any) -> bool:
            if epoch == 0:
                evals_log.update(job.history)
            return False

        def after_iteration(self, model: Any, epoch: int, evals_log: Any) -> bool:
            if epoch == 0:
                _refuse_unused(caught, model)
            self.rounds = done + epoch + 1
            if watched:
                self.latest = {f"{n}-{m}": v[-1] for n, found in evals_log.items() for m, v in found.items()}
            elif self.rounds % every == 0:
                pairs = [pair.rpartition(":") for pair in model.eval(*train, epoch).split("\t")[1:]]
                self.latest = {name: float(value) for name, _, value in pairs}
            report.round(self.rounds, self.latest, job.report_every)
            self.stopped = self.stopped or report.context.stopping
            return self.stopped

    return First()


def _Last(job: Job, report: Reporter, done: int, own: Sequence[Any]) -> Any:  # noqa: N802
    """Our last callback: checkpoints rounds that the others have seen."""

    class Last(_base()):  # type: ignore[misc]
        def after_iteration(self, model: Any, epoch: int, evals_log: Any) -> bool:
            rounds = done + epoch + 1
            if report.checkpoint_due(rounds, job.checkpoint_every):
                report.checkpoint(rounds, bytes(model.save_raw("ubj")), evals_log, own)
            return False

    return Last()


def _refuse_unused(caught: Sequence[warnings.WarningMessage], model: Any) -> None:
    """XGBoost only warns of a parameter that it does not know; a misspelt one must not pass."""
    for entry in caught:
        _, found, rest = str(entry.message).partition("Parameters: {")
        names, ended, _ = rest.partition("} are not used")
        if found and ended:
            message = f"XGBoost does not use these parameters: {names.strip()}."
            known = re.findall(r'"(\w+)":"', model.save_config())  # those that have a value
            raise ConfigurationError(message, leave_out(re.findall(r"\w+", names), known))
