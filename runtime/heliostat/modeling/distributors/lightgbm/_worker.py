"""What happens inside a worker: decode the own rows, join the others, train.

LightGBM's ranks each see the metrics of their own rows. Here they are made the metrics of all
rows, the same on each rank, before any callback sees them: so early stopping agrees everywhere.
"""

from __future__ import annotations

import socket
import time
import warnings
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from heliostat.modeling._workers import PeerLostError
from heliostat.modeling.distributors._boosting._columns import CATEGORY
from heliostat.modeling.distributors._boosting._driving import Trained
from heliostat.modeling.distributors._boosting._quiet import silence
from heliostat.modeling.distributors._boosting._reporting import glances
from heliostat.modeling.distributors.lightgbm._plan import gpu_type, histogram_layout

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from heliostat.modeling._workers import WorkerContext
    from heliostat.modeling.distributors._boosting._columns import Columns, Decoded
    from heliostat.modeling.distributors._boosting._job import Job
    from heliostat.modeling.distributors._boosting._reporting import Reporter

_NETWORK_MINUTES = 120
_FIRST, _LAST = -1_000_000, 1_000_000
"""Order of our callbacks among the user's."""


_ASKING = ("metric", "metrics", "metric_types", "feval", "stopping")
"""Settings that ask for metrics of every round."""


def train(context: WorkerContext, job: Job) -> Trained:
    """Train on this rank; every rank ends with the same model, rank 0 returns it."""
    decoded, report = job.read(context)
    import lightgbm

    params = {**_params(job), **_network(context, job)}
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        try:
            trained = _boost(context, job, params, decoded, report)
        except lightgbm.basic.LightGBMError as error:
            sentence = str(error).strip().partition("\n")[0]
            lost = context.size > 1 and sentence.startswith("Socket ")
            raise (PeerLostError if lost else RuntimeError)(sentence) from None
    if context.rank == 0:
        trained.warnings.extend(str(entry.message) for entry in caught)
    return trained


def _boost(
    context: WorkerContext, job: Job, params: dict[str, Any], decoded: dict[str, Decoded], report: Reporter
) -> Trained:
    import lightgbm

    report.phase("bins")
    weights = {name: _weight(rows) for name, rows in decoded.items()}
    began = time.monotonic()
    sets: dict[str, Any] = {}
    for name in list(decoded):
        sets[name] = _dataset(decoded.pop(name), job.columns[name], params, sets.get("train"))
    follow = _Follow(context, job, report, weights)
    own = follow.own()
    booster = lightgbm.train(
        params,
        sets["train"],
        job.spec.rounds - job.done,
        valid_sets=list(sets.values()) if follow.watched else None,
        valid_names=list(sets) if follow.watched else None,
        feval=job.spec.options.get("feval"),
        init_model=None if job.model is None else lightgbm.Booster(model_str=job.model.decode()),
        callbacks=[
            _ordered(follow.before, _FIRST, before=True),
            _ordered(follow.first, _FIRST),
            *own,
            _ordered(follow.last, _LAST),
        ],
    )
    report.phases["matrix"] = (follow.began or time.monotonic()) - began
    report.phases["train"] = time.monotonic() - (follow.began or began)
    if context.size > 1 and not follow.stopped:
        _leave(context)
    if context.rank:
        return Trained(b"", follow.rounds, {}, stopped=follow.stopped)
    best = {name: dict(found) for name, found in booster.best_score.items()}
    attributes = {"best_iteration": booster.best_iteration, "best_score": best}
    return Trained(
        booster.model_to_string(num_iteration=-1).encode(),
        follow.rounds,
        follow.history,
        attributes={} if follow.stopped else attributes,
        phases=report.phases,
        callbacks=report.pickled(follow.kept[: len(job.callbacks)]),
        stopped=follow.stopped,
    )


class _Follow:
    """Our callbacks, first and last of each round, and what they have seen."""

    def __init__(
        self, context: WorkerContext, job: Job, report: Reporter, weights: Mapping[str, float]
    ) -> None:
        self._context, self._job, self._report, self._weights = context, job, report, weights
        self.watched = job.watched(*_ASKING)
        self.rounds, self.stopped = job.done, False
        self.began: float | None = None
        self._latest: Mapping[str, float] = {}
        self.history = job.history
        self.kept: list[Any] = job.kept() or self._callbacks()

    def own(self) -> list[Any]:
        """Callbacks of the user and of early stopping, as LightGBM shall call them."""
        if not self._job.done:
            return self.kept
        return [_resumed(callback, index, self._job.done) for index, callback in enumerate(self.kept)]

    def first(self, env: Any) -> None:
        """Make the metrics those of all ranks, and tell of them."""
        import lightgbm

        results = env.evaluation_result_list
        if not self.watched:
            looks = (self.rounds + 1) % glances(self._job.spec.rounds) == 0
            results = [("train", *found[1:]) for found in env.model.eval_train()] if looks else []
        if self._context.size > 1 and results:
            measured = [(result[0], result[1], float(result[2])) for result in results]
            values = merged(self._context.gather((measured, self._weights)))
            results[:] = [
                lightgbm.EvalResult(result[0], result[1], value, result[3], None)
                for result, value in zip(results, values, strict=True)
            ]
        self.rounds += 1
        if results:
            self._latest = {f"{name}-{metric}": float(value) for name, metric, value, *_ in results}
        for name, metric, value, *_ in results if self.watched and results else ():
            self.history.setdefault(name, {}).setdefault(metric, []).append(float(value))
        self._report.round(self.rounds, self._latest, self._job.report_every)
        if self._context.stopping:
            self.stopped = True
            raise lightgbm.callback.EarlyStopException(env.iteration, list(results or ()))

    def last(self, env: Any) -> None:
        """Checkpoint rounds that the others have seen."""
        if self._report.checkpoint_due(self.rounds, self._job.checkpoint_every):
            model = env.model.model_to_string(num_iteration=-1).encode()
            self._report.checkpoint(self.rounds, model, self.history, self.kept)

    def before(self, _: Any) -> None:
        """Note when the first round begins: the bins are made by then."""
        if self.began is None:
            self.began = time.monotonic()
            self._report.phase("trains")

    def _callbacks(self) -> list[Any]:
        """The user's, and that of early stopping, which LightGBM would make itself: its state is kept."""
        import lightgbm

        stopping = self._job.spec.options["stopping"]
        early = [] if stopping is None else [lightgbm.early_stopping(**stopping, verbose=False)]
        return [*self._job.callbacks, *early]


def merged(ranks: Sequence[tuple[Sequence[tuple[str, str, float]], Mapping[str, float]]]) -> list[float]:
    """Merge what ranks measured on their rows, weighted by them.

    That is exact for all metrics that are means over rows, for ``rmse``, and for ``gamma_deviance``,
    which is a sum; of others (``auc``) it is the mean of the ranks, as XGBoost has it.
    """
    found = []
    for index, (name, metric, _) in enumerate(ranks[0][0]):
        weights = [weight[name] for _, weight in ranks]
        values = [measured[index][2] for measured, _ in ranks]
        if metric == "gamma_deviance":
            found.append(sum(values))
            continue
        power = 2 if metric == "rmse" else 1
        mean = sum(w * v**power for w, v in zip(weights, values, strict=True)) / sum(weights)
        found.append(mean ** (1 / power))
    return found


def _params(job: Job) -> dict[str, Any]:
    layout = histogram_layout(job.spec.params, len(job.columns["train"].inputs))
    params = {"verbosity": -1, **layout, **job.spec.params, "num_threads": job.threads}
    if {"verbose", "verbosity"} <= set(params):
        del params["verbosity"]
    if job.gpu:
        params["device_type"] = gpu_type(job.spec.params) or "gpu"
    classes = job.columns["train"].classes
    objective = params.get("objective")
    several = classes is not None and isinstance(objective, str) and objective != "binary"
    if classes is not None and several and not {"num_class", "num_classes"} & set(params):
        params["num_class"] = len(classes)
    return params


def _network(context: WorkerContext, job: Job) -> dict[str, Any]:
    """Connect the ranks: a free port on each, and all told where all are; returns what that sets."""
    if context.size == 1:
        return {}
    import ray

    host = ray.util.get_node_ip_address()
    with socket.socket() as probe:
        # Held until all have chosen, so that two ranks of one machine do not choose the same.
        probe.bind((host, 0))
        port = probe.getsockname()[1]
        places = context.gather((host, port))
    from lightgbm.basic import _LIB, _safe_call  # type: ignore[attr-defined]

    machines = ",".join(f"{host}:{port}" for host, port in places)
    # By hand, since a Booster would do the same and print five lines on each rank.
    with silence():
        _safe_call(_LIB.LGBM_NetworkInit(machines.encode(), port, _NETWORK_MINUTES, context.size))
    learner = str(job.spec.params.get("tree_learner", "data"))
    return {
        "num_machines": context.size,
        "pre_partition": True,
        "tree_learner": "voting" if learner.startswith("voting") else "data",
    }


def _leave(context: WorkerContext) -> None:
    """Disconnect, once nobody needs this rank any more."""
    from lightgbm.basic import _LIB, _safe_call  # type: ignore[attr-defined]

    context.gather(None)
    _safe_call(_LIB.LGBM_NetworkFree())


def _dataset(rows: Decoded, columns: Columns, params: dict[str, Any], reference: Any) -> Any:
    import lightgbm

    categories = [name for name, kind in zip(columns.inputs, columns.kinds, strict=True) if kind == CATEGORY]
    return lightgbm.Dataset(
        rows.features,
        label=rows.label,
        reference=reference,
        weight=rows.roles.get("weight"),
        group=_sizes(rows.roles["qid"]) if "qid" in rows.roles else None,
        init_score=rows.roles.get("init_score"),
        feature_name=list(columns.inputs) if columns.named else "auto",
        categorical_feature=categories or "auto",
        params=params,
    )


def _sizes(qid: Any) -> Any:
    """Sizes of runs of equal numbers."""
    import numpy as np

    starts = np.flatnonzero(np.diff(qid, prepend=qid[0] - 1))
    return np.diff(np.append(starts, len(qid)))


def _weight(rows: Decoded) -> float:
    """How much the rows of this rank count in a metric: by weights, by groups, or by rows."""
    if "qid" in rows.roles:
        return float(len(_sizes(rows.roles["qid"])))
    return float(rows.roles["weight"].sum()) if "weight" in rows.roles else float(len(rows.label))


def _ordered(callback: Any, order: int, *, before: bool = False) -> Any:
    def called(env: Any) -> None:
        callback(env)

    called.order = order  # type: ignore[attr-defined]
    called.before_iteration = before  # type: ignore[attr-defined]
    return called


def _resumed(callback: Any, index: int, done: int) -> Any:
    """Let a callback believe that training began where it did before a worker was lost."""

    def called(env: Any) -> None:
        callback(replace(env, begin_iteration=env.begin_iteration - done))

    called.order = getattr(callback, "order", index - _LAST)  # type: ignore[attr-defined]
    called.before_iteration = getattr(callback, "before_iteration", False)  # type: ignore[attr-defined]
    return called
