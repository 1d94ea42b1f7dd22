"""What both estimators do alike, tested on each: faults, stops, progress, and what scikit-learn wants."""

from __future__ import annotations

import os
import signal
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, cast

import numpy as np
import psutil
import pytest
from sklearn.base import clone
from sklearn.metrics import log_loss, ndcg_score, roc_auc_score
from sklearn.model_selection import cross_val_score
from tests.support import gpu_checks
from tests.support.memory import limited_group
from tests.support.slow import Slow
from tests.support.slow_xgboost import SlowXGB
from tests.support.tables import LABEL, inputs
from tests.support.trainings import assert_clean, at_round, until

from heliostat import _progress
from heliostat._stages import open_location
from heliostat._supervisor.limits import cpu_use
from heliostat.data import DataConnector
from heliostat.exceptions import ConfigurationError, TaskCancelledError, TrainingError
from heliostat.modeling.distributors._boosting import _checkpoints
from heliostat.modeling.distributors.lightgbm import LightGBMEstimator, LightGBMScalingConfig
from heliostat.modeling.distributors.xgboost import XGBEstimator, XGBScalingConfig

if TYPE_CHECKING:
    from pathlib import Path

    import pandas as pd

    from heliostat._runtime import Runtime


pytestmark = pytest.mark.usefixtures("runtime")


@dataclass(frozen=True)
class Library:
    """One of the two."""

    estimator: type[XGBEstimator | LightGBMEstimator]
    scaling: type[XGBScalingConfig | LightGBMScalingConfig]
    binary: str
    ranking: str
    params: dict[str, Any]
    slow: type[Slow]
    again: str
    """Argument of ``fit`` with the model to go on from."""

    def make(self, rounds: int, workers: int, *, waits: bool = False, **more: Any) -> Any:
        """Make an estimator of two classes."""
        given = {
            "objective": self.binary,
            "params": self.params,
            "scaling_config": self.scaling(workers),
            "callbacks": [self.slow()] if waits else None,
        }
        return self.estimator(rounds, **{**given, **more})

    def rounds(self, booster: Any) -> int:
        """How many rounds a booster of two classes has."""
        found = booster.num_trees() if hasattr(booster, "num_trees") else booster.num_boosted_rounds()
        return int(found)


XGB = Library(XGBEstimator, XGBScalingConfig, "binary:logistic", "rank:ndcg", {}, SlowXGB, "xgb_model")
LGB = Library(
    LightGBMEstimator,
    LightGBMScalingConfig,
    "binary",
    "lambdarank",
    {"verbosity": -1, "num_leaves": 7, "min_data_in_leaf": 5},
    Slow,
    "init_model",
)


@pytest.fixture(params=[XGB, LGB], ids=["xgboost", "lightgbm"])
def library(request: pytest.FixtureRequest) -> Library:
    """Each of the two."""
    found: Library = request.param
    return found


def kill_last(snapshot: _progress.TaskSnapshot) -> None:
    """Kill the process of the last rank."""
    pid = snapshot.workers[-1].pid
    assert pid is not None
    os.kill(pid, signal.SIGKILL)


def test_training_goes_on_when_workers_are_killed_twice(
    runtime: Runtime, library: Library, tumours: pd.DataFrame
) -> None:
    """Each time it goes on from the last checkpoint in seconds, and the report says so."""
    killers = [at_round(25, kill_last), at_round(65, kill_last)]
    estimator = library.make(90, 2, waits=True)
    booster = estimator.fit(tumours, inputs(tumours), LABEL)
    for killer in killers:
        killer.join()
    report = estimator.report
    assert library.rounds(booster) == report.rounds == 90
    assert [len(values) for values in estimator.get_eval_results()["train"].values()] == [90]
    assert estimator.callbacks[0].seen == list(range(90)), "callbacks see each round once"
    assert len(report.restarts) == 2
    for restart, least in zip(report.restarts, (20, 60), strict=True):
        assert restart.from_round >= least
        assert restart.seconds < 10, "1.6 s where nothing else runs, and 5 s is the goal"
        assert "killed" in restart.cause
        assert restart.workers == 2
    assert roc_auc_score(tumours[LABEL], estimator.predict(tumours)) > 0.99
    assert_clean(runtime)


def test_training_goes_on_with_fewer_workers_when_a_node_is_lost(
    runtime: Runtime, library: Library, tumours: pd.DataFrame
) -> None:
    """What the lost node held cannot be had again: the worker that can be trains all rows to the end."""
    runtime.resize(cpus=2, nodes=2)

    def kill_node(_: _progress.TaskSnapshot) -> None:
        below = psutil.Process(runtime.status().supervisor_pid).children()
        max((p for p in below if p.name() == "raylet"), key=lambda p: p.create_time()).kill()

    try:
        killer = at_round(25, kill_node)
        estimator = library.make(300, 2, waits=True)
        booster = estimator.fit(tumours, inputs(tumours), LABEL)
        killer.join()
        report = estimator.report
        (restart,) = report.restarts
        assert (restart.workers, report.workers, report.rows) == (1, 1, len(tumours))
        assert restart.from_round >= 20
        assert library.rounds(booster) == 300
        assert roc_auc_score(tumours[LABEL], estimator.predict(tumours)) > 0.99
    finally:
        until(lambda: len(runtime.nodes()) == 1, 30, "the lost node is counted out")
        runtime.resize(cpus=2, nodes=1)
    assert_clean(runtime)


def test_a_worker_killed_for_want_of_memory_is_told_as_that(library: Library, tumours: pd.DataFrame) -> None:
    """The operating system kills a worker that takes too much: training goes on, the report says why."""
    with limited_group(100_000_000) as group:

        def limit(snapshot: _progress.TaskSnapshot) -> None:
            (group / "cgroup.procs").write_text(str(snapshot.workers[-1].pid))

        limiter = at_round(15, limit)
        estimator = library.make(40, 2, waits=True)
        booster = estimator.fit(tumours, inputs(tumours), LABEL)
        limiter.join()
        assert library.rounds(booster) == 40
        (restart,) = estimator.report.restarts
        assert restart.cause.startswith("its process was killed")
        assert "for want of memory" in restart.cause


def test_a_training_is_whole_while_the_runtime_shrinks(
    runtime: Runtime, library: Library, tumours: pd.DataFrame
) -> None:
    """A CPU that a worker holds is let go of after the training, which loses no round and no worker."""
    ended: list[float] = []

    def shrink(_snapshot: _progress.TaskSnapshot) -> None:
        runtime.resize(cpus=1)
        ended.append(_progress.tasks()[-1].snapshot.done)

    shrinker = at_round(15, shrink)
    estimator = library.make(40, 2, waits=True)
    try:
        booster = estimator.fit(tumours, inputs(tumours), LABEL)
        shrinker.join()
        assert library.rounds(booster) == 40
        assert (estimator.report.restarts, estimator.report.workers) == ((), 2)
        assert ended == [40]
        resources = runtime.status().resources
        assert resources is not None
        assert resources.cpus == 1
    finally:
        runtime.resize(cpus=2)


def test_a_node_that_goes_waits_for_a_training_and_not_for_idle_workers(
    runtime: Runtime, tumours: pd.DataFrame
) -> None:
    """A training on two nodes is whole while one of them is taken away; its workers are not kept there."""
    runtime.resize(cpus=2, nodes=2)
    gone: list[float] = []

    def take(_snapshot: _progress.TaskSnapshot) -> None:
        runtime.resize(cpus=2, nodes=1)
        gone.append(time.monotonic())

    taker = at_round(15, take)
    estimator = XGB.make(40, 2, waits=True)
    estimator.fit(tumours, inputs(tumours), LABEL)
    ended = time.monotonic()
    taker.join()
    assert (estimator.report.rounds, estimator.report.restarts) == (40, ())
    assert 0 < gone[0] - ended < 30, "a worker that is kept would be there for two minutes"


@pytest.mark.parametrize("workers", [1, 2])
def test_an_interrupt_ends_the_workers_and_keeps_the_model(
    runtime: Runtime, library: Library, tumours: pd.DataFrame, workers: int
) -> None:
    """KeyboardInterrupt leaves fit() within a second; nothing stays but the partial model."""
    sent: list[float] = []

    def interrupt(_: _progress.TaskSnapshot) -> None:
        sent.append(time.monotonic())
        os.kill(os.getpid(), signal.SIGINT)

    sender = at_round(20, interrupt)
    endless = library.make(1_000_000, workers, waits=True, checkpoint_every=0)
    with pytest.raises(KeyboardInterrupt) as stopped:
        endless.fit(tumours, inputs(tumours), LABEL)
    assert time.monotonic() - sent[0] < 1
    sender.join()
    assert endless.report.interrupted
    told = f"get_booster() has the model of the first {endless.report.rounds} rounds."
    assert stopped.value.__notes__ == [told]
    assert _progress.tasks()[-1].snapshot.done == endless.report.rounds
    assert library.rounds(endless.get_booster()) == endless.report.rounds >= 20
    assert roc_auc_score(tumours[LABEL], endless.predict(tumours)) > 0.99
    assert_clean(runtime)


def test_progress_is_told_and_cancels(runtime: Runtime, library: Library, tumours: pd.DataFrame) -> None:
    """Rounds, metrics, rows and memory of each worker are told; cancelling ends the training."""
    snapshots: list[_progress.TaskSnapshot] = []

    def cancel(snapshot: _progress.TaskSnapshot) -> None:
        snapshots.append(snapshot)
        next(t for t in _progress.tasks() if t.snapshot.task_id == snapshot.task_id).cancel()

    canceller = at_round(10, cancel)
    metric = {"metric" if library is LGB else "eval_metric": "auc"}
    estimator = library.make(
        1_000_000, 2, waits=True, params={**library.params, **metric}, checkpoint_every=5
    )
    with pytest.raises(TaskCancelledError):
        estimator.fit(tumours, inputs(tumours), LABEL)
    canceller.join()
    (snapshot,) = snapshots
    assert (snapshot.kind, snapshot.unit, snapshot.total) == (estimator._module, "rounds", 1_000_000)
    assert 0.9 < snapshot.metrics["train-auc"] <= 1
    assert sum(worker.rows or 0 for worker in snapshot.workers) == len(tumours)
    assert all((worker.memory_bytes or 0) > 1e7 for worker in snapshot.workers)
    assert library.rounds(estimator.get_booster()) >= 10
    # The checkpoint outlives this process, and training can go on from it by its name.
    where = estimator.report.checkpoint
    assert where.startswith("@user/trees/checkpoints/")
    more = library.make(3, 1).fit(tumours, inputs(tumours), LABEL, **{library.again: where})
    assert library.rounds(more) >= 13
    open_location(where).delete()
    assert_clean(runtime)


def test_checkpoints_are_in_the_stage_while_they_are_needed(
    library: Library, tumours: pd.DataFrame, tmp_path: Path
) -> None:
    """Every tenth round is written to a file of its own, gone at the end; a named location keeps it."""
    place = open_location(_checkpoints.DEFAULT)
    for number in range(12):
        place.join(f"2000-{number:02}-left-by-the-dead").write_bytes(b"")
    seen: list[str] = []
    watcher = at_round(25, lambda _: seen.extend(entry.location.name for entry in place.list()))
    estimator = library.make(40, 1, waits=True)
    estimator.fit(tumours, inputs(tumours), LABEL)
    watcher.join()
    assert len(seen) == 10, "the oldest of the dead were removed"
    assert seen[-1].endswith(estimator._checkpoint_name)
    assert estimator.report.checkpoint is None
    assert all("left-by-the-dead" in entry.location.name for entry in place.list())
    place.delete()
    kept = library.make(25, 1, checkpoint_location=str(tmp_path))
    kept.fit(tumours, inputs(tumours), LABEL)
    path = tmp_path / kept._checkpoint_name
    assert kept.report.checkpoint == str(path)
    again = library.make(5, 1).fit(tumours, inputs(tumours), LABEL, **{library.again: path})
    assert library.rounds(again) == 25


def test_scikit_learn_takes_it_for_one_of_its_own(library: Library, tumours: pd.DataFrame) -> None:
    """It can be cloned, set, and cross-validated; what cannot be set changes nothing."""
    estimator = library.make(5, 1, params={**library.params, "max_depth": 2})
    copied = clone(estimator).set_params(n_estimators=6)
    assert (copied.n_estimators, copied.params) == (6, {**library.params, "max_depth": 2})
    assert copied.scaling_config == library.scaling(1)
    with pytest.raises(ConfigurationError, match="max_depth"):
        copied.set_params(max_depth=3)
    with pytest.raises(ConfigurationError, match="n_estimators=0"):
        copied.set_params(n_estimators=0)
    assert copied.n_estimators == 6
    numbers = tumours[inputs(tumours)]
    scores = cross_val_score(
        copied, numbers, tumours[LABEL], cv=2, scoring=lambda e, x, y: roc_auc_score(y, e.predict(x))
    )
    assert scores.min() > 0.9


def test_the_second_fit_is_quick(library: Library, tumours: pd.DataFrame) -> None:
    """With its workers warm, a training of ten rounds on a small table takes less than half a second."""
    estimator = library.make(10, 1)
    estimator.fit(tumours, inputs(tumours), LABEL)
    took = []
    for _ in range(3):
        begun = time.monotonic()
        estimator.fit(tumours, inputs(tumours), LABEL)
        took.append(time.monotonic() - begun)
    assert min(took) < 0.3


def test_a_runtime_that_is_too_small_is_refused_at_once(library: Library, tumours: pd.DataFrame) -> None:
    """The error says what is needed and what there is, and has the line that resizes, if that can be had."""
    estimator = library.make(5, 1, scaling_config=library.scaling(num_workers=3, num_cpu_per_worker=2))
    begun = time.monotonic()
    advice = r"%resize cpus=6 " if cpu_use().cpus >= 6 else "It cannot grow to that: 6 CPUs were asked for"
    with pytest.raises(ConfigurationError, match=advice) as refused:
        estimator.fit(tumours, inputs(tumours), LABEL)
    assert time.monotonic() - begun < 1
    assert (refused.value.required, refused.value.available) == (6, 2)


def test_a_failing_worker_is_named_with_its_cause(
    runtime: Runtime, library: Library, tumours: pd.DataFrame
) -> None:
    """A label that only rank 1 finds missing is reported as rank 1's, though rank 0 waits for it."""
    broken = tumours.assign(target=tumours[LABEL].astype(float))
    broken.loc[len(broken) - 1, LABEL] = np.nan
    with pytest.raises(TrainingError, match=r"rank 1.*'target' has no value in 1 of") as failed:
        library.make(10, 2).fit(broken, inputs(tumours), LABEL)
    assert failed.value.rank == 1
    assert_clean(runtime)


def test_constraints_ranking_and_early_stopping_hold_on_two_workers(
    library: Library, tumours: pd.DataFrame
) -> None:
    """A monotone input stays so, groups are never divided, and all ranks stop at the same round."""
    generator = np.random.default_rng(0)
    features = generator.normal(size=(600, 3)).astype(np.float32)
    noisy = features[:, 0] * 2 + generator.normal(size=600)
    rising = (1, 0, 0) if library is XGB else [1, 0, 0]
    params = {**library.params, "monotone_constraints": rising}
    estimator = library.make(10, 2, params=params)
    estimator.fit(features, (noisy > 0).astype(int))
    line = np.zeros((50, 3), dtype=np.float32)
    line[:, 0] = np.linspace(-2, 2, 50)
    predicted = estimator.predict(line)
    assert (np.diff(predicted) >= 0).all()
    assert predicted[-1] - predicted[0] > 0.5

    target = noisy.clip(0, 3).astype(int)
    ranker = library.make(8, 2, objective=library.ranking)
    ranker.fit(features, target, group=[25, 35] * 10)
    scores = [ndcg_score([target[a : a + 60]], [ranker.predict(features[a : a + 60])]) for a in (0, 300)]
    assert min(scores) > 0.7

    train, test = tumours[::2], tumours[1::2]
    quick = {"learning_rate": 0.5, "early_stopping_rounds": 3}
    stopping = library.make(300, 2, params={**library.params, **quick})
    stopped = stopping.fit(DataConnector.from_dataframe(train), inputs(train), LABEL, eval_set=test)
    assert library.rounds(stopped) < 100
    values = next(iter(stopping.get_eval_results()["eval"].values()))
    best = stopped.best_iteration - (library is LGB)
    assert int(np.argmin(values)) == best
    shown = _progress.tasks()[-1].snapshot
    assert shown.done == stopping.report.rounds
    assert values[-1] in [value for name, value in shown.metrics.items() if name.startswith("eval-")]


@pytest.mark.parametrize("arrays", [True, False], ids=["arrays", "columns"])
def test_margins_names_and_weights_of_features_hold_on_two_workers(
    library: Library, tumours: pd.DataFrame, arrays: bool
) -> None:
    """Rows start from their own margin, in evaluation sets too; an input of weight 0 is never used."""
    columns = inputs(tumours)
    unused = columns[:20]
    weights = [float(name not in unused) for name in columns]
    margin = np.where(tumours[LABEL] == 1, 1.0, -0.5)
    if library is XGB:
        given, own = "base_margin", "base_margin_eval_set"
        params = {"feature_weights": weights, "colsample_bynode": 0.2, "base_score": 0.5}
    else:
        given, own, params = "init_score", "eval_init_score", {"feature_contri": weights}
    estimator = library.make(10, 2, params={**library.params, **params})
    if arrays:
        data = (tumours[columns], tumours[LABEL])
        booster = estimator.fit(data, eval_set=data, **{given: margin, own: [margin]})
    else:
        frame = tumours.assign(margin=margin)
        booster = estimator.fit(frame, columns, LABEL, eval_set=frame, **{given: "margin"})
    predicted = 1 / (1 + np.exp(-(estimator.predict(tumours, output="margin") + margin)))
    history = estimator.get_eval_results()
    for name in ("train", "eval"):
        ((_, losses),) = history[name].items()
        assert losses[-1] == pytest.approx(log_loss(tumours[LABEL], predicted), rel=1e-4)
    if library is XGB:
        names, used = booster.feature_names, booster.get_score()
    else:
        names = booster.feature_name()
        used = dict(zip(names, booster.feature_importance(), strict=True))
    assert names == columns
    assert not any(used.get(name) for name in unused)
    assert sum(bool(count) for count in used.values()) > 3


def test_numbers_of_numpy_and_none_are_taken(library: Library, tumours: pd.DataFrame) -> None:
    """Counts may be numpy's, as a search over them has it; None for an argument means its default."""
    params = {**library.params, "max_bin": np.int64(63), "early_stopping_rounds": np.int64(50)}
    estimator = library.make(cast("int", np.int64(3)), 1, params=params)
    assert library.rounds(estimator.fit(tumours, inputs(tumours), LABEL, eval_set=tumours)) == 3
    default = library.estimator(None, None)
    assert (default._plan().rounds, default._plan().objective) == (100, library.estimator().objective)


def test_a_class_that_the_training_has_not_is_told(library: Library, tumours: pd.DataFrame) -> None:
    """A label of an evaluation set that cannot be predicted is named, not taken for a missing one."""
    texts = tumours.assign(target=np.where(tumours[LABEL] == 1, "benign", "malign"))
    other = texts.head(50).copy()
    other.loc[7, LABEL] = "unclear"
    with pytest.raises(TrainingError, match="'unclear', which no row of the training has"):
        library.make(3, 1).fit(texts, inputs(tumours), LABEL, eval_set=other)


def test_a_training_runs_on_the_device_it_was_given(library: Library) -> None:
    """The body of the check for real GPUs, on CPUs."""
    gpu_checks.check_boosting(library.estimator, library.scaling, "cpu")
