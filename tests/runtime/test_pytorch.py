"""``PyTorchDistributor`` on the workers of a real runtime."""

from __future__ import annotations

import contextlib
import os
import signal
import sys
import threading
import time
from typing import TYPE_CHECKING, Any

import psutil
import pytest
from tests.support.trainings import until

from heliostat import _cli, _handle, _progress
from heliostat._stages import open_location
from heliostat.exceptions import ConfigurationError, TaskCancelledError, TrainingError
from heliostat.modeling._workers import pool
from heliostat.modeling.distributors.pytorch import (
    PyTorchDistributor,
    PyTorchScalingConfig,
    WorkerResourceConfig,
    _ahead,
    get_context,
)
from heliostat.modeling.distributors.pytorch._datasets import Written

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from heliostat._runtime import Runtime

TWO = PyTorchScalingConfig(num_workers_per_node=2)


@pytest.fixture(scope="module", autouse=True)
def runtime() -> Iterator[Runtime]:
    """A local runtime of two CPUs."""
    from ray import cloudpickle

    # As the functions of a notebook do, those of this file travel by value.
    cloudpickle.register_pickle_by_value(sys.modules[__name__])
    yield _handle.init(cpus=2)
    _handle.shutdown()


def test_a_rank_finds_all_it_needs(tmp_path: Path) -> None:
    """Process group, context, variables of torchrun, hyper-parameters and model directory are there."""

    def train() -> None:
        import torch
        import torch.distributed as dist

        context = get_context()
        total = torch.ones(1) * (context.get_rank() + 1)
        dist.all_reduce(total)
        names = ("RANK", "WORLD_SIZE", "LOCAL_RANK", "LOCAL_WORLD_SIZE", "MASTER_ADDR")
        context.get_metrics_reporter().log_metrics(
            {
                "sum": total,
                "group": dist.get_backend(),
                "sizes": (context.get_world_size(), context.get_local_world_size(), context.get_node_rank()),
                "ranks": (context.get_rank(), context.get_world_rank(), context.get_local_rank()),
                "environment": [os.environ[name] for name in names],
                "master": (context.get_master_addr(), context.get_master_port() > 0),
                "backends": (context.get_default_backend(), "gloo" in context.get_supported_backends()),
                "params": context.get_hyper_params(),
                "datasets": context.get_dataset_map(),
                "threads": torch.get_num_threads(),
            }
        )
        (open(f"{context.get_model_dir()}/rank-{context.get_rank()}.txt", "w")).write("model")  # noqa: PTH123, SIM115
        manager = context.get_artifact_manager()
        if context.get_rank() == 0:
            assert manager.upload(f"{context.get_model_dir()}/rank-0.txt", "notes/a.txt").endswith(
                "notes/a.txt"
            )
            assert manager.list() == ["notes/a.txt"]
        os.system(f"echo from a child of {context.get_rank()}")

    result = PyTorchDistributor(train, TWO).run(
        hyper_params={"lr": "0.1"}, artifact_stage_location=str(tmp_path)
    )
    assert result.get_metrics() == {
        "sum": 3.0,
        "group": "gloo",
        "sizes": (2, 2, 0),
        "ranks": (0, 0, 0),
        "environment": ["0", "2", "0", "2", "127.0.0.1"],
        "master": ("127.0.0.1", True),
        "backends": ("gloo", True),
        "params": {"lr": "0.1"},
        "datasets": None,
        "threads": 1,
    }
    model = open_location(result.get_model_dir())
    assert [entry.location.name for entry in model.list()] == ["rank-0.txt", "rank-1.txt"]
    assert result.get_checkpoint_location() is None
    assert list(result.get_logs()) == ["rank-0", "rank-1"]
    assert result.get_log("rank-1") == "from a child of 1\n"
    assert result.world_sizes == [2]
    with pytest.raises(ConfigurationError, match="rank-0, rank-1"):
        result.get_log("rank-7")


def test_the_second_run_is_warm() -> None:
    """It starts in under a second, in processes that have torch already and no group of the first."""

    def train() -> None:
        import torch.distributed as dist

        assert dist.get_world_size() == 2
        get_context().get_metrics_reporter().log_metrics({"at": time.time(), "pid": os.getpid()})

    PyTorchDistributor(train, TWO).run()
    warm = set(pool.pids())
    begun = time.time()
    second = PyTorchDistributor(train, TWO).run().get_metrics()
    assert second["pid"] in warm
    assert set(pool.pids()) == warm
    assert second["at"] - begun < 1


@pytest.mark.parametrize("legacy", [True, False])
def test_the_legacy_form_works(monkeypatch: pytest.MonkeyPatch, *, legacy: bool) -> None:
    """A function that sets up the process group itself runs, with the old switch and without."""
    monkeypatch.setenv("PYTORCH_USE_LEGACY_TRAINER", "1" if legacy else "")

    def train() -> None:
        import torch
        import torch.distributed as dist

        before = dist.is_initialized()
        dist.init_process_group(backend="gloo")
        total = torch.ones(1)
        dist.all_reduce(total)
        get_context().get_metrics_reporter().log_metrics({"total": total, "before": before})

    found = PyTorchDistributor(train, TWO).run().get_metrics()
    assert found == {"total": 2.0, "before": not legacy}


def test_groups_come_and_go(monkeypatch: pytest.MonkeyPatch) -> None:
    """A group that is left and joined again meets anew each time; one that fails spoils no worker."""
    monkeypatch.setenv("PYTORCH_USE_LEGACY_TRAINER", "1")

    def train() -> None:
        import torch
        import torch.distributed as dist

        total = torch.ones(1)
        for number in range(12):
            address = (get_context().get_master_addr(), get_context().get_master_port())
            url = "env://" if number % 2 else "tcp://{}:{}".format(*address)
            dist.init_process_group("gloo", url, world_size=2, rank=get_context().get_rank())
            dist.all_reduce(total)
            dist.destroy_process_group()
        get_context().get_metrics_reporter().log_metrics({"total": total, "pid": os.getpid()})

    def fail() -> None:
        from datetime import timedelta

        import torch.distributed as dist

        if get_context().get_rank() == 0:
            with pytest.raises(Exception, match=r".+"):  # there is no third rank
                dist.init_process_group("gloo", timeout=timedelta(seconds=0.5), world_size=3)

    first = PyTorchDistributor(train, TWO).run().get_metrics()
    assert first["total"] == 2.0**12
    PyTorchDistributor(fail, TWO).run()
    monkeypatch.setenv("PYTORCH_USE_LEGACY_TRAINER", "")
    again = PyTorchScalingConfig(num_workers_per_node=2, hang_timeout_s=20)
    assert PyTorchDistributor(train, again).run().get_metrics() == first


def test_the_compiler_is_loaded_by_who_compiles() -> None:
    """DDP and optimizers leave torch's compiler alone; what is compiled afterwards still trains."""

    def train() -> None:
        import torch
        from torch import nn

        torch.manual_seed(0)
        net = nn.parallel.DistributedDataParallel(nn.Linear(4, 1))
        optimizer = torch.optim.Adam(net.parameters(), lr=0.1)

        def step(model: Any) -> float:
            optimizer.zero_grad()
            loss = model(torch.ones(8, 4)).square().mean()
            loss.backward()
            optimizer.step()
            return float(loss.detach())

        first = step(net)
        loaded = ["torch._dynamo.convert_frame" in sys.modules]
        compiled = torch.compile(net, backend="eager")
        last = [step(compiled) for _ in range(20)][-1]
        loaded.append("torch._dynamo.convert_frame" in sys.modules)
        import torch._dynamo.config as settings

        same = settings is torch._dynamo.config and torch._dynamo.utils.counters["frames"]["ok"] > 0
        get_context().get_metrics_reporter().log_metrics(
            {"loaded": loaded, "trained": last != first, "same": same}
        )

    pool.free()  # a worker that has compiled has the compiler
    found = PyTorchDistributor(train, TWO).run().get_metrics()
    assert found == {"loaded": [False, True], "trained": True, "same": True}
    pool.free()


@pytest.mark.skipif(
    len(os.sched_getaffinity(0)) != 2, reason="two ranks of one CPU are not the whole machine"
)
def test_ranks_that_have_the_machine_have_a_cpu_each() -> None:
    """Each rank stays on its own CPU; its children run on all, and so does the worker afterwards."""

    def train() -> None:
        import torch.distributed as dist

        here = [os.sched_getaffinity(0), os.environ.get("HELIOSTAT_RANK_CPUS")]
        reader, writer = os.pipe()
        if (child := os.fork()) == 0:
            os.write(writer, bytes(sorted(os.sched_getaffinity(0))))
            os._exit(0)
        os.waitpid(child, 0)
        found: list[Any] = [None] * dist.get_world_size()
        dist.all_gather_object(found, [*here, [*os.read(reader, 9)]])
        get_context().get_metrics_reporter().log_metrics({"found": found})

    def alone() -> None:
        from pathlib import Path

        threads = [int(thread.name) for thread in Path("/proc/self/task").iterdir()]
        masks = {tuple(os.sched_getaffinity(thread)) for thread in threads}
        get_context().get_metrics_reporter().log_metrics(
            {"masks": masks, "of": os.environ.get("HELIOSTAT_RANK_CPUS")}
        )

    first, second = sorted(os.sched_getaffinity(0))
    found = PyTorchDistributor(train, TWO).run().get_metrics()["found"]
    assert found == [[{cpu}, "1", [first, second]] for cpu in (first, second)]
    one = PyTorchDistributor(alone, PyTorchScalingConfig()).run().get_metrics()
    assert one == {"masks": {(first, second)}, "of": None}


def test_workers_start_when_a_training_is_near() -> None:
    """What the import of the package does: workers get ready behind it, and the training takes them."""
    pool.free()
    pool._prepared = None
    _ahead.prepare()
    until(lambda: len(pool.pids()) == 2, 60, "a worker for each CPU is there")
    ready = set(pool.pids())
    _ahead.prepare()

    def train() -> None:
        import torch

        get_context().get_metrics_reporter().log_metrics({"pid": os.getpid(), "of": torch.get_num_threads()})

    one_of_two = PyTorchScalingConfig(resource_requirements_per_worker=WorkerResourceConfig(num_cpus=2))
    found = PyTorchDistributor(train, one_of_two).run().get_metrics()
    assert found["pid"] in ready
    assert found["of"] == 2
    assert set(pool.pids()) == ready


@pytest.mark.parametrize("fallback", [False, True])
def test_ray_train_works_inside(tmp_path: Path, *, fallback: bool) -> None:
    """Reports, checkpoints, context and collectives of Ray Train answer; all ranks' files are kept.

    So they do on a Ray without the object that answers them.
    """

    def remove() -> None:
        from ray.train.v2._internal.execution import train_fn_utils

        del train_fn_utils.set_train_fn_utils

    def train(config: dict[str, Any]) -> None:
        import tempfile
        from pathlib import Path

        import ray.train
        import ray.train.collective
        import ray.train.torch

        context = ray.train.get_context()
        rank = context.get_world_rank()
        assert ray.train.get_checkpoint() is None
        assert ray.train.get_all_reported_checkpoints() == []
        assert ray.train.get_preemption_info() is None
        ray.train.collective.barrier()
        assert ray.train.collective.broadcast_from_rank_zero(rank) == 0
        assert config["fallback"] or ray.train.torch.get_device().type == "cpu"
        with pytest.raises(ConfigurationError, match="validation"):
            ray.train.report({}, ray.train.Checkpoint.from_directory("."), validation=True)
        for epoch in range(int(config["epochs"])):
            with tempfile.TemporaryDirectory() as directory:
                Path(directory, f"rank-{rank}.txt").write_text(str(epoch))
                checkpoint = ray.train.Checkpoint.from_directory(directory)
                ray.train.report({"epoch": epoch, "rank": rank}, checkpoint=checkpoint)
        with ray.train.get_checkpoint().as_directory() as directory:
            assert Path(directory, "rank-1.txt").read_text() == "1"
        kept = ray.train.get_all_reported_checkpoints()
        assert [each.metrics for each in kept] == [{"epoch": 0, "rank": 0}, {"epoch": 1, "rank": 0}]
        assert kept[1].checkpoint.path == ray.train.get_checkpoint().path
        assert {each.status for each in kept} == {ray.train.ReportedCheckpointStatus.COMMITTED}
        mine = Path(tempfile.mkdtemp())
        (mine / f"rank-{rank}.txt").write_text("2")
        names = []

        def upload(checkpoint: Any, name: str) -> Any:
            names.append(name)
            return checkpoint

        ray.train.report(
            {"size": context.get_world_size(), "names": names},
            ray.train.Checkpoint.from_directory(str(mine)),
            checkpoint_upload_mode=ray.train.CheckpointUploadMode.ASYNC,
            checkpoint_upload_fn=upload,
        )
        assert not mine.exists()

    if fallback:
        PyTorchDistributor(remove, TWO).run()
    result = PyTorchDistributor(train, TWO).run(
        hyper_params={"epochs": "2", "fallback": fallback}, artifact_stage_location=str(tmp_path)
    )
    if fallback:
        pool.free()
    assert result.get_metrics() == {"epoch": 1, "rank": 0, "size": 2, "names": ["checkpoint_000002"]}
    assert [m.get("epoch") for m in result.get_metrics_history()] == [0, 1, None]
    location = result.get_checkpoint_location()
    assert location is not None
    files = open_location(location).list()
    assert [entry.location.name for entry in files] == ["rank-0.txt", "rank-1.txt"]
    left = [path.name for path in tmp_path.rglob(".heliostat*")]
    assert left == []


def test_a_rank_that_raises_is_named_with_its_line() -> None:
    """The error is the first real one, with rank and own line; the ranks stop, and stay warm."""

    def train() -> None:
        import torch
        import torch.distributed as dist

        rank = get_context().get_rank()
        get_context().get_metrics_reporter().log_metrics({"pid": os.getpid()})
        print(f"rank {rank} is here")
        if rank == 1:
            dict[str, int]()["no such key"]  # the line
        dist.all_reduce(torch.ones(1))

    told = r"rank 1: KeyError: 'no such key' \(.*test_pytorch.py:\d+\)"
    with pytest.raises(TrainingError, match=told) as failed:
        PyTorchDistributor(train, TWO).run()
    assert failed.value.rank == 1
    assert isinstance(failed.value.__cause__, KeyError)
    assert "# the line" in failed.value.traceback
    assert "all_reduce" not in failed.value.traceback
    with open(failed.value.log) as log:  # noqa: PTH123
        assert log.read() == "rank 1 is here\n"
    assert len(pool.pids()) == 2


def test_a_killed_rank_starts_again_from_the_checkpoint(tmp_path: Path) -> None:
    """After SIGKILL of a rank the group is rebuilt and goes on from the last checkpoint."""

    def train() -> None:
        from pathlib import Path

        import torch
        import torch.distributed as dist

        context = get_context()
        found = context.get_checkpoint()
        start = 0 if found is None else int((found / "epoch.txt").read_text()) + 1
        saved = Path((context.get_hyper_params() or {})["scratch"]) / f"saved-{context.get_rank()}"
        saved.mkdir(exist_ok=True)
        for epoch in range(start, 4):
            dist.all_reduce(torch.ones(1))
            (saved / "epoch.txt").write_text(str(epoch))
            mine = saved if context.get_rank() == 0 else None
            context.report({"epoch": epoch, "start": start, "at": time.time()}, checkpoint=mine)
            if context.get_rank() == 1 and epoch == 1 and start == 0:
                os.kill(os.getpid(), signal.SIGKILL)

    config = PyTorchScalingConfig(num_workers_per_node=2, checkpoints_to_keep=2)
    result = PyTorchDistributor(train, config).run(
        hyper_params={"scratch": str(tmp_path)}, artifact_stage_location=str(tmp_path / "artifacts")
    )
    history = result.get_metrics_history()
    assert [(m["epoch"], m["start"]) for m in history] == [(0, 0), (1, 0), (2, 2), (3, 2)]
    assert history[2]["at"] - history[1]["at"] < 10
    assert (result.restarts, result.world_sizes) == (1, [2, 2])
    kept = sorted(path.name for path in (tmp_path / "artifacts/checkpoints" / result.request_id).iterdir())
    assert kept == ["checkpoint_000002-1", "checkpoint_000003-1"]
    assert str(result.get_checkpoint_location()).endswith("checkpoint_000003-1")
    with open(result.get_logs()["rank-0"].parent / "training.log") as log:  # noqa: PTH123
        assert "Starting again from checkpoint_000001." in log.read()


def test_losses_are_not_endured_for_ever() -> None:
    """With ``max_failures=0`` the first lost process ends the training, with what ended it."""

    def train() -> None:
        if get_context().get_rank() == 1:
            os._exit(7)
        time.sleep(60)

    config = PyTorchScalingConfig(num_workers_per_node=2, max_failures=0)
    with pytest.raises(TrainingError, match="rank 1: its process ended itself with exit code 7") as failed:
        PyTorchDistributor(train, config).run()
    assert (failed.value.rank, failed.value.exit_code) == (1, 7)


def small_cgroup() -> Path | None:
    """A new memory group of this machine with a low limit; ``None`` where none can be made."""
    from pathlib import Path

    for root, limit in (("memory", "memory.limit_in_bytes"), ("", "memory.max")):
        group = Path("/sys/fs/cgroup", root, f"heliostat-test-{os.getpid()}")
        try:
            group.mkdir()
            (group / limit).write_text(str(400 << 20))
        except OSError:
            with contextlib.suppress(OSError):
                group.rmdir()
            continue
        return group
    return None


def test_a_rank_without_memory_is_told_as_one() -> None:
    """What the kernel kills for want of memory is named so, with what helps."""
    group = small_cgroup()
    if group is None:
        pytest.skip("this machine lets nobody limit the memory of a process")

    def train() -> None:
        from pathlib import Path

        if get_context().get_rank() == 1:
            (Path((get_context().get_hyper_params() or {})["group"]) / "cgroup.procs").write_text(
                str(os.getpid())
            )
            kept = []
            while True:
                kept.append(bytearray(os.urandom(1 << 20)) * 16)
        time.sleep(60)

    config = PyTorchScalingConfig(num_workers_per_node=2, max_failures=0)
    try:
        with pytest.raises(
            TrainingError, match="rank 1: its process was killed for want of memory"
        ) as failed:
            PyTorchDistributor(train, config).run(hyper_params={"group": str(group)})
        assert failed.value.out_of_memory
        assert "smaller batches" in str(failed.value)
    finally:
        until(lambda: not (group / "cgroup.procs").read_text(), 10, "the group is empty")
        group.rmdir()


def test_losses_are_counted() -> None:
    """A rank that is lost in each attempt ends the training after ``max_failures`` restarts."""

    def train() -> None:
        get_context().get_metrics_reporter().log_metrics({"here": True})
        if get_context().get_rank() == 1:
            os._exit(3)
        time.sleep(60)

    config = PyTorchScalingConfig(num_workers_per_node=2, max_failures=1)
    with pytest.raises(TrainingError, match="loss number 2; max_failures allows no more"):
        PyTorchDistributor(train, config).run()


def test_a_hang_in_a_collective_is_reported(tmp_path: Path) -> None:
    """Ranks that wait for different things are given up, with where each of them is."""

    def train() -> None:
        import torch
        import torch.distributed as dist

        if get_context().get_rank() == 0:
            dist.all_reduce(torch.ones(1))  # waits
        else:
            threading.Event().wait()  # never set

    config = PyTorchScalingConfig(num_workers_per_node=2, hang_timeout_s=1.5)
    begun = time.monotonic()
    with pytest.raises(TrainingError, match=r"No rank made progress for 1\.5 s") as failed:
        PyTorchDistributor(train, config).run()
    assert time.monotonic() - begun < 20
    assert "all_reduce" in failed.value.stacks[0]
    assert "# waits" in failed.value.stacks[0]
    assert "# never set" in failed.value.stacks[1]


def endless() -> None:
    """Train until somebody stops it, and say how."""
    import torch

    weight = torch.nn.Parameter(torch.ones(1))
    optimizer = torch.optim.SGD([weight], 0.01)
    while True:
        optimizer.zero_grad()
        (weight**2).sum().backward()  # type: ignore[no-untyped-call]
        optimizer.step()
        get_context().get_metrics_reporter().log_metrics({"loss": weight, "pid": os.getpid()})
        time.sleep(0.01)


def running() -> _progress.Task | None:
    """The training that runs now, if it reports its speed."""
    found = [task for task in _progress.tasks() if not task.snapshot.state.finished]
    return next((t for t in found if "steps_per_second" in t.snapshot.metrics), None)


@pytest.mark.parametrize("way", ["interrupt", "cancel", "terminal"])
def test_a_training_can_be_stopped(way: str, capsys: pytest.CaptureFixture[str]) -> None:
    """Interrupt, cancel and ``heliostat cancel`` end all ranks; before, loss, speed and workers are seen."""
    seen: list[_progress.TaskSnapshot] = []
    stopped: list[float] = []
    told: list[int] = []

    def stop() -> None:
        until(lambda: running() is not None, 60, "the training reports its speed")
        task = running()
        assert task is not None
        seen.append(task.snapshot)
        stopped.append(time.monotonic())
        if way == "cancel":
            task.cancel()
        elif way == "terminal":
            try:
                told.append(_cli.main(["cancel", "none such"]))
                told.append(_cli.main(["cancel", task.snapshot.task_id]))
            finally:
                if told != [1, 0]:
                    task.cancel()
        else:
            os.kill(os.getpid(), signal.SIGINT)

    stopper = threading.Thread(target=stop)
    stopper.start()
    with pytest.raises(KeyboardInterrupt if way == "interrupt" else TaskCancelledError):
        PyTorchDistributor(endless, TWO).run()
    assert time.monotonic() - stopped[0] < 3  # within a second where nobody else wants the CPUs
    stopper.join()
    if way == "terminal":
        said = capsys.readouterr()
        assert told == [1, 0]
        assert "PyTorchDistributor(endless), process" in said.err  # what could be stopped
        assert f"({seen[0].task_id}) was asked to stop" in said.out
    assert seen[0].metrics["step_seconds"] > 0
    assert 0 < seen[0].metrics["loss"] <= 1
    assert seen[0].done > 0
    assert [worker.rank for worker in seen[0].workers] == [0, 1]
    assert seen[0].workers[0].pid == seen[0].metrics["pid"]
    pids = {worker.pid for worker in seen[0].workers}
    until(lambda: all(pid in pool.pids() or not exists(pid) for pid in pids), 10, "none trains any more")


def exists(pid: int | None) -> bool:
    """Whether a process is there."""
    return psutil.pid_exists(pid or 0)


def test_what_cannot_travel_is_told_before_anything_starts() -> None:
    """A function that holds a lock is refused with what to do; so is one that is no function."""
    lock = threading.Lock()
    with pytest.raises(ConfigurationError, match="cannot be sent to workers"):
        PyTorchDistributor(lock.locked).run()
    with pytest.raises(ConfigurationError, match="not a function"):
        PyTorchDistributor(None)  # type: ignore[arg-type]


def test_rows_reach_the_ranks(tmp_path: Path) -> None:
    """Rows of a query, a frame and a file are all there on each rank; Ray Train's shards are disjoint.

    How many are a rank's own is told beside its memory.
    """
    import duckdb
    import pyarrow as pa
    import pyarrow.parquet as pq

    from heliostat.data import DataConnector
    from heliostat.data.sharded_data_connector import ShardedDataConnector

    table = pa.table({"x": list(range(10))})
    pq.write_table(table, tmp_path / "rows.parquet")

    def train() -> None:
        import ray.train
        import torch.distributed as dist
        from torch.utils.data import DataLoader

        datasets = get_context().get_dataset_map() or {}
        part = datasets.pop("sharded").get_shard().to_arrow()["x"].to_pylist()  # type: ignore[attr-defined]
        sums = {name: sum(rows.to_arrow()["x"].to_pylist()) for name, rows in datasets.items()}
        dense = datasets["file"].to_torch_dataset(batch_size=4, drop_last_batch=False)
        loader = DataLoader(dense, batch_size=None, num_workers=1)  # a forked child of the rank
        sums["loader"] = sum(int(batch["x"].sum()) for batch in loader)
        rows = ray.train.get_dataset_shard("frame")
        mine = [int(value) for batch in rows.iter_torch_batches(batch_size=4) for value in batch["x"]]
        shards: list[list[int]] = [[], []]
        dist.all_gather_object(shards, mine)
        parts: list[list[int]] = [[], []]
        dist.all_gather_object(parts, part)
        get_context().get_metrics_reporter().log_metrics({**sums, "shards": shards, "parts": parts})

    datasets = {
        "query": DataConnector.from_dataframe(duckdb.sql("SELECT * FROM range(10) t(x)")),
        "frame": DataConnector.from_dataframe(table),
        "sharded": ShardedDataConnector.from_dataframe(duckdb.sql("SELECT * FROM range(11) t(x)")),
        "file": Written((str(tmp_path / "rows.parquet"),)).connector(),
    }
    found = PyTorchDistributor(train, TWO).run(dataset_map=datasets).get_metrics()
    halves = [[0, 1, 2, 3, 4], [5, 6, 7, 8, 9]]
    assert found == {
        **dict.fromkeys(("query", "frame", "file", "loader"), 45),
        "shards": halves,
        "parts": halves,
    }
    told = _progress.tasks()[-1].snapshot.workers
    assert [worker.rows for worker in told] == [10, 10]  # of the two datasets that were divided
    assert all((worker.memory_bytes or 0) > 1e7 for worker in told)


_CELL = """
import torch, helper
SCALE = 3
class Net(torch.nn.Linear):
    pass
def double(x):
    return 2 * x
def train():
    from heliostat.modeling.distributors.pytorch import get_context
    path = get_context().get_model_dir() + "/net.pt"
    torch.save(Net(2, 1), path)
    kept = type(torch.load(path, weights_only=False)).__name__
    get_context().get_metrics_reporter().log_metrics({"value": double(SCALE) + helper.VALUE, "kept": kept})
"""


def test_what_a_notebook_has_travels(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Variables, functions and classes of cells, and modules beside the notebook as they now are."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(str(tmp_path))
    found = []
    for value in (1, 20):
        (tmp_path / "helper.py").write_text(f"VALUE = {value}\n\n{'#' * value}\n")
        sys.modules.pop("helper", None)
        cell: dict[str, Any] = {"__name__": "__main__"}
        exec(compile(_CELL, "<ipython-input-1>", "exec"), cell)  # what a cell is
        metrics = PyTorchDistributor(cell["train"], PyTorchScalingConfig()).run().get_metrics()
        found.append((metrics["value"], metrics["kept"]))
    sys.modules.pop("helper", None)
    assert found == [(7, "Net"), (26, "Net")]


def test_the_number_of_ranks_follows_the_runtime(runtime: Runtime, tmp_path: Path) -> None:
    """A resize down and up changes the world size at the next checkpoint, and no epoch is lost."""

    def train() -> None:
        from pathlib import Path

        context = get_context()
        scratch = Path((context.get_hyper_params() or {})["scratch"])
        found = context.get_checkpoint()
        epoch = 0 if found is None else int((found / "epoch.txt").read_text()) + 1
        mine = scratch / f"rank-{context.get_rank()}"
        mine.mkdir(exist_ok=True)
        while not (scratch / "stop").exists() or context.get_world_size() == 1:
            (mine / "epoch.txt").write_text(str(epoch))
            saved = mine if context.get_rank() == 0 else None
            context.report({"epoch": epoch, "size": context.get_world_size()}, checkpoint=saved)
            epoch += 1
            time.sleep(0.05)

    def sizes() -> float:
        found = [task for task in _progress.tasks() if not task.snapshot.state.finished]
        return found[-1].snapshot.metrics.get("size", 0) if found else 0

    def resize() -> None:
        until(lambda: sizes() == 2, 30, "two ranks train")
        runtime.resize(cpus=1, rollback_after_seconds=30)
        until(lambda: sizes() == 1, 30, "one rank trains")
        runtime.resize(cpus=2)
        until(lambda: sizes() == 2, 30, "two ranks train again")
        (tmp_path / "stop").touch()

    resizer = threading.Thread(target=resize)
    resizer.start()
    config = PyTorchScalingConfig(min_workers=1, max_workers=2)
    result = PyTorchDistributor(train, config).run(
        hyper_params={"scratch": str(tmp_path)}, artifact_stage_location=str(tmp_path / "artifacts")
    )
    resizer.join()
    assert result.world_sizes == [2, 1, 2]
    assert result.restarts == 0
    epochs = [metrics["epoch"] for metrics in result.get_metrics_history()]
    assert epochs == list(range(len(epochs)))


def test_a_lost_node_is_gone_on_without(runtime: Runtime, tmp_path: Path) -> None:
    """With a node of its ranks gone, an elastic training goes on from the checkpoint on what is left."""
    import ray

    runtime.resize(cpus=2, nodes=2)

    def train() -> None:
        from pathlib import Path

        context = get_context()
        found = context.get_checkpoint()
        epoch = 0 if found is None else int((found / "epoch.txt").read_text()) + 1
        mine = Path((context.get_hyper_params() or {})["scratch"]) / f"rank-{context.get_rank()}"
        mine.mkdir(exist_ok=True)
        end = 10**9 if found is None else epoch + 3
        while epoch < end:
            (mine / "epoch.txt").write_text(str(epoch))
            context.report({"epoch": epoch}, checkpoint=mine if context.get_rank() == 0 else None)
            epoch += 1
            time.sleep(0.05)

    def lose() -> None:
        def now() -> _progress.TaskSnapshot | None:
            return next((t.snapshot for t in _progress.tasks() if not t.snapshot.state.finished), None)

        until(lambda: (task := now()) is not None and task.metrics.get("epoch", 0) > 3, 60, "it trains")
        task = now()
        assert task is not None
        head = ray.get_runtime_context().get_node_id()
        (other,) = [worker.pid for worker in task.workers if not head.startswith(worker.node or "-")]
        raylet = psutil.Process(other).parent()
        assert raylet is not None
        raylet.kill()

    loser = threading.Thread(target=lose)
    loser.start()
    config = PyTorchScalingConfig(min_workers=1, max_workers=2)
    result = PyTorchDistributor(train, config).run(
        hyper_params={"scratch": str(tmp_path)}, artifact_stage_location=str(tmp_path / "artifacts")
    )
    loser.join()
    assert (result.world_sizes, result.restarts) == ([2, 1], 1)
    epochs = [metrics["epoch"] for metrics in result.get_metrics_history()]
    assert epochs == list(range(len(epochs)))
    with open(result.get_logs()["rank-0"].parent / "training.log") as log:  # noqa: PTH123
        assert "takes no worker any more" in log.read()
