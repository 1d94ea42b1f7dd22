"""``LightGBMEstimator``: LightGBM's own training, spread over the workers of the runtime."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, cast

from heliostat._extras import require
from heliostat.modeling.distributors._boosting._estimator import BoostingEstimator
from heliostat.modeling.distributors._boosting._groups import group_ids
from heliostat.modeling.distributors._boosting._start import start_bytes
from heliostat.modeling.distributors.lightgbm import _worker
from heliostat.modeling.distributors.lightgbm._plan import (
    LightGBMScalingConfig,
    check_known,
    gpu_type,
    plan_training,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    import lightgbm

    from heliostat.modeling.distributors._boosting._columns import Columns
    from heliostat.modeling.distributors._boosting._spec import Spec

__all__ = ["LightGBMEstimator"]


class LightGBMEstimator(BoostingEstimator):
    """Gradient-boosted trees, trained by LightGBM on workers of the runtime.

    With one worker the trees are those that ``lightgbm.train`` makes of the same rows and
    parameters with the same number of threads; where LightGBM chooses by a stopwatch between two
    ways to build histograms, pass ``force_row_wise`` or ``force_col_wise`` to make that sure. Several
    workers each hold a part of the rows, and agree on every split over LightGBM's own network.

    Parameters
    ----------
    n_estimators:
        Rounds of boosting; ``None`` for 100.
    objective:
        Name of the objective, or a function ``(predictions, dataset) -> (gradient, hessian)``;
        ``None`` for the default.
    params:
        Parameters of LightGBM, under any of their names, and ``custom_metric`` (or ``feval``).
        ``n_estimators`` and ``objective`` in here go before the arguments.
    scaling_config:
        How many workers of what size; default is all of the runtime.
    callbacks:
        Callbacks of LightGBM; they run on every worker, and objects end with what rank 0's learned.
    checkpoint_every:
        Rounds between checkpoints, from which training goes on after a worker was lost; 0 for none.
    checkpoint_location:
        Directory, stage or URL where the latest checkpoint is written, and stays. By default it is
        a file in the stage ``@user/trees/checkpoints`` until the training is through.
    """

    _library = "LightGBM"
    _module = "lightgbm"
    _checkpoint_name = "lightgbm-checkpoint.txt"
    _scaling_class = LightGBMScalingConfig
    _reads_float64 = True

    def __init__(
        self,
        n_estimators: int | None = 100,
        objective: str | Callable[..., Any] | None = "regression",
        params: Mapping[str, Any] | None = None,
        scaling_config: LightGBMScalingConfig | None = None,
        callbacks: Sequence[Callable[..., Any]] | None = None,
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
        init_score: Any = None,
        qid: Any = None,
        group: Any = None,
        categorical_cols: Sequence[str] = (),
        sample_weight_eval_set: Sequence[Any] = (),
        eval_init_score: Sequence[Any] = (),
        eval_qid: Sequence[Any] = (),
        init_model: lightgbm.Booster | LightGBMEstimator | str | None = None,
    ) -> lightgbm.Booster:
        """Train, and return the model.

        Each worker decodes its own part of the rows into one block, and bins that.

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
            mapping of names to them.
        verbose_eval:
            Print the metrics of every round (``True``) or of every n-th.
        sample_weight, init_score, qid:
            The name of a column, or an array where the data is in memory.
        group:
            Sizes of the ranking groups, in place of ``qid``.
        categorical_cols:
            Inputs to take as categories, whatever their type.
        sample_weight_eval_set, eval_init_score, eval_qid:
            For each evaluation set an array.
        init_model:
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
        library = require("lightgbm", "lightgbm", "LightGBMEstimator")
        check_known(self._plan().params, library.basic._ConfigAliases._get_all_param_aliases())
        roles = {"weight": sample_weight, "init_score": init_score, "qid": group_ids(qid, group)}
        own = {"weight": sample_weight_eval_set, "init_score": eval_init_score, "qid": eval_qid}
        self._train(
            (dataset, input_cols, label_col),
            eval_set,
            verbose_eval,
            roles=roles,
            eval_roles=own,
            categorical=categorical_cols,
            start=start_bytes(init_model, "init_model", self._library, _to_bytes),
        )
        return self.get_booster()

    def get_booster(self) -> lightgbm.Booster:
        """Return the model; after an interrupted ``fit`` the partial one. Raises ConfigurationError."""
        return cast("lightgbm.Booster", super().get_booster())

    def _plan(self) -> Spec:
        return plan_training(self.n_estimators, self.objective, self.params)

    def _function(self) -> Callable[..., Any]:
        return _worker.train

    def _function_to_predict(self) -> Callable[..., Any]:
        return predictor

    def _has_cuda(self) -> bool:
        # LightGBM does not say how it was built; it is taken at its word when a GPU is asked for.
        asked = self.scaling_config is not None and self.scaling_config.use_gpu is True
        return asked or gpu_type(self._plan().params) is not None

    def _predicts_numbers(self) -> bool:
        return False

    def _load_model(self, model: bytes, attributes: Mapping[str, Any]) -> Any:
        library = require("lightgbm", "lightgbm", "LightGBMEstimator")
        booster = library.Booster(model_str=model.decode())
        for name, value in attributes.items():
            setattr(booster, name, value)
        return booster

    def _model_bytes(self, booster: Any) -> bytes:
        return bytes(booster.model_to_string(num_iteration=-1).encode())

    def _attributes(self, booster: Any) -> dict[str, Any]:
        return {"best_iteration": booster.best_iteration}


def predictor(
    model: bytes, attributes: Mapping[str, Any], columns: Columns, output: str, threads: int
) -> Callable[[Any], Any]:
    """Make a function that predicts blocks of rows; after early stopping with the best rounds."""
    import lightgbm

    booster = lightgbm.Booster(model_str=model.decode())
    best = attributes["best_iteration"]
    options: dict[str, Any] = {"num_iteration": best if best > 0 else -1, "raw_score": output == "margin"}
    if threads:
        options["num_threads"] = threads

    def predict(block: Any) -> Any:
        return booster.predict(block, **options)

    return predict


def _to_bytes(model: Any) -> bytes:
    """Text of a booster, of scikit-learn's form of one, or of a file."""
    if isinstance(model, bytes):
        return model
    return bytes(getattr(model, "booster_", model).model_to_string(num_iteration=-1).encode())
