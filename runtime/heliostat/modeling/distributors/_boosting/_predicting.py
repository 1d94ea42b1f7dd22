"""Predict rows in their order: here, or on workers that each read their own part."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from heliostat.data.data_connector import DataConnector
from heliostat.exceptions import ConfigurationError, TaskCancelledError
from heliostat.modeling import _workers
from heliostat.modeling._runtime import connect, connected
from heliostat.modeling.distributors._boosting import _columns, _inputs
from heliostat.modeling.distributors._boosting._rows import open_rows

if TYPE_CHECKING:
    from heliostat.modeling._workers import WorkerContext
    from heliostat.modeling.distributors._boosting._columns import Columns

OUTPUTS = ("value", "class", "margin")


def predict(estimator: Any, booster: Any, columns: Columns, dataset: Any, output: str) -> Any:
    """Predict for an estimator; see its ``predict``."""
    if output not in OUTPUTS:
        message = f"output={output!r} is not known."
        raise ConfigurationError(message, f"Use one of {', '.join(OUTPUTS)}.")
    bare = replace(columns, roles={})
    connector = _inputs.features(dataset, columns.inputs, named=columns.named)
    how = (estimator._function_to_predict(), estimator._model_bytes(booster), estimator._attributes(booster))
    if isinstance(dataset, DataConnector) and connected():
        values = _on_workers(estimator, how, bare, connector, output)
    else:
        values = _here(how, bare, connector, output)
    return _classes(values, columns, estimator) if output == "class" else values


def _here(how: Any, columns: Columns, connector: DataConnector, output: str) -> Any:
    import numpy as np

    function, model, attributes = how
    predictor = function(model, attributes, columns, output, 0)
    parts = [
        predictor(_block(batch, columns)) for batch in connector.to_reader(columns.inputs) if batch.num_rows
    ]
    return np.concatenate(parts) if parts else np.empty(0, dtype=np.float32)


def _on_workers(estimator: Any, how: Any, columns: Columns, connector: DataConnector, output: str) -> Any:
    import numpy as np

    directory = connect()
    placement = estimator._placement()
    layout = _workers.Layout(placement.workers, placement.cpus)
    with open_rows({"data": (connector, columns.inputs)}, directory) as opened:
        rows = opened["data"]
        if not rows.rows:
            return np.empty(0, dtype=np.float32)
        with _workers.lease(layout, purpose="Prediction") as group:
            parts = rows.split(len(group.workers))
            arguments = [(how, columns, part, output, placement.cpus) for part in parts]
            run = group.start(predict_part, arguments)
            try:
                found = run.results()
            except _workers.RunFailedError as failed:
                raise _workers.training_error(failed.cause) from failed.cause.error
    return np.concatenate([values for values in found if len(values)])


def predict_part(context: WorkerContext, how: Any, columns: Columns, part: Any, *rest: Any) -> Any:
    """Worker: predict a part, its pieces side by side, each decoded and predicted by one thread."""
    import numpy as np

    (function, model, attributes), (output, threads) = how, rest
    predictor = function(model, attributes, columns, output, 1)

    def piece(small: Any) -> Any:
        if context.stopping:
            message = "The prediction was stopped."
            raise TaskCancelledError(message)
        return [predictor(_block(table, columns)) for table in small.tables(columns.inputs) if table.num_rows]

    with ThreadPoolExecutor(threads) as pool:
        found = [values for each in pool.map(piece, part.pieces()) for values in each]
    return np.concatenate(found) if found else np.empty(0, dtype=np.float32)


def _block(rows: Any, columns: Columns) -> Any:
    """Turn an Arrow table or batch into what the library predicts on."""
    import numpy as np

    kind = np.float64 if columns.wide else np.float32
    block = np.empty((rows.num_rows, len(columns.inputs)), dtype=kind)
    arrays = [_columns.input_of(rows.column(name), name, columns) for name in columns.inputs]
    np.stack(arrays, axis=1, out=block)
    return _columns.as_frame(block, columns) if columns.categories else block


def _classes(values: Any, columns: Columns, estimator: Any) -> Any:
    import numpy as np

    if not estimator._plan().classifier:
        message = f"The objective {estimator.objective!r} predicts no classes."
        raise ConfigurationError(message, 'Use output="value".')
    numbers = values.argmax(axis=1) if values.ndim == 2 else values
    if values.ndim == 1:
        softmax = estimator._predicts_numbers()
        numbers = values.astype(np.int64) if softmax else (values > 0.5).astype(np.int64)
    return numbers if columns.classes is None else np.array(columns.classes)[numbers]
