"""``LightGBMEstimator`` on the workers of a real runtime, with real data."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import lightgbm
import numpy as np
import pytest
from sklearn.base import clone
from sklearn.metrics import accuracy_score, r2_score, roc_auc_score
from tests.support import tables
from tests.support.tables import LABEL, inputs

from heliostat.data import DataConnector
from heliostat.exceptions import ConfigurationError, TrainingError
from heliostat.modeling.distributors.lightgbm import LightGBMEstimator, LightGBMScalingConfig
from heliostat.modeling.distributors.lightgbm._plan import plan_training
from heliostat.modeling.distributors.lightgbm._worker import merged

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    import pandas as pd


ONE, TWO = LightGBMScalingConfig(num_workers=1), LightGBMScalingConfig(num_workers=2)
pytestmark = pytest.mark.usefixtures("runtime")

EXACT = {"force_row_wise": True, "verbosity": -1, "num_leaves": 7, "min_data_in_leaf": 5}


def trees(booster: lightgbm.Booster) -> str:
    """A model's text without the parameters."""
    return booster.model_to_string(num_iteration=-1).split("parameters:")[0]


@pytest.mark.parametrize(
    ("load", "objective", "params", "score", "tolerance"),
    [
        (tables.diabetes, "regression", {}, "r2", 0.04),
        (tables.tumours, "binary", {}, "auc", 0.01),
        (tables.digits, "multiclass", {"num_class": 10}, "accuracy", 0.02),
    ],
)
def test_one_worker_is_lightgbm_and_two_keep_to_the_tolerance(
    load: Callable[[], pd.DataFrame], objective: str, params: dict[str, Any], score: str, tolerance: float
) -> None:
    """One worker makes the very trees of lightgbm.train; two predict unseen rows as well."""
    frame = load().sample(frac=1.0, random_state=0).reset_index(drop=True)
    test = frame.index % 4 == 0
    columns = inputs(frame)
    given = {**EXACT, **params}
    plain = lightgbm.train(
        {**given, "objective": objective, "num_threads": 2},
        lightgbm.Dataset(frame.loc[~test, columns], frame.loc[~test, LABEL]),
        25,
    )
    single = LightGBMEstimator(25, objective, given, ONE)
    assert trees(single.fit(frame[~test], columns, LABEL)) == trees(plain)
    estimator = LightGBMEstimator(25, objective, given, TWO)
    estimator.fit(DataConnector.from_dataframe(frame[~test]), columns, LABEL, eval_set=frame[test])
    truth = frame.loc[test, LABEL]
    scores = {
        "r2": lambda found: r2_score(truth, found),
        "auc": lambda found: roc_auc_score(truth, found),
        "accuracy": lambda found: accuracy_score(truth, found.argmax(axis=1)),
    }
    predicted = estimator.predict(frame[test])
    assert scores[score](predicted) >= scores[score](plain.predict(frame.loc[test, columns])) - tolerance
    spread = estimator.predict(DataConnector.from_dataframe(frame[test]))
    assert np.array_equal(spread, predicted)
    history = estimator.get_eval_results()
    assert [len(values) for values in history["eval"].values()] == [25]


def test_categories_texts_and_early_stopping_are_lightgbms(tumours: pd.DataFrame, tmp_path: Path) -> None:
    """Categories, labels that are texts, weights and early stopping give the library's own model."""
    frame = tumours.assign(size=tumours["mean_radius"].round(-1).astype(int).astype("category"))
    columns = inputs(frame)
    texts = frame.assign(target=np.where(frame[LABEL] == 1, "benign", "malign"), weight=1.5)
    numbers = (texts[LABEL] == "malign").astype(int)
    train, test = frame.index % 2 == 0, frame.index % 2 == 1
    given = {**EXACT, "metric": "binary_logloss", "learning_rate": 0.4}
    estimator = LightGBMEstimator(100, "binary", {**given, "early_stopping_rounds": 3}, ONE)
    booster = estimator.fit(
        texts[train], columns, LABEL, eval_set=texts[test], sample_weight="weight", verbose_eval=None
    )
    rows = lightgbm.Dataset(frame.loc[train, columns], numbers[train], weight=np.full(train.sum(), 1.5))
    unseen = lightgbm.Dataset(
        frame.loc[test, columns], numbers[test], weight=np.full(test.sum(), 1.5), reference=rows
    )
    plain = lightgbm.train(
        {**given, "objective": "binary", "num_threads": 2},
        rows,
        100,
        valid_sets=[unseen],
        callbacks=[lightgbm.early_stopping(3, verbose=False)],
    )
    assert trees(booster) == trees(plain)
    assert booster.best_iteration == plain.best_iteration < 100
    assert list(estimator.classes_) == ["benign", "malign"]
    assert set(estimator.predict(texts[test], output="class")) == {"benign", "malign"}
    estimator.save(str(tmp_path))
    assert trees(LightGBMEstimator.load(str(tmp_path)).get_booster()) == trees(booster)
    both = clone(estimator).set_params(scaling_config=TWO)
    stopped = both.fit(texts[train], columns, LABEL, eval_set=texts[test])
    assert stopped.best_iteration < 100
    longer = LightGBMEstimator(4, "binary", EXACT, ONE)
    assert longer.fit(texts[train], columns, LABEL, init_model=booster).num_trees() == booster.num_trees() + 4


def test_ranking_and_own_functions_run_on_several_workers() -> None:
    """Groups are never divided, and own objectives and metrics travel."""
    generator = np.random.default_rng(0)
    features = generator.normal(size=(600, 4))
    target = (features[:, 0] * 2 + generator.normal(size=600)).clip(0, 3).astype(int)
    ranker = LightGBMEstimator(6, "lambdarank", {**EXACT, "metric": "ndcg", "eval_at": [5]}, TWO)
    ranker.fit(
        features,
        target,
        group=[25, 35] * 10,
        eval_set=(features, target),
        eval_qid=[np.repeat(range(20), 30)],
    )
    assert ranker.get_eval_results()["eval"]["ndcg@5"][-1] > 0.6

    def squared(predictions: Any, given: Any) -> tuple[Any, Any]:
        return predictions - given.get_label(), np.ones_like(predictions)

    def worst(predictions: Any, given: Any) -> tuple[str, float, bool]:
        return "worst", float(np.abs(predictions - given.get_label()).max()), False

    own = LightGBMEstimator(6, squared, {**EXACT, "custom_metric": worst, "metric": "None"}, TWO)
    own.fit((features, target), eval_set=(features, target))
    assert len(own.get_eval_results()["eval"]["worst"]) == 6


@pytest.mark.parametrize(
    ("params", "told"),
    [
        ({"num_threads": 4}, "num_cpu_per_worker"),
        ({"machines": "a:1"}, "num_workers"),
        ({"num_iterations": 4}, "n_estimators"),
        ({"tree_learner": "feature"}, "different rows"),
        ({"early_stopping_round": "3"}, "number of rounds"),
        ({"objective": 3}, "objective=3"),
    ],
)
def test_parameters_that_would_do_nothing_are_refused(params: dict[str, Any], told: str) -> None:
    """A parameter that is set elsewhere or is not offered is an error, not a silence."""
    with pytest.raises(ConfigurationError, match=told):
        LightGBMEstimator(params=params)


def test_unknown_parameters_and_errors_are_sentences(tumours: pd.DataFrame) -> None:
    """A misspelt parameter is refused before anything starts; LightGBM's own errors come through."""
    with pytest.raises(ConfigurationError, match=r"(?s)'max_dpth'.*Did you mean 'max_depth'"):
        LightGBMEstimator(5, "binary", {"max_dpth": 3}, ONE).fit(tumours, inputs(tumours), LABEL)
    with pytest.raises(TrainingError, match="Unknown objective"):
        LightGBMEstimator(5, "nonsense", {}, ONE).fit(tumours, inputs(tumours), LABEL)
    with pytest.raises(ConfigurationError, match="asks for 1 GPU; the runtime has 0 GPUs"):
        LightGBMEstimator(5, "binary", {}, LightGBMScalingConfig(use_gpu=True)).fit(
            tumours, inputs(tumours), LABEL
        )


def test_params_go_before_arguments() -> None:
    """n_estimators and objective in params win, under any of their names."""
    spec = plan_training(100, "regression", {"n_estimators": 7, "application": "binary", "eta": 0.1})
    assert (spec.rounds, spec.params["objective"], spec.classifier) == (7, "binary", True)


def test_metrics_of_ranks_are_merged_by_weight() -> None:
    """Means are weighted means, the root of a mean square is that of all rows, and sums are sums."""
    ranks = [
        ([("eval", "l2", 1.0), ("eval", "rmse", 1.0), ("eval", "gamma_deviance", 1.0)], {"eval": 1.0}),
        ([("eval", "l2", 4.0), ("eval", "rmse", 2.0), ("eval", "gamma_deviance", 4.0)], {"eval": 3.0}),
    ]
    assert merged(ranks) == pytest.approx([3.25, 3.25**0.5, 5.0])
