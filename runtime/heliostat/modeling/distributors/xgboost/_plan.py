"""What XGBoost shall train: its parameters, what is set elsewhere, what is refused by name."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from heliostat.exceptions import ConfigurationError
from heliostat.modeling.distributors._boosting._scaling import ScalingConfig
from heliostat.modeling.distributors._boosting._spec import Spec, at_least_one, check_objective, merge

if TYPE_CHECKING:
    from collections.abc import Mapping

SET_ELSEWHERE = {
    "nthread": "XGBScalingConfig(num_cpu_per_worker=...)",
    "n_jobs": "XGBScalingConfig(num_cpu_per_worker=...)",
    "device": "XGBScalingConfig(use_gpu=...)",
    "gpu_id": "XGBScalingConfig(use_gpu=...)",
    "num_boost_round": "n_estimators",
    "callbacks": "XGBEstimator(callbacks=[...])",
    "evals": "fit(eval_set=...)",
    "eval_set": "fit(eval_set=...)",
    "verbose_eval": "fit(verbose_eval=...)",
    "xgb_model": "fit(xgb_model=...)",
    "sample_weight": "fit(sample_weight=...)",
    "base_margin": "fit(base_margin=...)",
    "group": "fit(group=...)",
    "qid": "fit(qid=...)",
    "feval": "params={'custom_metric': ...}",
}
OPTIONS = ("custom_metric", "early_stopping_rounds", "maximize", "missing", "feature_weights")
"""Keys of ``params`` that ``xgboost.train`` and its matrix take beside the parameters."""


class XGBScalingConfig(ScalingConfig):
    """How much of the runtime an XGBoost training takes.

    Parameters
    ----------
    num_workers:
        Processes that train together. ``-1``: one per node, or per GPU where GPUs are used.
    num_cpu_per_worker:
        CPUs, and so threads, of each. ``-1``: as many as there are for each.
    use_gpu:
        One GPU for each worker. ``None``: if there are enough and this XGBoost can use them.
    """


def plan_training(n_estimators: int | None, objective: Any, params: Mapping[str, Any] | None) -> Spec:
    """Merge the arguments of the estimator; keys of ``params`` go before the arguments.

    Raises
    ------
    ConfigurationError
        A parameter is set elsewhere, is not offered, or has no usable value.
    """
    rounds, merged = merge(
        n_estimators, objective, params, elsewhere=SET_ELSEWHERE, default="reg:squarederror"
    )
    options = {name: merged.pop(name) for name in OPTIONS if name in merged}
    # Categories are always taken as such, so what the library asks for is given.
    merged.pop("enable_categorical", None)
    chosen = merged.pop("obj", None) or merged["objective"]
    check_objective(chosen, "XGBoost", "binary:logistic")
    if callable(merged.get("eval_metric")):
        message = "params['eval_metric'] is a function."
        raise ConfigurationError(message, "Pass it as params['custom_metric'].")
    _refuse_methods(merged)
    if options.get("early_stopping_rounds") is not None:
        options["early_stopping_rounds"] = at_least_one(
            "early_stopping_rounds", options["early_stopping_rounds"]
        )
    if "max_bin" in merged:
        # The matrix takes a number only, the booster any text.
        merged["max_bin"] = _bins(merged["max_bin"])
    merged["objective"] = chosen
    if callable(chosen):
        del merged["objective"]
        options["obj"] = chosen
    classifier = isinstance(chosen, str) and chosen.startswith(("binary:", "multi:"))
    return Spec(rounds, {**merged, "tree_method": "hist"}, chosen, classifier, options)


def _refuse_methods(params: Mapping[str, Any]) -> None:
    if params.get("tree_method", "hist") not in ("hist", "auto"):
        message = f"tree_method={params['tree_method']!r} is not offered by XGBEstimator."
        raise ConfigurationError(message, 'Workers train on histograms: leave it out or pass "hist".')
    if params.get("booster", "gbtree") == "gblinear":
        message = "booster='gblinear' is not offered by XGBEstimator."
        raise ConfigurationError(message, "Workers train trees: use gbtree or dart, or xgboost.train.")
    if params.get("process_type", "default") != "default":
        message = f"process_type={params['process_type']!r} is not offered by XGBEstimator."
        raise ConfigurationError(message, "Refresh or prune trees with xgboost.train.")


def _bins(value: Any) -> int:
    try:
        return int(str(value))
    except ValueError:
        message = f"max_bin={value!r} is not a number of bins."
        raise ConfigurationError(message, "Pass 2 or more.") from None
