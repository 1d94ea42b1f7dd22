"""What LightGBM shall train: its parameters, what is set elsewhere, what is refused by name."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from heliostat.exceptions import ConfigurationError
from heliostat.modeling.distributors._boosting._scaling import ScalingConfig
from heliostat.modeling.distributors._boosting._spec import Spec, check_objective, leave_out, merge, whole

if TYPE_CHECKING:
    from collections.abc import Mapping

SET_ELSEWHERE = {
    **dict.fromkeys(
        ("num_threads", "num_thread", "nthread", "nthreads", "n_jobs"),
        "LightGBMScalingConfig(num_cpu_per_worker=...)",
    ),
    **dict.fromkeys(
        ("num_machines", "num_machine", "machines", "workers", "nodes"),
        "LightGBMScalingConfig(num_workers=...)",
    ),
    **dict.fromkeys(
        ("num_iterations", "num_iteration", "n_iter", "num_tree", "num_trees", "num_round", "num_rounds"),
        "n_estimators",
    ),
    **dict.fromkeys(("nrounds", "num_boost_round", "max_iter"), "n_estimators"),
    **dict.fromkeys(("local_listen_port", "local_port", "port"), "no setting: a free port is found"),
    **dict.fromkeys(("machine_list_filename", "machine_list_file", "machine_list", "mlist"), "num_workers"),
    **dict.fromkeys(
        ("categorical_feature", "cat_feature", "categorical_column", "cat_column", "categorical_features"),
        "fit(categorical_cols=...)",
    ),
    "callbacks": "LightGBMEstimator(callbacks=[...])",
    "eval_set": "fit(eval_set=...)",
    "valid_sets": "fit(eval_set=...)",
    "init_model": "fit(init_model=...)",
    "init_score": "fit(init_score=...)",
    "sample_weight": "fit(sample_weight=...)",
    "group": "fit(group=...)",
    "verbose_eval": "fit(verbose_eval=...)",
}
_CLASSES = ("binary", "multiclass", "softmax", "multiclassova", "multiclass_ova", "ova", "ovr")
_GPU_TYPES = ("gpu", "cuda")
_ROW_WISE_BINS, _DEFAULT_BINS = 20_000, 255


class LightGBMScalingConfig(ScalingConfig):
    """How much of the runtime a LightGBM training takes.

    Parameters
    ----------
    num_workers:
        Processes that train together. ``-1``: one per node, or per GPU where GPUs are used.
    num_cpu_per_worker:
        CPUs, and so threads, of each. ``-1``: as many as there are for each.
    use_gpu:
        One GPU for each worker. ``None``: if ``params`` says ``device="gpu"`` or ``"cuda"``.
    """


def plan_training(n_estimators: int | None, objective: Any, params: Mapping[str, Any] | None) -> Spec:
    """Merge the arguments of the estimator; keys of ``params`` go before the arguments.

    Raises
    ------
    ConfigurationError
        A parameter is set elsewhere, is not offered, or has no usable value.
    """
    rounds, merged = merge(n_estimators, objective, params, elsewhere=SET_ELSEWHERE, default="regression")
    aliases = ("objective_type", "app", "application", "loss")
    given = next((merged.pop(name) for name in aliases if name in merged), None)
    chosen = merged["objective"] = given or merged["objective"]
    check_objective(chosen, "LightGBM", "binary")
    learner = merged.get("tree_learner", "data")
    if learner not in ("data", "data_parallel", "voting", "voting_parallel", "serial"):
        message = f"tree_learner={learner!r} is not offered by LightGBMEstimator."
        raise ConfigurationError(message, 'Workers hold different rows: use "data" or "voting".')
    options: dict[str, Any] = {
        name: merged.pop(name) for name in ("feval", "custom_metric") if name in merged
    }
    options["stopping"] = early_stopping(merged)
    if "custom_metric" in options:
        options["feval"] = options.pop("custom_metric")
    classifier = isinstance(chosen, str) and chosen in _CLASSES
    return Spec(rounds, merged, chosen, classifier, options)


def early_stopping(params: dict[str, Any]) -> dict[str, Any] | None:
    """Take early stopping out of ``params``; returns the arguments of its callback, if it is asked for.

    Raises
    ------
    ConfigurationError
        The number of rounds is not one.
    """
    names = ("early_stopping_round", "early_stopping_rounds", "early_stopping", "n_iter_no_change")
    given = next((value for value in [params.pop(n, None) for n in names] if value is not None), 0)
    first = params.pop("first_metric_only", False)
    delta = params.pop("early_stopping_min_delta", 0.0)
    rounds = whole(given)
    if rounds is None:
        message = f"early_stopping_round={given!r} is not a number of rounds."
        raise ConfigurationError(message, "Pass 1 or more, or 0 for none.")
    if rounds <= 0:
        return None
    return {"stopping_rounds": rounds, "first_metric_only": first, "min_delta": delta}


def gpu_type(params: Mapping[str, Any]) -> str | None:
    """Kind of GPU that parameters ask for; ``None`` for none."""
    found = next((params[name] for name in ("device_type", "device") if name in params), "cpu")
    return str(found) if found in _GPU_TYPES else None


def histogram_layout(params: Mapping[str, Any], columns: int) -> dict[str, Any]:
    """Choose the layout of the bins; returns the parameters that say so, none where LightGBM shall.

    LightGBM measures two layouts once each, and so takes the slower one now and then: on two
    million rows of 28 columns, column-wise at 1.25 times the time of row-wise. Histograms of all
    columns that fit the CPU's cache together are what row-wise is for.
    """
    chosen = {"force_row_wise", "force_col_wise"} & set(params)
    bins = whole(next((params[name] for name in ("max_bin", "max_bins") if name in params), _DEFAULT_BINS))
    if chosen or gpu_type(params) is not None or bins is None:
        return {}
    return {"force_row_wise": True} if columns * bins <= _ROW_WISE_BINS else {}


def check_known(params: Mapping[str, Any], aliases: Mapping[str, list[str]]) -> None:
    """Refuse what LightGBM does not know, which it would only mention in its log.

    Raises
    ------
    ConfigurationError
        A parameter is unknown.
    """
    known = {*aliases, *(alias for names in aliases.values() for alias in names)}
    unknown = [name for name in params if name not in known]
    if unknown:
        message = f"LightGBM does not know these parameters: {', '.join(map(repr, unknown))}."
        raise ConfigurationError(message, leave_out(unknown, known))
