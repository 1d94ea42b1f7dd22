"""Checks of GPUs in a runtime, written once for stand-in and real ones.

``device`` is what the machine has: ``"logical"`` for GPUs that only Ray counts, beside the
stand-in for NVIDIA's library, ``"cuda"`` for real ones.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Literal

from tests.support.owner import wait_for

if TYPE_CHECKING:
    from tests.support.owner import Owner

Device = Literal["logical", "cuda"]
Computes = Literal["cpu", "cuda"]


def check_devices_are_distinct(owner: Owner, device: Device) -> None:
    """Each holder of a GPU sees one device of its own; on real GPUs it can compute there."""
    count = int(owner.run("ray.cluster_resources().get('GPU', 0)"))
    assert count >= 1
    owner.run("class Holds:\n    def seen(self): return os.environ.get('CUDA_VISIBLE_DEVICES')")
    owner.run(f"holders = [ray.remote(num_gpus=1, num_cpus=0)(Holds).remote() for _ in range({count})]")
    seen = owner.run("ray.get([h.seen.remote() for h in holders], timeout=60)")
    assert len(set(seen)) == count
    if device == "cuda":
        owner.run(
            "class Adds:\n    def two(self):\n        import torch\n"
            "        return float(torch.ones(2).cuda().sum())"
        )
        owner.run("[ray.kill(h) for h in holders]; adder = ray.remote(num_gpus=1, num_cpus=0)(Adds).remote()")
        assert owner.run("ray.get(adder.two.remote(), timeout=120)") == 2.0
        owner.run("holders = [adder]")
    owner.run("[ray.kill(h) for h in holders]")


def check_parking(owner: Owner, device: Device) -> None:
    """Without GPUs a GPU task waits; with them back it runs on a device."""
    del device
    count = int(owner.run("ray.cluster_resources()['GPU']"))
    owner.run("runtime.resize(gpus=0)")
    assert owner.run("runtime.status().resources.gpus") == 0
    owner.run("waiting = ray.remote(num_gpus=1)(lambda: ray.get_gpu_ids()).remote()")
    assert owner.run("ray.wait([waiting], timeout=1)[0]") == []
    owner.run(f"runtime.resize(gpus={count})")
    assert len(owner.run("ray.get(waiting, timeout=60)")) == 1


def check_samples(owner: Owner, device: Device) -> None:
    """The newest sample has every GPU with its memory; on real GPUs its power too."""
    wait_for(lambda: owner.run("len(runtime.samples())") > 0, 10)
    gpus = owner.run("[(g.uuid, g.memory_limit_bytes, g.power_watts) for g in runtime.samples()[-1].gpus]")
    assert gpus
    assert all(uuid and limit > 0 for uuid, limit, _ in gpus)
    if device == "cuda":
        assert all(power is not None and power > 0 for _, _, power in gpus)


_RANKS = """
from heliostat.modeling.distributors.pytorch import PyTorchDistributor, PyTorchScalingConfig
from heliostat.modeling.distributors.pytorch import WorkerResourceConfig, get_context

def train():
    import os
    import torch
    import torch.distributed as dist

    context = get_context()
    if not dist.is_initialized():
        dist.init_process_group("gloo")
    on = torch.device("cuda", context.get_local_rank()) if dist.get_backend() == "nccl" else "cpu"
    total = torch.ones(1, device=on)
    dist.all_reduce(total)
    seen = [None] * context.get_world_size()
    dist.all_gather_object(seen, os.environ["CUDA_VISIBLE_DEVICES"])
    chosen = torch.cuda.current_device() if torch.cuda.is_available() else None
    metrics = {"total": total, "seen": seen, "chosen": chosen, "on": dist.get_backend()}
    context.get_metrics_reporter().log_metrics({**metrics, "default": context.get_default_backend()})

each = WorkerResourceConfig(num_cpus=0, num_gpus=1)
"""


def check_ranks(owner: Owner, device: Device) -> None:
    """Ranks of a training see the devices of all ranks of their node; on real GPUs NCCL sums there."""
    count = int(owner.run("ray.cluster_resources()['GPU']"))
    # Where Ray alone counts the GPUs there is no NCCL: there the function makes its own group.
    legacy = "1" if device == "logical" else ""
    owner.run(f"os.environ['PYTORCH_USE_LEGACY_TRAINER'] = {legacy!r}")
    owner.run(_RANKS)
    owner.run(f"config = PyTorchScalingConfig(1, {count}, each)")
    found = owner.run("PyTorchDistributor(train, config).run().get_metrics()", seconds=120)
    assert found["total"] == count
    assert len(set(found["seen"])) == 1
    assert len(set(found["seen"][0].split(","))) == count
    assert found["default"] == "nccl"
    assert (found["on"], found["chosen"]) == (("gloo", None) if device == "logical" else ("nccl", 0))


def check_boosting(estimator: type[Any], scaling: type[Any], device: Computes) -> None:
    """Trees learn on a device, for each GPU by a worker of its own; on a GPU the report counts it.

    Needs a runtime; on ``"cuda"`` one with at least one real GPU.
    """
    import numpy as np

    from heliostat import _handle

    features = np.random.default_rng(0).normal(size=(5_000, 4)).astype(np.float32)
    target = (features[:, 0] + features[:, 1] > 0).astype(int)
    cuda = device == "cuda"
    workers = int(sum(node.gpus for node in _handle.init().nodes())) if cuda else 2
    objective = "binary" if "LightGBM" in estimator.__name__ else "binary:logistic"
    params = {"device_type": "cuda"} if cuda and "LightGBM" in estimator.__name__ else None
    trained = estimator(20, objective, params, scaling(workers, use_gpu=cuda))
    trained.fit(features, target)
    assert (trained.report.workers, trained.report.gpus_per_worker) == (workers, int(cuda))
    assert ((trained.predict(features) > 0.5) == target).mean() > 0.95
