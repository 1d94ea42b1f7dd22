"""Programs that train trees: ours, and the ways people have.

Each trains on 1,000 rows, waits for an order, trains on ``table.parquet``, tells its ``seconds``, and
stays until its input ends.
"""

from __future__ import annotations

from textwrap import indent

COLUMNS, ROUNDS = 28, 50
_XGB = {"objective": "binary:logistic", "max_depth": 6, "tree_method": "hist"}
_LGB = {"objective": "binary", "num_leaves": 63, "verbosity": -1}

_TIMED = """
told, sys.stdout = sys.stdout, sys.stderr  # they print
run("warm.parquet")
wait_for_order()
began = time.monotonic()
run("table.parquet")
sys.stdout = told
say(seconds=time.monotonic() - began)
sys.stdin.readline()
"""
"""How the others are timed, once they have said what ``run(path)`` is."""
_PANDAS = (
    """
import pandas as pd, {module}
def run(path):
    frame = pd.read_parquet(path)
    label = frame.pop("label")
    {train}
"""
    + _TIMED
)
_TRAIN = {
    "xgboost": f"xgboost.train({{**{_XGB}, 'nthread': 2}}, xgboost.DMatrix(frame, label), {ROUNDS})",
    "lightgbm": f"lightgbm.train({{**{_LGB}, 'num_threads': 2}}, lightgbm.Dataset(frame, label), {ROUNDS})",
}
_OURS = """
import heliostat
heliostat.init(cpus=2).wait()
from heliostat.data import DataConnector
from heliostat.modeling.distributors.{module} import {estimator}, {config}
columns = [f"c{{i}}" for i in range({columns})]
estimator = {estimator}({rounds}, {objective!r}, {params!r}, {config}(num_workers={workers}))
estimator.fit(DataConnector.from_sources(None, ["warm.parquet"]), columns, "label")
wait_for_order()
began = time.monotonic()
estimator.fit(DataConnector.from_sources(None, ["table.parquet"]), columns, "label")
say(seconds=time.monotonic() - began, phases=estimator.report.phases)
sys.stdin.readline()
"""
_DASK = """
import dask.dataframe, dask.distributed, {module}, warnings
warnings.simplefilter("ignore")
if __name__ == "__main__":
    cluster = dask.distributed.LocalCluster(n_workers=2, threads_per_worker=1, dashboard_address=None)
    client = dask.distributed.Client(cluster)
    client.wait_for_workers(2)
    def run(path):
        # Kept in the workers' memory: else label and inputs come in different partitions.
        frame = dask.dataframe.read_parquet(path, split_row_groups=True).persist()
        label, inputs = frame["label"], frame.drop(columns="label")
        {train}
""" + indent(_TIMED, "    ")
_DASK_TRAIN = {
    "xgboost": f"""import xgboost.dask
        xgboost.dask.train(client, {_XGB}, xgboost.dask.DaskQuantileDMatrix(client, inputs, label),
                           num_boost_round={ROUNDS})""",
    "lightgbm": f"""lightgbm.DaskLGBMClassifier(client=client, n_estimators={ROUNDS}, num_leaves=63,
            verbosity=-1).fit(inputs.to_dask_array(lengths=True), label.to_dask_array(lengths=True))""",
}
_TRAINER = (
    """
import os, ray
ray.init(num_cpus=4, include_dashboard=False, logging_level="ERROR")
import ray.data, ray.train
from ray.train import RunConfig, ScalingConfig
from ray.train.{module} import {trainer} as Trainer
def loop():
    import {module}
    frame = ray.train.get_dataset_shard("train").materialize().to_pandas()
    frame = frame.astype({{name: "float32" for name in frame.columns}})
    label = frame.pop("label")
    {train}
def run(path):
    Trainer(
        loop, datasets={{"train": ray.data.read_parquet(path)}},
        scaling_config=ScalingConfig(num_workers=2, resources_per_worker={{"CPU": 1}}),
        run_config=RunConfig(storage_path=os.path.abspath("results")),
    ).fit()
"""
    + _TIMED
)
_TRAINER_TRAIN = {
    "xgboost": f"xgboost.train({{**{_XGB}, 'nthread': 1}}, xgboost.DMatrix(frame, label), {ROUNDS})",
    "lightgbm": f"""params = {{**{_LGB}, "num_threads": 1, "tree_learner": "data", "pre_partition": True}}
    params.update(ray.train.lightgbm.get_network_params())
    lightgbm.train(params, lightgbm.Dataset(frame, label), {ROUNDS})""",
}
TINY = """
told, sys.stdout = sys.stdout, sys.stderr  # a death is told there as well
import heliostat
heliostat.init(cpus=2).wait()
import os, signal, threading
import numpy as np, xgboost
from heliostat import _progress
from heliostat.modeling.distributors.xgboost import XGBEstimator, XGBScalingConfig
generator = np.random.default_rng(0)
x = generator.normal(size=(1000, 10)).astype("float32")
y = (x[:, 0] > 0).astype(int)
def fit(rounds=10, **more):
    began = time.monotonic()
    estimator = XGBEstimator(rounds, "binary:logistic", **more)
    estimator.fit(x, y)
    return time.monotonic() - began, estimator
first = fit()[0]
second = fit()[0]
class Slow(xgboost.callback.TrainingCallback):
    def after_iteration(self, model, epoch, evals_log):
        time.sleep(0.01)
        return False
def kill():
    known = {task.snapshot.task_id for task in _progress.tasks()}
    while True:
        for task in _progress.tasks():
            now = task.snapshot
            if now.task_id not in known and now.done >= 40 and now.workers:
                os.kill(now.workers[-1].pid, signal.SIGKILL)
                return
        time.sleep(0.01)
fit(2, scaling_config=XGBScalingConfig(num_workers=2))
threading.Thread(target=kill).start()
_, estimator = fit(100, callbacks=[Slow()], scaling_config=XGBScalingConfig(num_workers=2))
sys.stdout = told
say(first=first, second=second, lost=estimator.report.restarts[0].seconds)
"""


def ours(library: str, workers: int) -> str:
    """Program of ours."""
    names = {
        "xgboost": ("XGBEstimator", "XGBScalingConfig", _XGB),
        "lightgbm": ("LightGBMEstimator", "LightGBMScalingConfig", _LGB),
    }
    estimator, config, params = names[library]
    return _OURS.format(
        module=library,
        estimator=estimator,
        config=config,
        columns=COLUMNS,
        rounds=ROUNDS,
        objective=params["objective"],
        params={name: value for name, value in params.items() if name != "objective"},
        workers=workers,
    )


def contenders(library: str) -> dict[str, str]:
    """Programs by what they are."""
    trainer = {"xgboost": "XGBoostTrainer", "lightgbm": "LightGBMTrainer"}[library]
    return {
        "pandas": _PANDAS.format(module=library, train=_TRAIN[library]),
        "one": ours(library, 1),
        "two": ours(library, 2),
        "dask": _DASK.format(module=library, train=_DASK_TRAIN[library]),
        "trainer": _TRAINER.format(module=library, trainer=trainer, train=_TRAINER_TRAIN[library]),
    }
