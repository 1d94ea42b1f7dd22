"""``XGBEstimator``: XGBoost's own training, spread over the workers of the runtime."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, cast

from heliostat.modeling.distributors._boosting._estimator import BoostingEstimator
from heliostat.modeling.distributors._boosting._groups import group_ids
from heliostat.modeling.distributors._boosting._start import start_bytes
from heliostat.modeling.distributors.xgboost import _worker
from heliostat.modeling.distributors.xgboost._library import library
from heliostat.modeling.distributors.xgboost._plan import XGBScalingConfig, plan_training

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    import xgboost

    from heliostat.modeling.distributors._boosting._columns import Columns
    from heliostat.modeling.distributors._boosting._spec import Spec

__all__ = ["XGBEstimator"]


class XGBEstimator(BoostingEstimator):
    """Gradient-boosted trees, trained by XGBoost on workers of the runtime.

    With one worker the model is, bit for bit, the one that ``xgboost.train`` makes of the same
    rows and parameters with the same number of threads. Several workers each hold a part of the
    rows, and agree on every split by exchanging histograms.

    Parameters
    ----------
    n_estimators:
        Rounds of boosting; ``None`` for 100.
    objective:
        Name of the objective, or a function ``(predictions, matrix) -> (gradient, hessian)``;
        ``None`` for the default.
    params:
        Parameters of XGBoost, and of ``xgboost.train``: ``early_stopping_rounds``,
        ``custom_metric``, ``maximize``, ``missing``, ``feature_weights``. ``n_estimators`` and
        ``objective`` in here go before the arguments.
    scaling_config:
        How many workers of what size; default is all of the runtime.
    callbacks:
        Callbacks of XGBoost; they run on every worker, and end with what those of rank 0 learned.
    checkpoint_every:
        Rounds between checkpoints, from which training goes on after a worker was lost; 0 for none.
    checkpoint_location:
        Directory, stage or URL where the latest checkpoint is written, and stays. By default it is
        a file in the stage ``@user/trees/checkpoints`` until the training is through.
    """

    _library = "XGBoost"
    _module = "xgboost"
    _checkpoint_name = "xgboost-checkpoint.ubj"
    _scaling_class = XGBScalingConfig

    def __init__(
        self,
        n_estimators: int | None = 100,
        objective: str | Callable[..., Any] | None = "reg:squarederror",
        params: Mapping[str, Any] | None = None,
        scaling_config: XGBScalingConfig | None = None,
        callbacks: Sequence[xgboost.callback.TrainingCallback] | None = None,
        *,
        checkpoint_every: int = 10,
        checkpoint_location: str | None = None,
    ) -> None:
        super().__init__(
            n_estimators, objective, params, scaling_config, callbacks, checkpoint_every, checkpoint_location
        )

    def fit(
        self,
        dataset: Any,
        input_cols: Any = None,
        label_col: str | None = None,
        eval_set: Any = None,
        verbose_eval: bool | int | None = None,
        *,
        sample_weight: Any = None,
        base_margin: Any = None,
        qid: Any = None,
        group: Any = None,
        label_lower_bound: Any = None,
        label_upper_bound: Any = None,
        categorical_cols: Sequence[str] = (),
        sample_weight_eval_set: Sequence[Any] = (),
        base_margin_eval_set: Sequence[Any] = (),
        eval_qid: Sequence[Any] = (),
        xgb_model: xgboost.Booster | XGBEstimator | str | None = None,
    ) -> xgboost.Booster:
        """Train, and return the model.

        Each worker decodes its own part of the rows straight into a quantised matrix.

        Parameters
        ----------
        dataset:
            Rows to train on: a connector, any DataFrame that a connector takes, ``(X, y)``, or ``X``
            with ``y`` as the second argument.
        input_cols, label_col:
            Names of the columns to learn from and to predict. Inputs are numbers (null means
            missing) or categories; a label may be a text where classes are predicted.
        eval_set:
            Rows that each round's metrics are also computed on: one data set, a list of them, or a
            mapping of names to them. Early stopping looks at the last.
        verbose_eval:
            Print the metrics of every round (``True``) or of every n-th.
        sample_weight, base_margin, qid, label_lower_bound, label_upper_bound:
            The name of a column, or an array where the data is in memory.
        group:
            Sizes of the ranking groups, in place of ``qid``.
        categorical_cols:
            Inputs to take as categories, whatever their type.
        sample_weight_eval_set, base_margin_eval_set, eval_qid:
            For each evaluation set an array.
        xgb_model:
            Model to go on from: a booster, an estimator, or the path, stage or URL of a file.

        Raises
        ------
        ConfigurationError
            The runtime is too small for the workers that were asked for, or an argument cannot be used.
        DataError
            A column is missing or is not of numbers, or there are fewer rows than workers.
        TrainingError
            A worker failed; ``rank`` says which.
        KeyboardInterrupt, TaskCancelledError
            It was stopped. The workers are gone; ``get_booster`` has the partial model, if at least one
            round was done.
        """
        library()
        roles = {
            "weight": sample_weight,
            "base_margin": base_margin,
            "qid": group_ids(qid, group),
            "label_lower_bound": label_lower_bound,
            "label_upper_bound": label_upper_bound,
        }
        own = {
            "weight": sample_weight_eval_set,
            "base_margin": base_margin_eval_set,
            "qid": eval_qid,
        }
        self._train(
            (dataset, input_cols, label_col),
            eval_set,
            verbose_eval,
            roles=roles,
            eval_roles=own,
            categorical=categorical_cols,
            start=start_bytes(xgb_model, "xgb_model", self._library, _to_bytes),
        )
        return self.get_booster()

    def get_booster(self) -> xgboost.Booster:
        """Return the model; after an interrupted ``fit`` the partial one. Raises ConfigurationError."""
        return cast("xgboost.Booster", super().get_booster())

    def _plan(self) -> Spec:
        return plan_training(self.n_estimators, self.objective, self.params)

    def _function(self) -> Callable[..., Any]:
        return _worker.train

    def _function_to_predict(self) -> Callable[..., Any]:
        return predictor

    def _has_cuda(self) -> bool:
        return bool(library().build_info()["USE_CUDA"])

    def _predicts_numbers(self) -> bool:
        return self._plan().objective in ("multi:softmax", "binary:hinge")

    def _load_model(self, model: bytes, attributes: Mapping[str, Any]) -> Any:
        return library().Booster(model_file=bytearray(model))

    def _model_bytes(self, booster: Any) -> bytes:
        return bytes(booster.save_raw("ubj"))

    def _attributes(self, booster: Any) -> dict[str, Any]:
        stopped = booster.attr("best_iteration")
        rounds = (0, int(stopped) + 1) if stopped is not None else (0, 0)
        return {"rounds": rounds, "missing": self._plan().options.get("missing", float("nan"))}


def predictor(
    model: bytes, attributes: Mapping[str, Any], columns: Columns, output: str, threads: int
) -> Callable[[Any], Any]:
    """Make a function that predicts blocks of rows; after early stopping with the best rounds."""
    xgboost = library()
    booster = xgboost.Booster(model_file=bytearray(model))
    booster.set_param({"device": "cpu", **({"nthread": threads} if threads else {})})
    rounds, missing, margin = attributes["rounds"], attributes["missing"], output == "margin"

    def predict(block: Any) -> Any:
        if columns.categories:
            matrix = xgboost.DMatrix(
                block,
                missing=missing,
                enable_categorical=True,
                feature_types=list(columns.kinds),
                nthread=threads or None,
            )
            return booster.predict(matrix, output_margin=margin, iteration_range=rounds)
        kind = "margin" if margin else "value"
        return booster.inplace_predict(
            block, iteration_range=rounds, predict_type=kind, missing=missing, validate_features=False
        )

    return predict


def _to_bytes(model: Any) -> bytes:
    """Bytes of a booster, of scikit-learn's form of one, or of a file in any of XGBoost's formats."""
    if isinstance(model, bytes):
        model = library().Booster(model_file=bytearray(model))
    if hasattr(model, "get_booster"):
        model = model.get_booster()
    return bytes(model.save_raw("ubj"))
