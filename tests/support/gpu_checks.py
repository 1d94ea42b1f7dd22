"""Checks of GPUs in a runtime, written once for stand-in and real ones.

``device`` is what the machine has: ``"logical"`` for GPUs that only Ray counts, beside the
stand-in for NVIDIA's library, ``"cuda"`` for real ones.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

from tests.support.owner import wait_for

if TYPE_CHECKING:
    from tests.support.owner import Owner

Device = Literal["logical", "cuda"]


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
