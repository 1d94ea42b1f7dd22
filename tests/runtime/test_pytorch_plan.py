"""Decisions of ``PyTorchDistributor`` that need no runtime: sizes, places, stacks, hangs."""

from __future__ import annotations

import importlib
import inspect
import os
import traceback
from typing import TYPE_CHECKING, Any

import pandas as pd
import pytest

from heliostat._stages import open_location
from heliostat.exceptions import ConfigurationError
from heliostat.modeling._runtime import NodeSize
from heliostat.modeling.distributors import pytorch
from heliostat.modeling.distributors.pytorch import (
    PyTorchDistributor,
    PyTorchScalingConfig,
    WorkerResourceConfig,
    get_context,
)
from heliostat.modeling.distributors.pytorch._frames import (
    frames_of,
    in_collective,
    is_lost_peer,
    parse_stacks,
    user_frames,
)
from heliostat.modeling.distributors.pytorch._job import Frame
from heliostat.modeling.distributors.pytorch._plan import (
    Placement,
    Position,
    may_restart,
    own_cpus,
    plan_placement,
    positions,
    shared_devices,
    wanted_workers,
)
from heliostat.modeling.distributors.pytorch._runs import KEPT_VARIABLE, in_use, kept_runs, prune
from heliostat.modeling.distributors.pytorch._watch import HangWatch

if TYPE_CHECKING:
    from pathlib import Path

SMALL, TWO, GPUS = [NodeSize(2, 0)], [NodeSize(8, 0), NodeSize(4, 0)], [NodeSize(16, 2), NodeSize(16, 2)]
ONE_GPU = WorkerResourceConfig(num_cpus=4, num_gpus=1)
ELASTIC = PyTorchScalingConfig(min_workers=1, max_workers=4)


@pytest.mark.parametrize(
    ("config", "nodes", "placement"),
    [
        (None, SMALL, Placement(1, 2, 0)),
        (None, TWO, Placement(2, 4, 0)),
        (None, GPUS, Placement(4, 8, 1)),
        (PyTorchScalingConfig(), SMALL, Placement(1, 1, 0)),
        (PyTorchScalingConfig(num_workers_per_node=2), SMALL, Placement(2, 1, 0)),
        (PyTorchScalingConfig(2, 2), TWO, Placement(4, 1, 0)),
        (PyTorchScalingConfig(2, 1), TWO, Placement(2, 1, 0, "STRICT_SPREAD")),
        (PyTorchScalingConfig(2, 2, ONE_GPU), GPUS, Placement(4, 4, 1)),
        (PyTorchScalingConfig(1, 2, WorkerResourceConfig(0, 1)), GPUS, Placement(2, 0, 1)),
        (ELASTIC, SMALL, Placement(2, 1, 0)),
        (ELASTIC, TWO, Placement(4, 1, 0)),
    ],
)
def test_workers_are_as_many_as_asked(
    config: PyTorchScalingConfig | None, nodes: list[NodeSize], placement: Placement
) -> None:
    """The number of workers is nodes times workers per node, or what fits into the elastic range."""
    assert plan_placement(config, nodes) == placement


@pytest.mark.parametrize(
    ("config", "nodes", "told", "numbers"),
    [
        (PyTorchScalingConfig(1, 3), SMALL, "%resize cpus=3", (3, 2)),
        (PyTorchScalingConfig(2, 1), SMALL, "%resize nodes=2", (2, 1)),
        (PyTorchScalingConfig(1, 1, ONE_GPU), SMALL, "%resize gpus=1", (1, 0)),
        (PyTorchScalingConfig(1, 1, WorkerResourceConfig(10)), TWO, "on nodes that do not fit", (10, 12)),
        (PyTorchScalingConfig(min_workers=3, max_workers=4), SMALL, "%resize cpus=3", (3, 2)),
    ],
)
def test_a_runtime_that_is_too_small_is_told(
    config: PyTorchScalingConfig, nodes: list[NodeSize], told: str, numbers: tuple[int, int]
) -> None:
    """The error has what is needed, what there is, and the line that resizes."""
    with pytest.raises(ConfigurationError, match=told) as refused:
        plan_placement(config, nodes)
    assert (refused.value.required, refused.value.available) == numbers


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        ({"num_nodes": 0}, "num_nodes=0"),
        ({"num_workers_per_node": True}, "num_workers_per_node=True"),
        ({"max_failures": -1}, "max_failures=-1"),
        ({"min_workers": 3, "max_workers": 2}, "contradict"),
        ({"hang_timeout_s": 0}, "hang_timeout_s=0"),
        ({"resource_requirements_per_worker": {"num_cpus": 1}}, "WorkerResourceConfig"),
    ],
)
def test_settings_that_cannot_be_used_are_refused(arguments: dict[str, Any], told: str) -> None:
    """Each wrong setting is named before anything starts."""
    with pytest.raises(ConfigurationError, match=told):
        PyTorchScalingConfig(**arguments)


def test_rows_without_a_name_are_refused() -> None:
    """A frame in place of the dictionary of connectors is told as what it is."""
    frame = pd.DataFrame({"a": [1]})
    with pytest.raises(ConfigurationError, match=r"(?s)dataset_map is a DataFrame.*Pass a dictionary"):
        PyTorchDistributor(print).run(dataset_map=frame)  # type: ignore[arg-type]


def test_no_cpus_are_for_workers_with_a_gpu() -> None:
    """``num_cpus=0`` is taken beside a GPU, and refused without one."""
    assert WorkerResourceConfig(num_cpus=0, num_gpus=1).num_cpus == 0
    with pytest.raises(ConfigurationError, match="num_cpus=0"):
        WorkerResourceConfig(num_cpus=0)


@pytest.mark.parametrize(
    ("nodes", "target", "workers"),
    [(SMALL, None, 2), (SMALL, 1, 1), (SMALL, 8, 2), (TWO, None, 4), ([NodeSize(0, 0)], None, 1)],
)
def test_elastic_workers_follow_the_runtime(nodes: list[NodeSize], target: int | None, workers: int) -> None:
    """What a resize will take away is given up ahead; what it will bring is used when it is there."""
    assert wanted_workers(ELASTIC, nodes, target) == workers


def test_positions_are_counted_on_each_node() -> None:
    """Local ranks begin anew on each node; nodes are numbered as they come."""
    assert positions(["a", "a", "b"]) == [
        Position(0, 3, 0, 2, 0),
        Position(1, 3, 1, 2, 0),
        Position(2, 3, 0, 1, 1),
    ]


def test_ranks_of_a_node_see_each_others_gpus() -> None:
    """A rank finds its own GPU at its local rank, as programs written for torchrun expect."""
    assert shared_devices([["3"], ["1"], ["0"]], [0, 0, 1]) == ["3,1", "3,1", "0"]
    assert shared_devices([["0", "1"], ["2", "3"]], [0, 0]) == ["0,1,2,3"] * 2


def test_ranks_have_cpus_of_their_own_where_they_have_all() -> None:
    """CPUs are divided among ranks that take all of a machine; where some are over, nobody is bound."""
    usable = [0, 1, 4, 5]
    assert [own_cpus(Position(rank, 2, rank, 2, 0), 2, usable) for rank in (0, 1)] == [[0, 1], [4, 5]]
    assert own_cpus(Position(3, 4, 1, 2, 1), 2, usable) == [4, 5]  # counted on its node
    assert own_cpus(Position(0, 2, 0, 2, 0), 1, usable) == []
    assert own_cpus(Position(0, 1, 0, 1, 0), 4, usable) == []
    assert own_cpus(Position(0, 2, 0, 2, 0), 0, []) == []


def test_restarts_end() -> None:
    """A training starts again ``max_failures`` times, and not once more."""
    assert [may_restart(lost, PyTorchScalingConfig(max_failures=2)) for lost in (1, 2, 3)] == [
        True,
        True,
        False,
    ]


def test_only_no_progress_of_all_is_a_hang() -> None:
    """One rank that does something keeps the others from counting as hanging."""
    watch = HangWatch([0, 1], 10.0, 0.0)
    watch.note(0, 5, 1.0)
    watch.note(1, 5, 8.0)
    watch.note(0, 5, 17.0)
    assert not watch.overdue(17.9)
    assert watch.overdue(18.0)
    watch.excuse(18.0)
    assert not watch.overdue(27.9)


_STACKS = """Thread 0x00007d (most recent call first):
  File "/h/_worker.py", line 180 in beat

Current thread 0x00007f (most recent call first):
  File "/x/site-packages/torch/distributed/distributed_c10d.py", line 2999 in all_reduce
  File "/x/site-packages/torch/distributed/c10d_logger.py", line 81 in wrapper
  File "/tmp/ipykernel_1/2.py", line 7 in train
  File "/h/_worker.py", line 80 in _call
  File "/h/_worker.py", line 50 in train_on_rank

Thread 0x00007e (most recent call first):
  File "/usr/lib/python3.11/threading.py", line 331 in wait
"""


def test_stacks_are_read() -> None:
    """Of the stacks of a process the one below ``train_func`` is taken, and a collective is seen in it."""
    frames = parse_stacks(_STACKS, "/h/_worker.py", "train_on_rank")
    assert [frame.line for frame in frames] == [80, 7, 81, 2999]
    assert in_collective(frames)
    assert not in_collective(frames[:2])
    assert parse_stacks("nothing", "/h/_worker.py", "train_on_rank") == []


def test_frames_of_packages_are_left_out() -> None:
    """What remains of a traceback is what the user wrote; without any, all of it."""
    own = Frame("/tmp/ipykernel_1/2.py", 7, "train")
    library = Frame(traceback.__file__, 1, "print")
    assert user_frames([own, library]) == [own]
    assert user_frames([library]) == [library]
    with pytest.raises(ValueError, match="invalid literal") as raised:
        int("x")
    found = frames_of(raised.value.__traceback__, "elsewhere")
    assert found[-1].file == __file__
    assert not is_lost_peer(raised.value, found)


def test_there_is_no_context_outside() -> None:
    """``get_context`` says where it can be called."""
    with pytest.raises(RuntimeError, match="train_func"):
        get_context()


REQUIRED = inspect.Parameter.empty
CONTEXT = {
    "get_world_size": "int",
    "get_rank": "int",
    "get_world_rank": "int",
    "get_local_rank": "int",
    "get_local_world_size": "int",
    "get_node_rank": "int",
    "get_master_addr": "str",
    "get_master_port": "int",
    "get_default_backend": "str",
    "get_supported_backends": "list[str]",
    "get_hyper_params": "dict[str, Any] | None",
    "get_dataset_map": "dict[str, DataConnector] | None",
    "get_model_dir": "str",
    "get_metrics_reporter": "MetricsReporter",
    "get_artifact_manager": "ArtifactManager",
}


@pytest.mark.parametrize(
    ("call", "parameters"),
    [
        (pytorch.PyTorchDistributor, {"train_func": REQUIRED, "scaling_config": None}),
        (
            pytorch.PyTorchDistributor.run,
            {
                "self": REQUIRED,
                "dataset_map": None,
                "hyper_params": None,
                "artifact_stage_location": None,
            },
        ),
        (
            pytorch.PyTorchScalingConfig,
            {"num_nodes": 1, "num_workers_per_node": 1, "resource_requirements_per_worker": ...},
        ),
        (pytorch.WorkerResourceConfig, {"num_cpus": 1, "num_gpus": 0}),
        (pytorch.get_context, {}),
        (pytorch.PyTorchDistributorResult.get_model_dir, {"self": REQUIRED}),
        (pytorch.PyTorchDistributorResult.get_metrics, {"self": REQUIRED}),
        (pytorch.PyTorchDistributorResult.get_checkpoint_location, {"self": REQUIRED}),
        *((getattr(pytorch.Context, name), {"self": REQUIRED}) for name in CONTEXT),
    ],
)
def test_calls_take_what_is_documented(call: Any, parameters: dict[str, Any]) -> None:
    """Each parameter has its name, place and default; what there is beside them goes by name alone."""
    found = inspect.signature(call).parameters
    assert list(found)[: len(parameters)] == list(parameters)
    for name, default in parameters.items():
        assert default is ... or found[name].default == default, name
    assert all(found[name].kind is inspect.Parameter.KEYWORD_ONLY for name in found if name not in parameters)
    if call is pytorch.PyTorchDistributor.run:
        assert {found[name].kind for name in list(found)[1:]} == {inspect.Parameter.KEYWORD_ONLY}
    if call.__name__ in CONTEXT:
        assert inspect.signature(call).return_annotation == CONTEXT[call.__name__]


@pytest.mark.parametrize(
    ("module", "names"),
    [
        ("scaling_config", ["PyTorchScalingConfig", "WorkerResourceConfig"]),
        ("pytorch_trainer", ["PyTorchDistributor", "PyTorchDistributorResult"]),
        ("context", ["Context", "get_context"]),
    ],
)
def test_names_are_where_code_imports_them_from(module: str, names: list[str]) -> None:
    """The classes can be had from the package and from the modules that are documented."""
    found = importlib.import_module(f"{pytorch.__name__}.{module}")
    assert all(getattr(found, name) is getattr(pytorch, name) for name in names)


def test_older_names_are_there() -> None:
    """The names of earlier documentation lead to the same classes."""
    from heliostat.modeling import pytorch as older

    assert older.PyTorchTrainer is pytorch.PyTorchDistributor
    assert older.ScalingConfig is PyTorchScalingConfig
    assert older.getContext is get_context


def test_old_runs_go_but_not_those_in_use(tmp_path: Path) -> None:
    """The newest are kept, and one that somebody runs; with a run go its checkpoints and nothing else."""
    runs, artifacts = tmp_path / "runs", tmp_path / "artifacts"
    for age, name in enumerate(["new", "running", "old", "older"]):
        with in_use(runs / name):
            (runs / name / "rank-0.log").write_text("said")
        os.utime(runs / name, (1e9 - age, 1e9 - age))
        for kind in ("checkpoints", "model"):
            (artifacts / kind / name).mkdir(parents=True)
    checkpoints = open_location(artifacts / "checkpoints")
    with in_use(runs / "running"):
        os.utime(runs / "running", (1e9 - 1, 1e9 - 1))
        assert prune(runs, checkpoints, 1) == ["old", "older"]
    assert sorted(path.name for path in runs.iterdir()) == ["new", "running"]
    assert sorted(path.name for path in (artifacts / "checkpoints").iterdir()) == ["new", "running"]
    assert len(list((artifacts / "model").iterdir())) == 4
    assert prune(runs, checkpoints, 1) == ["running"]
    assert prune(tmp_path / "none", checkpoints, 1) == []


@pytest.mark.parametrize(("text", "kept"), [("", 50), ("3", 3)])
def test_the_number_of_runs_that_are_kept_can_be_set(
    monkeypatch: pytest.MonkeyPatch, text: str, kept: int
) -> None:
    """A number from the environment, or the default."""
    monkeypatch.setenv(KEPT_VARIABLE, text)
    assert kept_runs() == kept


@pytest.mark.parametrize("text", ["0", "-1", "many", "1.5"])
def test_a_number_of_runs_that_is_none_is_refused(monkeypatch: pytest.MonkeyPatch, text: str) -> None:
    """It is told by the name of its variable."""
    monkeypatch.setenv(KEPT_VARIABLE, text)
    with pytest.raises(ConfigurationError, match=KEPT_VARIABLE):
        kept_runs()
