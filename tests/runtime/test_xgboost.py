"""``XGBEstimator`` on the workers of a real runtime, with real data."""

from __future__ import annotations

import json
import subprocess
import sys
import time
from importlib.util import find_spec
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa
import pytest
import xgboost
from sklearn.metrics import accuracy_score, log_loss, r2_score, roc_auc_score
from tests.support import tables
from tests.support.tables import LABEL, inputs
from tests.support.trainings import assert_clean, at_round

from heliostat.data import DataConnector
from heliostat.exceptions import ConfigurationError, DataError, TrainingError
from heliostat.modeling._runtime import NodeSize
from heliostat.modeling.distributors._boosting._scaling import Placement, plan_placement
from heliostat.modeling.distributors.xgboost import XGBEstimator, XGBScalingConfig, _sketch
from heliostat.modeling.distributors.xgboost._plan import plan_training

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    import pandas as pd

    from heliostat._runtime import Runtime

BINARY = "binary:logistic"
ONE, TWO = XGBScalingConfig(num_workers=1), XGBScalingConfig(num_workers=2)


@pytest.fixture(scope="module")
def flights() -> pd.DataFrame:
    """A tenth of the flights of 2013, with categories."""
    return tables.flights().iloc[::10].reset_index(drop=True)


class Slow(xgboost.callback.TrainingCallback):
    """Gives tests time; remembers the rounds it has seen."""

    def __init__(self, seconds: float = 0.005) -> None:
        self.seconds, self.seen = seconds, []  # type: tuple[float, list[int]]

    def after_iteration(self, model: Any, epoch: int, evals_log: Any) -> bool:
        """Wait."""
        self.seen.append(epoch)
        time.sleep(self.seconds)
        return False


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


@pytest.mark.parametrize("gaps", [0.3, 0.0])
def test_many_rows_with_ties_and_gaps_give_the_model_of_plain_xgboost(runtime: Runtime, gaps: float) -> None:
    """Where the sketch is given sorted values the model is still that of xgboost.train, byte for byte.

    Without gaps rows are let go of as they are binned.
    """
    generator = np.random.default_rng(0)
    features = generator.normal(size=(150_000, 6)).astype(np.float32)
    features[:, 1] = features[:, 1].round(2)
    features[generator.random(len(features)) < gaps, 2] = np.nan
    features[:, 3] = generator.integers(0, 5, len(features))
    features[:, 4] = np.repeat(features[: len(features) // 3, 4], 3)
    target = (features[:, 0] + features[:, 1] > 0).astype(int)
    params = {"max_depth": 3, "max_bin": 64}
    plain = xgboost.train(
        {**params, "objective": BINARY, "nthread": 2},
        xgboost.QuantileDMatrix(features, target, max_bin=64),
        12,
    )
    told: list[float] = []
    watcher = at_round(12, lambda snapshot: told.append(snapshot.metrics["train-logloss"]))
    estimator = XGBEstimator(12, BINARY, params, ONE)
    assert estimator.fit(features, target).save_raw() == plain.save_raw()
    watcher.join()
    assert 0 < told[0] < 0.6, "progress has metrics that nobody asked for"
    assert estimator.get_eval_results() == {}
    assert _sketch.usable(), "else it was not tried"


_WAYS = {
    "attribute": "from xgboost import XGBClassifier",
    "module": "from xgboost.sklearn import *",
    "pickle": "XGBClassifier = pickle.loads(b'cxgboost.sklearn\\nXGBClassifier\\n.')",
    "dask": "import xgboost.dask; XGBClassifier = xgboost.dask.XGBClassifier",
    "threads": """
from concurrent.futures import ThreadPoolExecutor
names = [name for name in xgboost.__all__ if name.startswith("XGB")]
with ThreadPoolExecutor(len(names)) as pool:
    found = list(pool.map(lambda name: getattr(xgboost, name), names))
assert [each.__name__ for each in found] == names
XGBClassifier = xgboost.XGBClassifier""",
}


def test_a_worker_has_xgboost_without_scikit_learn_until_it_is_wanted() -> None:
    """Training needs neither scikit-learn nor pandas; however their classes are asked for, all works."""
    code = """
import json, os, pickle, sys
from heliostat.modeling.distributors.xgboost._library import library
import numpy as np
xgboost = library()
assert not {"sklearn", "pandas"} & set(sys.modules) and "XGBClassifier" in dir(xgboost)
rows, label = np.eye(20, dtype="float32"), np.arange(20) % 2

def use(way):
    xgboost.train({}, xgboost.QuantileDMatrix(rows, label), 2)
    assert not {"sklearn", "pandas"} & set(sys.modules)
    names = {**globals()}
    exec(way, names)
    from sklearn.base import clone, is_classifier
    class Own(names["XGBClassifier"]): pass
    model = clone(names["XGBClassifier"](n_estimators=2)).fit(rows, label)
    assert is_classifier(Own()) and isinstance(model, xgboost.XGBModel)
    assert (pickle.loads(pickle.dumps(model)).predict(rows) == model.predict(rows)).all()
    assert xgboost.plotting.XGBModel is xgboost.sklearn.XGBModel is xgboost.XGBModel
    given = {"objective": "binary:logistic"}, xgboost.DMatrix(rows, label), 2
    assert len(xgboost.training.cv(*given, nfold=2, stratified=True)) == 2
    assert not hasattr(xgboost, "nothing")

children = {}
for name, way in json.loads(sys.argv[1]).items():
    child = os.fork()
    if not child:
        use(way)
        os._exit(0)
    children[child] = name
print(*(children[child] for child in children if os.waitpid(child, 0)[1]))
"""
    ways = {name: way for name, way in _WAYS.items() if name != "dask" or find_spec("dask") is not None}
    command = [sys.executable, "-c", code, json.dumps(ways)]
    ran = subprocess.run(command, capture_output=True, text=True, check=True)
    assert ran.stdout.split() == [], ran.stderr


def test_two_workers_are_as_good_as_one(
    runtime: Runtime, flights: pd.DataFrame, capsys: pytest.CaptureFixture[str]
) -> None:
    """On unseen flights the AUC is within 0.005 of plain XGBoost's, and metrics are of all rows."""
    test = flights["day"] >= 25
    columns = [name for name in inputs(flights) if name != "day"]
    estimator = XGBEstimator(40, BINARY, {"eval_metric": "logloss"}, TWO)
    connector = DataConnector.from_dataframe(flights[~test])
    estimator.fit(connector, columns, LABEL, eval_set=flights[test], verbose_eval=20)
    plain = xgboost.train(
        {"objective": BINARY, "nthread": 2},
        xgboost.QuantileDMatrix(
            flights.loc[~test, columns], flights.loc[~test, LABEL], enable_categorical=True
        ),
        40,
    )
    predicted = estimator.predict(flights[test])
    ours = roc_auc_score(flights.loc[test, LABEL], predicted)
    unseen = xgboost.DMatrix(flights.loc[test, columns], enable_categorical=True)
    theirs = roc_auc_score(flights.loc[test, LABEL], plain.predict(unseen))
    assert theirs > 0.62, "the task can be learned"
    assert abs(ours - theirs) < 0.005
    loss = log_loss(flights.loc[test, LABEL], predicted)
    assert estimator.get_eval_results()["eval"]["logloss"][-1] == pytest.approx(loss, abs=1e-6)
    told = capsys.readouterr().out.splitlines()
    assert [line.partition("\t")[0] for line in told] == ["[19]", "[39]"]
    report = estimator.report
    assert report is not None
    assert (report.workers, report.rows, report.rounds, report.restarts) == (2, int((~test).sum()), 40, ())
    spread = estimator.predict(DataConnector.from_dataframe(flights[test]))
    assert np.array_equal(spread, predicted), "workers predict the same, in the same order"
    assert_clean(runtime)


@pytest.mark.parametrize(
    ("load", "objective", "params", "score", "tolerance"),
    [
        (tables.diabetes, "reg:squarederror", {"max_depth": 3, "eta": 0.1}, "r2", 0.03),
        (tables.tumours, BINARY, {"max_depth": 3}, "auc", 0.01),
        (tables.digits, "multi:softprob", {"max_depth": 4, "num_class": 10}, "accuracy", 0.02),
    ],
)
@pytest.mark.usefixtures("runtime")
def test_two_workers_keep_to_the_tolerance(
    load: Callable[[], pd.DataFrame],
    objective: str,
    params: dict[str, Any],
    score: str,
    tolerance: float,
) -> None:
    """On a regression, a binary and a ten-class table unseen rows are predicted as well as by XGBoost."""
    columns = inputs(load())
    frame = load().sample(frac=1.0, random_state=0).reset_index(drop=True)
    test = frame.index % 4 == 0
    estimator = XGBEstimator(40, objective, params, TWO)
    estimator.fit(frame[~test], columns, LABEL)
    plain = xgboost.train(
        {**params, "objective": objective, "nthread": 2},
        xgboost.QuantileDMatrix(frame.loc[~test, columns], frame.loc[~test, LABEL]),
        40,
    )
    truth = frame.loc[test, LABEL]
    predictions = [estimator.predict(frame[test]), plain.predict(xgboost.DMatrix(frame.loc[test, columns]))]
    scores = {
        "r2": lambda found: r2_score(truth, found),
        "auc": lambda found: roc_auc_score(truth, found),
        "accuracy": lambda found: accuracy_score(truth, found.argmax(axis=1)),
    }
    ours, theirs = (scores[score](found) for found in predictions)
    assert ours >= theirs - tolerance


def test_categories_texts_and_weights_give_the_model_of_plain_xgboost(
    runtime: Runtime, flights: pd.DataFrame
) -> None:
    """Categories keep their order and names, labels that are texts their meaning, weights their effect."""
    frame = flights.head(3000).copy()
    frame.loc[5, "carrier"] = None
    columns = inputs(frame)
    frame["weight"] = np.linspace(0.5, 2.0, len(frame))
    texts = frame.assign(target=np.where(frame[LABEL], "late", "in time"))
    estimator = XGBEstimator(10, BINARY, {"max_depth": 4}, XGBScalingConfig(1, 2))
    booster = estimator.fit(texts, columns, LABEL, sample_weight="weight")
    matrix = xgboost.QuantileDMatrix(
        frame[columns], frame[LABEL], weight=frame["weight"], enable_categorical=True
    )
    plain = xgboost.train({"objective": BINARY, "max_depth": 4, "nthread": 2}, matrix, 10)
    assert booster.get_dump() == plain.get_dump()
    assert booster.feature_names == columns
    assert np.array_equal(booster.predict(matrix), plain.predict(matrix))
    assert list(estimator.classes_) == ["in time", "late"]
    named = estimator.predict(texts, output="class")
    assert set(named) <= {"in time", "late"}
    assert np.array_equal(named == "late", plain.predict(matrix) > 0.5)


def test_arrays_groups_and_functions_give_the_model_of_plain_xgboost(runtime: Runtime) -> None:
    """``fit(X, y)`` with ranking groups, own objectives, own metrics and constraints is the library's."""
    generator = np.random.default_rng(0)
    features = generator.normal(size=(600, 5)).astype(np.float32)
    target = (features[:, 0] * 3 + generator.normal(size=600)).clip(0, 4).astype(int)
    sizes = [30] * 20
    params = {"max_depth": 3, "monotone_constraints": "(1,0,0,0,0)"}
    ranker = XGBEstimator(8, "rank:ndcg", params, ONE)
    ranked = ranker.fit(features, target, group=sizes)
    matrix = xgboost.QuantileDMatrix(features, target, group=sizes)
    plain = xgboost.train({**params, "objective": "rank:ndcg", "nthread": 2}, matrix, 8)
    assert ranked.save_raw() == plain.save_raw()
    assert ranked.feature_names is None

    def squared(predictions: Any, given: Any) -> tuple[Any, Any]:
        return predictions - given.get_label(), np.ones_like(predictions)

    def worst(predictions: Any, given: Any) -> tuple[str, float]:
        return "worst", float(np.abs(predictions - given.get_label()).max())

    own = {"custom_metric": worst, "max_depth": 3, "base_score": 0.5, "disable_default_eval_metric": 1}
    estimator = XGBEstimator(8, squared, own, TWO)
    estimator.fit((features, target), eval_set=[(features[:100], target[:100])])
    assert set(estimator.get_eval_results()["eval"]) == {"worst"}
    assert len(estimator.get_eval_results()["eval"]["worst"]) == 8
    split = XGBEstimator(8, "rank:ndcg", params, TWO).fit(features, target, group=sizes)
    assert split.num_boosted_rounds() == 8


def test_training_stops_early_and_goes_on(runtime: Runtime, tumours: pd.DataFrame, tmp_path: Path) -> None:
    """Early stopping is the library's; a model that was saved comes back whole and can be trained further."""
    columns = inputs(tumours)
    train, test = tumours[::2], tumours[1::2]
    params = {"early_stopping_rounds": 3, "eta": 0.5, "eval_metric": "logloss"}
    slow = Slow(0.0)
    estimator = XGBEstimator(200, BINARY, params, ONE, callbacks=[slow])
    booster = estimator.fit(train, columns, LABEL, eval_set={"later": test})
    matrix = xgboost.QuantileDMatrix(train[columns], train[LABEL])
    plain = xgboost.train(
        {"eta": 0.5, "eval_metric": "logloss", "objective": BINARY, "nthread": 2},
        matrix,
        200,
        evals=[(matrix, "train"), (xgboost.QuantileDMatrix(test[columns], test[LABEL], ref=matrix), "later")],
        early_stopping_rounds=3,
        verbose_eval=False,
    )
    assert booster.save_raw() == plain.save_raw()
    assert booster.best_iteration == plain.best_iteration
    assert slow.seen == list(range(booster.num_boosted_rounds())), "the user's callback learned of all rounds"
    with pytest.warns(UserWarning, match="callbacks"):
        estimator.save(str(tmp_path / "model"))
    loaded = XGBEstimator.load(str(tmp_path / "model"))
    assert loaded.get_booster().save_raw() == booster.save_raw()
    assert loaded.params == params
    assert loaded.scaling_config == ONE
    assert np.array_equal(loaded.predict(test), estimator.predict(test))
    assert loaded.get_eval_results() == estimator.get_eval_results()
    more = XGBEstimator(5, BINARY, scaling_config=ONE).fit(train, columns, LABEL, xgb_model=loaded)
    assert more.num_boosted_rounds() == booster.num_boosted_rounds() + 5
    (tmp_path / "model" / "estimator.json").write_text('{"class": "Other", "format": 1}')
    with pytest.raises(DataError, match="XGBEstimator"):
        XGBEstimator.load(str(tmp_path / "model"))


@pytest.mark.parametrize(
    ("objective", "params", "told"),
    [
        ("nonsense", {}, "Unknown objective function: `nonsense`$"),
        (BINARY, {"max_dpth": 3}, '(?s)does not use these parameters: "max_dpth".*Did you mean .max_depth.'),
    ],
)
def test_what_xgboost_refuses_is_a_sentence(
    runtime: Runtime, tumours: pd.DataFrame, objective: str, params: dict[str, Any], told: str
) -> None:
    """Wrong objectives fail with XGBoost's own sentence; misspelt parameters do not pass as warnings."""
    estimator = XGBEstimator(5, objective, params, XGBScalingConfig(num_workers=1))
    with pytest.raises(TrainingError, match=told):
        estimator.fit(tumours, inputs(tumours), LABEL)


def test_what_cannot_be_trained_on_is_refused_by_name(tumours: pd.DataFrame) -> None:
    """Sparse matrices, several outputs, wrong lengths, unsorted groups, and mixed forms are told."""
    from scipy.sparse import csr_matrix  # type: ignore[import-untyped]

    estimator = XGBEstimator(5, BINARY)
    numbers = tumours[inputs(tumours)].to_numpy(dtype=float)
    with pytest.raises(DataError, match="sparse matrix"):
        estimator.fit(csr_matrix(np.nan_to_num(numbers)), tumours[LABEL])
    with pytest.raises(ConfigurationError, match="several outputs"):
        estimator.fit(numbers, np.zeros((len(numbers), 2)))
    with pytest.raises(DataError, match="569 rows and 3 values of label"):
        estimator.fit(numbers, [0, 1, 0])
    with pytest.raises(ConfigurationError, match="Both qid and group"):
        estimator.fit(numbers, tumours[LABEL], qid=np.zeros(569), group=[569])
    with pytest.raises(ConfigurationError, match=r"\(X, y\)"):
        estimator.fit(numbers, tumours[LABEL], eval_set=pa.table({"a": [1]}))
    with pytest.raises(ConfigurationError, match="'train' is that of"):
        estimator.fit(numbers, tumours[LABEL], eval_set={"train": (numbers, tumours[LABEL])})
    with pytest.raises(ConfigurationError, match="is no file"):
        estimator.fit(numbers, tumours[LABEL], xgb_model="/nowhere")


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
        ({"early_stopping_rounds": 0}, "not a number of rounds"),
        ({"booster": "gblinear"}, "gblinear"),
        ({"xgb_model": "x"}, "fit"),
        ({"eval_metric": print}, "custom_metric"),
        ({"tree_method": "exact"}, "hist"),
        ({"objective": 3}, "objective"),
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


SMALL, UNEVEN, GPUS = [NodeSize(2, 0)], [NodeSize(8, 0), NodeSize(4, 0)], [NodeSize(16, 2)]


@pytest.mark.parametrize(
    ("config", "nodes", "placement"),
    [
        (XGBScalingConfig(), SMALL, Placement(1, 2, 0)),
        (XGBScalingConfig(num_workers=2), SMALL, Placement(2, 1, 0)),
        (XGBScalingConfig(num_cpu_per_worker=1), SMALL, Placement(2, 1, 0)),
        (XGBScalingConfig(), UNEVEN, Placement(3, 4, 0)),
        (XGBScalingConfig(num_workers=2), UNEVEN, Placement(2, 4, 0)),
        (XGBScalingConfig(num_workers=1), UNEVEN, Placement(1, 8, 0)),
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
        (XGBScalingConfig(num_workers=1, num_cpu_per_worker=10), UNEVEN, True, "on nodes that do not fit"),
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
