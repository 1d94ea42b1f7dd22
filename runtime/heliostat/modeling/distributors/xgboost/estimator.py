"""``XGBEstimator``: XGBoost's own training, spread over the workers of the runtime."""

from __future__ import annotations

import sys
import warnings
from typing import TYPE_CHECKING, Any

from heliostat._extras import require
from heliostat.data._spill import shards, spilled
from heliostat.data.data_connector import DataConnector
from heliostat.exceptions import ConfigurationError, DataError
from heliostat.modeling.distributors.xgboost._group import WorkerGroup, nodes
from heliostat.modeling.distributors.xgboost._plan import XGBScalingConfig, plan_placement, plan_training
from heliostat.modeling.distributors.xgboost._worker import Columns, Job, to_float32

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    import numpy as np
    import numpy.typing as npt
    import pandas as pd
    import pyarrow as pa
    import xgboost

    from heliostat.data._spill import SpilledRows
    from heliostat.modeling.distributors.xgboost._plan import Placement

__all__ = ["XGBEstimator"]


class XGBEstimator:
    """Gradient-boosted trees, trained by XGBoost on workers of the runtime.

    With one worker the model is, bit for bit, the one that ``xgboost.train`` makes of the same
    rows and parameters with the same number of threads. Several workers each hold a part of the
    rows, and agree on every split by exchanging histograms.

    Parameters
    ----------
    n_estimators:
        Rounds of boosting.
    objective:
        Name of the objective.
    params:
        Parameters of XGBoost; ``n_estimators`` and ``objective`` in here go before the arguments.
    scaling_config:
        How many workers of what size; default is all of the runtime.
    """

    def __init__(
        self,
        n_estimators: int | None = 100,
        objective: str | None = "reg:squarederror",
        params: Mapping[str, Any] | None = None,
        scaling_config: XGBScalingConfig | None = None,
    ) -> None:
        self._spec = plan_training(n_estimators, objective, params)
        self._scaling = scaling_config or XGBScalingConfig()
        self._booster: xgboost.Booster | None = None
        self._input_cols: list[str] = []
        self._eval_results: dict[str, dict[str, list[float]]] = {}

    def fit(
        self,
        dataset: DataConnector | pd.DataFrame,
        input_cols: Sequence[str] | None = None,
        label_col: str | None = None,
        eval_set: DataConnector | pd.DataFrame | None = None,
        verbose_eval: bool | int | None = None,
    ) -> xgboost.Booster:
        """Train, and return the model.

        The rows are streamed once to a private directory; each worker decodes its own part.

        Parameters
        ----------
        dataset:
            Rows to train on.
        input_cols, label_col:
            Names of the columns to learn from (numbers; null means missing) and to predict.
        eval_set:
            Rows that each round's metrics are also computed on.
        verbose_eval:
            Print the metrics of every round (``True``) or of every n-th.

        Raises
        ------
        ConfigurationError
            The runtime is too small for the workers that were asked for.
        DataError
            A column is missing or is not of numbers, or there are fewer rows than workers.
        TrainingError
            A worker failed; ``rank`` says which.
        """
        library = require("xgboost", "xgboost", "XGBEstimator")
        inputs = [("train", _connector(dataset))]
        if eval_set is not None:
            inputs.append(("eval", _connector(eval_set)))
        columns, *_ = [_columns(connector.schema, input_cols, label_col) for _, connector in inputs]
        directory = _connect()
        placement = plan_placement(self._scaling, nodes(), cuda=bool(library.build_info()["USE_CUDA"]))
        names = [*columns.inputs, columns.label]
        with (
            WorkerGroup(placement) as group,
            spilled([(n, c, names) for n, c in inputs], directory) as written,
        ):
            result = group.train(
                self._jobs(placement, columns, written, int(verbose_eval or 0)), report=print
            )
        for text in result.warnings:
            warnings.warn(text, UserWarning, stacklevel=2)
        booster: xgboost.Booster = library.Booster(model_file=bytearray(result.model))
        self._booster, self._input_cols = booster, list(columns.inputs)
        self._eval_results = {name: dict(metrics) for name, metrics in result.history.items()}
        return booster

    def _jobs(
        self, placement: Placement, columns: Columns, written: Mapping[str, SpilledRows], report_every: int
    ) -> list[Job]:
        for name, rows in written.items():
            if rows.rows < placement.workers:
                message = f"There are fewer {name} rows ({rows.rows}) than workers ({placement.workers})."
                raise DataError(message, "Ask for fewer workers in XGBScalingConfig.")
        parts = {name: shards(rows, placement.workers) for name, rows in written.items()}
        device = "cuda" if placement.gpus else "cpu"
        params = {**self._spec.params, "nthread": placement.cpus, "device": device}
        return [
            Job(
                rank=rank,
                train=parts["train"][rank],
                evaluate=parts["eval"][rank] if "eval" in parts else None,
                columns=columns,
                params=params,
                rounds=self._spec.rounds,
                report_every=report_every,
            )
            for rank in range(placement.workers)
        ]

    def get_booster(self) -> xgboost.Booster:
        """Return the model. Raises ConfigurationError before ``fit``."""
        if self._booster is None:
            message = "This XGBEstimator has no model yet."
            raise ConfigurationError(message, "Call fit() first.")
        return self._booster

    def get_eval_results(self) -> dict[str, dict[str, list[float]]]:
        """Metrics by round: ``{"train": {metric: [...]}, "eval": {...}}``; empty before ``fit``.

        Metrics are of all rows. Those that need all rows in one place are the exception: of several
        workers' ``auc`` and ``aucpr`` XGBoost takes the mean.
        """
        return {
            name: {m: list(v) for m, v in metrics.items()} for name, metrics in self._eval_results.items()
        }

    def predict(self, dataset: DataConnector | pd.DataFrame) -> npt.NDArray[np.float32]:
        """Predict in this process, a batch of rows at a time, in the order of the rows.

        Raises
        ------
        ConfigurationError
            ``fit`` was not called.
        DataError
            A column that the model was trained on is missing.
        """
        import numpy as np

        booster = self.get_booster()
        connector = _connector(dataset)
        _require_columns(connector.schema, self._input_cols)
        parts = [
            booster.inplace_predict(np.stack([to_float32(column) for column in batch.columns], axis=1))
            for batch in connector.to_reader(self._input_cols)
            if batch.num_rows
        ]
        return np.concatenate(parts) if parts else np.empty(0, dtype=np.float32)


def _connector(data: Any) -> DataConnector:
    return data if isinstance(data, DataConnector) else DataConnector.from_dataframe(data)


def _connect() -> str | None:
    """Make sure that Ray is connected; returns the runtime's own directory, if it is a local one."""
    from heliostat import _handle
    from heliostat._messages import Provider

    ray = sys.modules.get("ray")
    if _handle.current() is None and ray is not None and ray.is_initialized():
        # The caller's own cluster; a second one beside it would only take its CPUs.
        return None
    status = _handle.init().wait()
    return status.session_dir if status.provider is Provider.LOCAL else None


def _columns(schema: pa.Schema, input_cols: Sequence[str] | None, label_col: str | None) -> Columns:
    if not input_cols or isinstance(input_cols, str) or not label_col:
        message = "fit() needs the names of the columns to learn from and of the one to predict."
        raise ConfigurationError(message, 'Pass input_cols=["a", "b"] and label_col="y".')
    if label_col in input_cols:
        message = f"The label {label_col!r} is among the input columns: the model would read the answer."
        raise ConfigurationError(message, "Take it out of input_cols.")
    _require_columns(schema, [*input_cols, label_col])
    _kind(schema, label_col)
    return Columns(list(input_cols), [_kind(schema, name) for name in input_cols], label_col)


def _require_columns(schema: pa.Schema, names: Sequence[str]) -> None:
    missing = [name for name in names if name not in schema.names]
    if missing:
        message = f"The data has no column {', '.join(map(repr, missing))}."
        shown = ", ".join(schema.names[:10]) + (", ..." if len(schema.names) > 10 else "")
        raise DataError(message, f"Columns: {shown}.", missing=missing)


def _kind(schema: pa.Schema, name: str) -> str:
    """XGBoost's name for the type of a column, as it gives it to a pandas column of that type."""
    import pyarrow as pa

    found = schema.field(name).type
    if pa.types.is_boolean(found):
        return "i"
    if pa.types.is_integer(found):
        return "int"
    if pa.types.is_floating(found) or pa.types.is_decimal(found):
        return "float"
    message = f"The column {name!r} is of type {found}, not of numbers."
    raise DataError(message, "Encode it as numbers, or leave it out.", column=name)
