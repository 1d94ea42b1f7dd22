"""What both estimators do alike: shape the data, train on workers, keep the model, predict."""

from __future__ import annotations

import time
import warnings
from dataclasses import replace
from typing import TYPE_CHECKING, Any, ClassVar, Self

from heliostat import _progress
from heliostat.exceptions import ConfigurationError, TaskCancelledError
from heliostat.modeling import _workers
from heliostat.modeling._runtime import connect, honest_advice, nodes
from heliostat.modeling.distributors._boosting import _inputs, _predicting, _saving
from heliostat.modeling.distributors._boosting._callbacks import write_back
from heliostat.modeling.distributors._boosting._checkpoints import Checkpoints
from heliostat.modeling.distributors._boosting._columns import needs_float64
from heliostat.modeling.distributors._boosting._driving import Driver
from heliostat.modeling.distributors._boosting._job import Job
from heliostat.modeling.distributors._boosting._preparing import (
    Parts,
    columns_by_set,
    columns_of,
    complete,
    wanted,
)
from heliostat.modeling.distributors._boosting._report import Checkpoint, TrainingReport
from heliostat.modeling.distributors._boosting._rows import open_rows
from heliostat.modeling.distributors._boosting._scaling import ScalingConfig, plan_placement

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from heliostat.modeling.distributors._boosting._columns import Columns
    from heliostat.modeling.distributors._boosting._scaling import Placement
    from heliostat.modeling.distributors._boosting._spec import Spec

_PARAMETERS = ("n_estimators", "objective", "params", "scaling_config", "callbacks", "checkpoint_every")
_PARAMETERS_LAST = ("checkpoint_location",)


class BoostingEstimator:
    """Base of the estimators. A subclass says how its library plans, trains, loads and predicts."""

    _library: ClassVar[str]
    _module: ClassVar[str]
    _scaling_class: ClassVar[type[ScalingConfig]]
    _checkpoint_name: ClassVar[str]
    _reads_float64: ClassVar[bool] = False
    """Whether the library makes bins of float64 where there is any, and not of float32."""

    def __init__(  # noqa: PLR0917 - the order is that of the public constructors
        self,
        n_estimators: int | None,
        objective: Any,
        params: Mapping[str, Any] | None,
        scaling_config: ScalingConfig | None,
        callbacks: Sequence[Any] | None,
        checkpoint_every: int,
        checkpoint_location: str | None,
    ) -> None:
        self.n_estimators, self.objective, self.params = n_estimators, objective, params
        self.scaling_config, self.callbacks = scaling_config, callbacks
        self.checkpoint_every, self.checkpoint_location = checkpoint_every, checkpoint_location
        self._booster: Any = None
        self._columns: Columns | None = None
        self._eval_results: dict[str, dict[str, list[float]]] = {}
        self._report: TrainingReport | None = None
        self._check()

    # What a library does by itself.

    def _plan(self) -> Spec:
        raise NotImplementedError

    def _function(self) -> Callable[..., Any]:
        """Function that runs on each worker with ``(context, job)``."""
        raise NotImplementedError

    def _load_model(self, model: bytes, attributes: Mapping[str, Any]) -> Any:
        raise NotImplementedError

    def _has_cuda(self) -> bool:
        raise NotImplementedError

    def _model_bytes(self, booster: Any) -> bytes:
        raise NotImplementedError

    # What all do.

    def get_params(self, deep: bool = True) -> dict[str, Any]:
        """Arguments of the constructor, as scikit-learn wants them."""
        return {name: getattr(self, name) for name in (*_PARAMETERS, *_PARAMETERS_LAST)}

    def set_params(self, **changes: Any) -> Self:
        """Set arguments of the constructor; what ``fit`` found stays.

        Raises
        ------
        ConfigurationError
            There is no such argument, or the value cannot be used; then nothing was changed.
        """
        known = self.get_params()
        unknown = [name for name in changes if name not in known]
        if unknown:
            message = f"{type(self).__name__} has no parameter {', '.join(map(repr, unknown))}."
            raise ConfigurationError(message, f"Those of {self._library} belong into params={{...}}.")
        try:
            vars(self).update(changes)
            self._check()
        except ConfigurationError:
            vars(self).update(known)
            raise
        return self

    def __sklearn_tags__(self) -> Any:
        """What scikit-learn wants to know of an estimator."""
        from sklearn.utils import ClassifierTags, RegressorTags, Tags, TargetTags

        spec = self._plan()
        kind = "classifier" if spec.classifier else "regressor"
        tags = Tags(estimator_type=kind, target_tags=TargetTags(required=True))
        if spec.classifier:
            tags.classifier_tags = ClassifierTags()
        else:
            tags.regressor_tags = RegressorTags()
        tags.input_tags.allow_nan = True
        return tags

    def __sklearn_is_fitted__(self) -> bool:
        """Whether there is a model."""
        return self._booster is not None

    def __repr__(self) -> str:
        state = "trained" if self._booster is not None else "not trained"
        return (
            f"{type(self).__name__}(n_estimators={self.n_estimators}, objective={self.objective!r}; {state})"
        )

    def get_booster(self) -> Any:
        """Return the library's own model; after an interrupted ``fit`` the partial one.

        Raises
        ------
        ConfigurationError
            There is none yet.
        """
        if self._booster is None:
            message = f"This {type(self).__name__} has no model yet."
            raise ConfigurationError(message, "Call fit() first.")
        return self._booster

    def get_eval_results(self) -> dict[str, dict[str, list[float]]]:
        """Metrics by round: ``{"train": {metric: [...]}, "eval": {...}}``; empty before ``fit``.

        They are computed only where somebody asks for them: by an evaluation set, a metric, early
        stopping, callbacks or ``verbose_eval``. The progress has ten values all the same.
        """
        return {name: {m: list(v) for m, v in found.items()} for name, found in self._eval_results.items()}

    @property
    def classes_(self) -> Any:
        """Class labels in the order of their numbers; ``None`` where the labels were numbers."""
        classes = self._columns.classes if self._columns is not None else None
        if classes is None:
            return None
        import numpy as np

        return np.array(classes)

    @property
    def report(self) -> TrainingReport | None:
        """How the last ``fit`` went: workers, restarts, times; ``None`` before."""
        return self._report

    def predict(self, dataset: Any, *, output: str = "value") -> Any:
        """Predict, in the order of the rows.

        A connector is read and predicted by the workers, where a runtime is up; frames and
        arrays in this process.

        Parameters
        ----------
        dataset:
            Connector, DataFrame or array with the columns of the training.
        output:
            ``"value"``: what the library's booster predicts (probabilities for classes);
            ``"class"``: the label of the most probable class; ``"margin"``: before the link function.

        Raises
        ------
        ConfigurationError
            ``fit`` was not called, or ``output`` is not one of these.
        DataError
            A column that the model was trained on is missing.
        """
        booster, columns = self.get_booster(), self._columns
        assert columns is not None, "there is a model"
        return _predicting.predict(self, booster, columns, dataset, output)

    def save(self, location: str) -> None:
        """Write model and settings below a directory, stage or URL (``@models/churn``).

        Functions among the settings (objective, metrics, callbacks) are left out, with a warning.

        Raises
        ------
        ConfigurationError
            There is no model, or the location cannot be used.
        DataError
            It cannot be written.
        """
        _saving.save(self, self._model_bytes(self.get_booster()), location)

    @classmethod
    def load(cls, location: str) -> Self:
        """Read what ``save`` wrote. Raises DataError where there is none, or one of another class."""
        return _saving.load(cls, location)

    def _check(self) -> None:
        every = self.checkpoint_every
        if isinstance(every, bool) or not isinstance(every, int) or every < 0:
            message = f"checkpoint_every={every!r} is not a number of rounds."
            raise ConfigurationError(message, "Pass 1 or more, or 0 for no checkpoints.")
        if self.scaling_config is not None and not isinstance(self.scaling_config, ScalingConfig):
            message = f"scaling_config={self.scaling_config!r} is not a {self._scaling_class.__name__}."
            raise ConfigurationError(message)
        self._plan()

    def _placement(self) -> Placement:
        config = self.scaling_config or self._scaling_class()
        cuda = config.use_gpu is not False and self._has_cuda()
        with honest_advice():
            return plan_placement(config, nodes(), cuda=cuda, library=self._library)

    def _train(
        self,
        data: tuple[Any, Any, Any],
        eval_set: Any,
        verbose_eval: bool | int | None,
        *,
        roles: Mapping[str, Any],
        eval_roles: Mapping[str, Sequence[Any]],
        categorical: Sequence[str],
        start: bytes | None,
    ) -> Any:
        """Train on workers and keep what comes out; returns the model.

        ``data`` are the first three arguments of ``fit``, ``eval_roles`` arrays for each evaluation set.
        """
        spec = self._plan()
        train = _inputs.given(*data, roles)
        evaluation = _inputs.evaluation_sets(eval_set, train, _inputs.own_roles(eval_set, **eval_roles))
        wide = self._reads_float64 and needs_float64(train.connector.schema, train.inputs)
        columns = replace(columns_of(train, categorical), wide=wide)
        directory = connect()
        placement = self._placement()
        checkpoints = Checkpoints(self.checkpoint_location, self._checkpoint_name)
        begun = time.monotonic()
        layout = _workers.Layout(placement.workers, placement.cpus, placement.gpus)
        inputs = {"train": train, **evaluation}
        name = f"{type(self).__name__}.fit"
        driver: Driver | None = None
        rows = 0
        with _progress.task(self._module, name, total=spec.rounds, unit="rounds") as task:
            try:
                with (
                    _workers.lease(layout, check=task.check) as group,
                    open_rows(
                        {key: (each.connector, wanted(each)) for key, each in inputs.items()}, directory
                    ) as opened,
                ):
                    rows = opened["train"].rows
                    columns = complete(columns, train, opened["train"], spec)
                    started = time.monotonic() - begun
                    parts = Parts(opened, inputs, grouped="qid" in train.roles)

                    def jobs(count: int, checkpoint: Checkpoint | None) -> list[tuple[Any, ...]]:
                        given = parts.of(count)
                        return [
                            (
                                Job(
                                    spec=spec,
                                    parts=part,
                                    columns=columns_by_set(columns, inputs),
                                    threads=placement.cpus,
                                    gpu=bool(placement.gpus),
                                    callbacks=tuple(self.callbacks or ()),
                                    report_every=int(verbose_eval or 0),
                                    checkpoint_every=self.checkpoint_every,
                                    start=start,
                                    checkpoint=checkpoint,
                                ),
                            )
                            for part in given
                        ]

                    driver = Driver(self._function(), jobs, task, checkpoints, print)
                    trained = driver.run(group)
                # Rounds come a few times a second, so the last ones were not told yet.
                task.update(done=trained.rounds, metrics=_latest(trained.history))
            except (KeyboardInterrupt, TaskCancelledError) as stopped:
                rounds = self._keep_partial(driver, columns, placement, rows, begun)
                if rounds:
                    task.update(done=rounds)
                    stopped.add_note(f"get_booster() has the model of the first {rounds} rounds.")
                raise
        for text in trained.warnings:
            warnings.warn(text, UserWarning, stacklevel=3)
        write_back(trained.callbacks, self.callbacks or ())
        self._keep(trained.model, trained.attributes, trained.history, columns)
        outcome = driver.outcome
        self._report = TrainingReport(
            outcome.workers,
            placement.cpus,
            placement.gpus,
            rows,
            trained.rounds,
            time.monotonic() - begun,
            {"start": started, **trained.phases},
            tuple(outcome.restarts),
            checkpoint=outcome.where,
        )
        return self._booster

    def _keep(
        self,
        model: bytes,
        attributes: Mapping[str, Any],
        history: Mapping[str, Mapping[str, Sequence[float]]],
        columns: Columns,
    ) -> None:
        self._booster = self._load_model(model, attributes)
        self._columns = columns
        self._eval_results = {
            name: {metric: [float(value) for value in values] for metric, values in found.items()}
            for name, found in history.items()
        }

    def _keep_partial(
        self, driver: Driver | None, columns: Columns, placement: Placement, rows: int, begun: float
    ) -> int:
        """Keep the model of the last whole round, or of the last checkpoint; tells of how many it is."""
        if driver is None:
            return 0
        outcome = driver.outcome
        trained, checkpoint = outcome.trained, outcome.checkpoint
        if trained is not None and trained.model:
            rounds = trained.rounds
            self._keep(trained.model, trained.attributes, trained.history, columns)
        elif checkpoint is not None:
            rounds = checkpoint.rounds
            self._keep(checkpoint.model, {}, checkpoint.history, columns)
        else:
            return 0
        self._report = TrainingReport(
            outcome.workers,
            placement.cpus,
            placement.gpus,
            rows,
            rounds,
            time.monotonic() - begun,
            restarts=tuple(outcome.restarts),
            interrupted=True,
            checkpoint=outcome.where,
        )
        return rounds


def _latest(history: Mapping[str, Mapping[str, Sequence[float]]]) -> dict[str, float] | None:
    """The last value of each metric, by the names that the workers tell them by."""
    return {
        f"{name}-{metric}": float(values[-1])
        for name, found in history.items()
        for metric, values in found.items()
    } or None
