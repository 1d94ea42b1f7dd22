"""PyTorch on two ranks: start to first step, steps, a killed rank; against torchrun and Ray's TorchTrainer.

All train the same small network for the same number of steps with gloo. The runtime, and Ray for
its trainer, are up before the clock starts. Step times count from the first step to the last.

The first run is measured twice: with the clock started before ``PyTorchDistributor`` is imported
and called, so that nothing is prepared; and called three seconds after the import, as in a notebook,
where the import has workers start behind it: there the clock starts at the call.
"""

from __future__ import annotations

import json
import subprocess
import sys
import time
from typing import TYPE_CHECKING, Any

from _measure import Figure, Report, main, progress
from _processes import Child, environment, own_home

if TYPE_CHECKING:
    from pathlib import Path

_STEPS = 400
_PAUSE_S = 3.0
_TRAIN = f"""
import time

def steps(count={_STEPS}, each=None, start=0):
    import torch
    from torch import nn
    torch.set_num_threads(1)
    torch.manual_seed(0)
    net = nn.parallel.DistributedDataParallel(
        nn.Sequential(nn.Linear(28, 256), nn.ReLU(), nn.Linear(256, 256), nn.ReLU(), nn.Linear(256, 1))
    )
    optimizer = torch.optim.SGD(net.parameters(), 0.01)
    x, y = torch.randn(1024, 28), torch.randn(1024, 1)
    first = None
    for step in range(start, count):
        optimizer.zero_grad()
        nn.functional.mse_loss(net(x), y).backward()
        optimizer.step()
        first = first or time.monotonic()
        if each is not None:
            each(step)
    return {{"first": first, "step": (time.monotonic() - first) / max(count - start - 1, 1)}}
"""
_TORCHRUN = """
import json, os, sys
import torch.distributed as dist
from train import steps
dist.init_process_group("gloo")
facts = steps()
if dist.get_rank() == 0:
    open("torchrun.json", "w").write(json.dumps(facts))
dist.destroy_process_group()
# Where DDP keeps the group, torch aborts in about one run of eight as the interpreter ends
# ("terminate called without an active exception"). Nothing is measured any more: leave without that.
os._exit(0)
"""
_OURS = """
sys.stdout = sys.stderr  # what ranks print is not for who measures
import heliostat
heliostat.init(cpus=2).wait()

def train():
    from train import steps
    get_context().get_metrics_reporter().log_metrics(steps())

def killed():
    import os, pathlib, signal
    from train import steps
    context = get_context()
    found = context.get_checkpoint()
    start = int((found / "step").read_text()) + 1 if found else 0
    mine = pathlib.Path(f"saved-{context.get_rank()}")
    mine.mkdir(exist_ok=True)
    def each(step):
        if step % 50 == 49:
            (mine / "step").write_text(str(step))
            context.report({"at": time.monotonic(), "start": start}, mine)
        if step == 120 and not found and context.get_rank() == 1:
            pathlib.Path("killed").write_text(str(time.monotonic()))
            os.kill(os.getpid(), signal.SIGKILL)
    if found and context.get_rank() == 0:
        pathlib.Path("again").write_text(str(time.monotonic()))
    facts = steps(200, each, start)
    context.report({"again": facts["first"]})

time.sleep(3)  # what the boot leaves to the background is over: the runtime is warm
say()
wait_for_order()
began = time.monotonic()
from heliostat.modeling.distributors.pytorch import PyTorchDistributor, PyTorchScalingConfig, get_context
if PAUSE:
    time.sleep(PAUSE)
    began = time.monotonic()
two = PyTorchScalingConfig(num_workers_per_node=2)
for function in (train, train, killed)[: 1 if PAUSE else 3]:
    found = PyTorchDistributor(function, two).run(artifact_stage_location="artifacts").get_metrics()
    say(began=began, **found)
    wait_for_order()
    began = time.monotonic()
"""
_RAY = """
import os
os.environ["RAY_TRAIN_V2_ENABLED"] = "1"
import ray
ray.init(num_cpus=4, logging_level="ERROR")
from ray.train import RunConfig, ScalingConfig
from ray.train.torch import TorchTrainer

def train():
    import json
    import ray.train
    from train import steps
    facts = steps()
    if ray.train.get_context().get_world_rank() == 0:
        open(os.environ["FACTS"], "w").write(json.dumps(facts))

say()
wait_for_order()
began = time.monotonic()
where = RunConfig(storage_path=os.path.abspath("storage"))
TorchTrainer(train, scaling_config=ScalingConfig(num_workers=2), run_config=where).fit()
say(began=began, **__import__("json").loads(open(os.environ["FACTS"]).read()))
wait_for_order()
"""


def ours(home: Path) -> tuple[dict[str, Any], dict[str, Any], float]:
    """First run, second run, and seconds from the death of a rank to its next step."""
    with _started(home, 0.0) as child:
        child.hear()
        found = []
        for _ in range(3):
            child.order()
            found.append(child.hear())
        lost = float(found[2]["again"]) - float((home / "killed").read_text())
        (home / "killed").unlink()
        return found[0], found[1], lost


def prepared(home: Path) -> dict[str, Any]:
    """First run, called some time after the import."""
    with _started(home, _PAUSE_S) as child:
        child.hear()
        child.order()
        return child.hear()


def _started(home: Path, pause: float) -> Child:
    return Child(f"PAUSE = {pause}\n{_OURS}", home, PYTHONPATH=f"{home}:{_paths()}")


def torchrun(home: Path) -> dict[str, Any]:
    """Run it as its users do, on two processes."""
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node=2", "run.py"]
    began = time.monotonic()
    subprocess.run(
        command, cwd=home, env=environment(home, OMP_NUM_THREADS="1"), check=True, stdout=subprocess.DEVNULL
    )
    facts: dict[str, Any] = json.loads((home / "torchrun.json").read_text())
    return {"began": began, **facts}


def ray_train(home: Path) -> dict[str, Any]:
    """Run Ray's own trainer on a Ray that is up."""
    facts = home / "ray.json"
    with Child(_RAY, home, PYTHONPATH=str(home), FACTS=str(facts)) as child:
        child.hear()
        child.order()
        return child.hear(240.0)


def measure(runs: int) -> Report:
    """Measure in turn, each time in fresh processes; Ray's trainer once only, it takes long."""
    first: list[float] = []
    later: list[float] = []
    second: list[float] = []
    peer: list[float] = []
    step: list[float] = []
    peer_step: list[float] = []
    lost: list[float] = []
    with own_home() as home:
        (home / "train.py").write_text(_TRAIN)
        (home / "run.py").write_text(_TORCHRUN)
        trainer = _start(ray_train(home))
        progress(f"TorchTrainer: {trainer:.2f} s")
        for run in range(runs):
            theirs = torchrun(home)
            cold, warm, gone = ours(home)
            later.append(_start(prepared(home)))
            peer.append(_start(theirs))
            peer_step.append(1000 * theirs["step"])
            first.append(_start(cold))
            second.append(_start(warm))
            step.append(1000 * warm["step"])
            lost.append(gone)
            told = f"{first[-1]:.2f}, {later[-1]:.2f} and {second[-1]:.2f} s"
            progress(f"run {run + 1}: torchrun {peer[-1]:.2f} s, ours {told}")
    figures = (
        Figure("first run: start to first step, against torchrun", "s", tuple(first), 0.8, tuple(peer)),
        Figure("first run, 3 s after the import", "s", tuple(later), 0.8, tuple(peer)),
        Figure("second run, against torchrun", "s", tuple(second), 0.2, tuple(peer)),
        Figure("first run, against TorchTrainer", "s", tuple(first), 0.1, (trainer,)),
        Figure("the same, 3 s after the import", "s", tuple(later), 0.1, (trainer,)),
        Figure("second run, against TorchTrainer", "s", tuple(second), 0.1, (trainer,)),
        Figure("one step, against torchrun", "ms", tuple(step), 1.03, tuple(peer_step)),
        Figure("a rank killed, to its next step", "s", tuple(lost), 5.0),
    )
    return Report(
        "", figures, notes=(f"{_STEPS} steps of an MLP 28-256-256-1, batches of 1024, 2 ranks, gloo",)
    )


def _start(facts: dict[str, Any]) -> float:
    return float(facts["first"]) - float(facts["began"])


def _paths() -> str:
    return ":".join(path for path in sys.path if path)


if __name__ == "__main__":
    main("train_torch", __doc__ or "", 3, measure)
