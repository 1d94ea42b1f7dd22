"""From Parquet to a trained model with XGBoost and LightGBM, against the ways people have.

The table has 28 columns of float32 and a label of two classes. The peers, at two threads in all as
we: ``pandas.read_parquet`` and the library's own ``train``; dask and Ray Train with two workers of
one thread each. Each runs in a process of its own. The clock starts when the runtime or cluster is
up and a training on 1,000 rows is through, for all of them, so that imports are done and processes
are there where somebody keeps them. dask and Ray Train get fewer rows, since they take minutes for
all; ours at that size stands beside them.

Times and memory are of different runs. Memory is the highest PSS of the processes that read and
train, sampled ten times a second; Ray's own processes and idle workers are left out, the driver is
not.

``HELIOSTAT_BENCH_ROWS`` and ``HELIOSTAT_BENCH_PEER_ROWS`` are the sizes of the tables,
``HELIOSTAT_BENCH_LIBRARIES`` (``xgboost,lightgbm``), ``HELIOSTAT_BENCH_PEERS`` (``dask,trainer``) and
``HELIOSTAT_BENCH_PARTS`` (``pandas,peers,small``) choose what is measured.
"""

from __future__ import annotations

import os
import threading
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from _measure import Figure, Report, main, progress
from _processes import Child, own_home, pss_megabytes

from heliostat._supervisor.processes import Identity

if TYPE_CHECKING:
    from collections.abc import Sequence

_ROWS, _PEER_ROWS, _QUICK_ROWS, _WARM_ROWS = 2_500_000, 500_000, 100_000, 1_000
_COLUMNS, _ROUNDS = 28, 50
_XGB = {"objective": "binary:logistic", "max_depth": 6, "tree_method": "hist"}
_LGB = {"objective": "binary", "num_leaves": 63, "verbosity": -1}

_PANDAS = """
import pandas as pd, {library}
def run(path):
    began = time.monotonic()
    frame = pd.read_parquet(path)
    label = frame.pop("label")
    {train}
    return time.monotonic() - began
run("warm.parquet")
wait_for_order()
say(seconds=run("table.parquet"))
sys.stdin.readline()
"""
_TRAIN = {
    "xgboost": f"xgboost.train({{**{_XGB}, 'nthread': 2}}, xgboost.DMatrix(frame, label), {_ROUNDS})",
    "lightgbm": f"lightgbm.train({{**{_LGB}, 'num_threads': 2}}, lightgbm.Dataset(frame, label), {_ROUNDS})",
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
    told, sys.stdout = sys.stdout, sys.stderr  # it prints
    def run(path):
        # Kept in the workers' memory: else label and inputs come in different partitions.
        frame = dask.dataframe.read_parquet(path, split_row_groups=True).persist()
        label, inputs = frame["label"], frame.drop(columns="label")
        {train}
    run("warm.parquet")
    wait_for_order()
    began = time.monotonic()
    run("table.parquet")
    sys.stdout = told
    say(seconds=time.monotonic() - began)
    sys.stdin.readline()
"""
_DASK_TRAIN = {
    "xgboost": f"""import xgboost.dask
        xgboost.dask.train(client, {_XGB}, xgboost.dask.DaskQuantileDMatrix(client, inputs, label),
                           num_boost_round={_ROUNDS})""",
    "lightgbm": f"""lightgbm.DaskLGBMClassifier(client=client, n_estimators={_ROUNDS}, num_leaves=63,
            verbosity=-1).fit(inputs.to_dask_array(lengths=True), label.to_dask_array(lengths=True))""",
}
_TRAINER = """
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
told, sys.stdout = sys.stdout, sys.stderr  # it prints
run("warm.parquet")
wait_for_order()
began = time.monotonic()
run("table.parquet")
sys.stdout = told
say(seconds=time.monotonic() - began)
sys.stdin.readline()
"""
_TRAINER_TRAIN = {
    "xgboost": f"xgboost.train({{**{_XGB}, 'nthread': 1}}, xgboost.DMatrix(frame, label), {_ROUNDS})",
    "lightgbm": f"""params = {{**{_LGB}, "num_threads": 1, "tree_learner": "data", "pre_partition": True}}
    params.update(ray.train.lightgbm.get_network_params())
    lightgbm.train(params, lightgbm.Dataset(frame, label), {_ROUNDS})""",
}
_TINY = """
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


def write_table(rows: int, path: Path) -> None:
    """Write the table: a product of two features and a few sums decide on the label."""
    import numpy as np
    import pyarrow as pa
    import pyarrow.parquet as pq

    generator = np.random.default_rng(0)
    with pq.ParquetWriter(
        path,
        pa.schema([*((f"c{i}", pa.float32()) for i in range(_COLUMNS)), ("label", pa.int8())]),
        compression="zstd",
    ) as writer:
        for start in range(0, rows, 125_000):
            count = min(125_000, rows - start)
            x = generator.normal(size=(_COLUMNS, count)).astype(np.float32)
            score = x[0] * x[1] + x[2] + 0.5 * x[3] * x[4] + generator.normal(size=count)
            columns = [*(pa.array(column) for column in x), pa.array((score > 0).astype(np.int8))]
            writer.write_table(pa.Table.from_arrays(columns, schema=writer.schema), row_group_size=count)


class _Peak(threading.Thread):
    """Highest memory of a child and of those below it that read and train."""

    def __init__(self, child: Child) -> None:
        super().__init__(daemon=True)
        self._child, self._stop_now, self.megabytes = child, threading.Event(), 0.0

    def run(self) -> None:
        own = Identity.of(self._child.process.pid)
        while not self._stop_now.wait(0.1):
            working = [process for process in self._child.below() if _works(process.pid)]
            if own is not None:
                self.megabytes = max(self.megabytes, pss_megabytes([own, *working]))

    def stop(self) -> float:
        """Return the peak."""
        self._stop_now.set()
        self.join()
        return self.megabytes


def _works(pid: int) -> bool:
    try:
        command = Path(f"/proc/{pid}/cmdline").read_bytes()
    except OSError:
        return False
    return b"WorkerProcess." in command or b"multiprocessing" in command


def once(program: str, home: Path, *, memory: bool = False) -> dict[str, Any]:
    """Run a program once; returns what it told, with ``megabytes``, its peak, if ``memory``."""
    with Child(program, home) as child:
        peak = _Peak(child) if memory else None
        child.order()
        if peak is not None:
            peak.start()
        facts = child.hear(900.0)
        return facts if peak is None else {**facts, "megabytes": peak.stop()}


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
        columns=_COLUMNS,
        rounds=_ROUNDS,
        objective=params["objective"],
        params={name: value for name, value in params.items() if name != "objective"},
        workers=workers,
    )


def contenders(library: str) -> dict[str, str]:
    """Programs by what they are."""
    trainer = {"xgboost": "XGBoostTrainer", "lightgbm": "LightGBMTrainer"}[library]
    return {
        "pandas": _PANDAS.format(library=library, train=_TRAIN[library]),
        "one": ours(library, 1),
        "two": ours(library, 2),
        "dask": _DASK.format(module=library, train=_DASK_TRAIN[library]),
        "trainer": _TRAINER.format(module=library, trainer=trainer, train=_TRAINER_TRAIN[library]),
    }


@dataclass(frozen=True)
class Plan:
    """What is measured."""

    rows: int = _ROWS
    peer_rows: int = _PEER_ROWS
    libraries: Sequence[str] = ("xgboost", "lightgbm")
    peers: Sequence[str] = ("dask", "trainer")
    parts: Sequence[str] = ("pandas", "peers", "small")


def in_turn(library: str, names: Sequence[str], runs: int, home: Path) -> dict[str, tuple[float, ...]]:
    """Time programs in turn; returns the seconds of each."""
    programs = contenders(library)
    found: dict[str, list[float]] = {name: [] for name in names}
    for run in range(runs):
        for name in names:
            facts = once(programs[name], home)
            found[name].append(facts["seconds"])
            progress(f"{library} run {run + 1} {name}: {facts['seconds']:.2f} s {facts.get('phases', '')}")
    return {name: tuple(values) for name, values in found.items()}


def against_pandas(library: str, plan: Plan, runs: int, home: Path) -> list[Figure]:
    """One and two workers against the library by hand: time, and peak memory in one more run."""
    write_table(plan.rows, home / "table.parquet")
    seconds = in_turn(library, ("pandas", "one", "two"), runs, home)
    memory = {
        name: (once(program, home, memory=True)["megabytes"],)
        for name, program in contenders(library).items()
        if name in ("pandas", "one", "two")
    }
    one, two = {"xgboost": (0.95, 1.1), "lightgbm": (0.3, 0.35)}[library]
    least = 0.45 if library == "xgboost" else None
    peer, what = seconds["pandas"], f"{library}, {plan.rows:,} rows, against pandas:"
    return [
        Figure(f"{what} 1 worker", "s", seconds["one"], one, peer),
        Figure(f"{what} 2 workers", "s", seconds["two"], two, peer),
        Figure(f"{what} 1 worker, peak memory", "MB", memory["one"], least, memory["pandas"]),
        Figure(f"{what} 2 workers, peak memory", "MB", memory["two"], None, memory["pandas"]),
    ]


def against_peers(library: str, plan: Plan, runs: int, home: Path) -> list[Figure]:
    """Two workers against two workers of others."""
    write_table(plan.peer_rows, home / "table.parquet")
    seconds = in_turn(library, ("two", *plan.peers), runs, home)
    names = {"dask": "dask", "trainer": "Ray Train"}
    return [
        Figure(
            f"{library}, {plan.peer_rows:,} rows, 2 workers, against {names[peer]}",
            "s",
            seconds["two"],
            0.333,
            seconds[peer],
        )
        for peer in plan.peers
    ]


def small(runs: int, home: Path) -> list[Figure]:
    """Measure the overhead of a small fit, and the time that a killed worker costs."""
    found = []
    for run in range(runs):
        with Child(_TINY, home) as child:
            found.append(child.hear())
        progress(f"small fits, run {run + 1}: {found[-1]}")
    return [
        Figure("1,000 rows, 10 rounds: first fit", "s", tuple(each["first"] for each in found), 1.5),
        Figure("1,000 rows, 10 rounds: second fit", "s", tuple(each["second"] for each in found), 0.3),
        Figure("a worker killed: to the next new round", "s", tuple(each["lost"] for each in found), 5.0),
    ]


def measure(runs: int, plan: Plan) -> Report:
    """Measure what is planned."""
    figures = []
    with own_home() as home:
        write_table(_WARM_ROWS, home / "warm.parquet")
        for library in plan.libraries:
            if "pandas" in plan.parts:
                figures += against_pandas(library, plan, runs, home)
            if "peers" in plan.parts and plan.peers:
                figures += against_peers(library, plan, runs, home)
        if "small" in plan.parts:
            figures += small(runs, home)
    return Report("", tuple(figures))


def chosen(runs: int) -> Report:
    """Measure what the environment chooses; see the top."""

    def names(variable: str, default: Sequence[str]) -> Sequence[str]:
        text = os.environ.get(f"HELIOSTAT_BENCH_{variable}")
        return default if text is None else tuple(name for name in text.split(",") if name)

    plan = Plan()
    rows = int(os.environ.get("HELIOSTAT_BENCH_ROWS", plan.rows))
    peer_rows = int(os.environ.get("HELIOSTAT_BENCH_PEER_ROWS", min(rows, plan.peer_rows)))
    libraries, peers = names("LIBRARIES", plan.libraries), names("PEERS", plan.peers)
    return measure(runs, Plan(rows, peer_rows, libraries, peers, names("PARTS", plan.parts)))


if __name__ == "__main__":
    quick = partial(measure, plan=Plan(_QUICK_ROWS, _QUICK_ROWS, peers=("dask",)))
    main("training of trees", __doc__ or "", 3, chosen, quick=quick)
