"""GPUs through a whole runtime: counted, given out, parked, sampled and put on accounts."""

from __future__ import annotations

import shutil
from typing import TYPE_CHECKING

import pytest
from tests.support import gpu_checks
from tests.support.nvml import build_fake_nvml, fake_nvml_environment
from tests.support.owner import Owner, wait_for

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

_TWO = """
gpu uuid=GPU-a name=Fake_H100 util=50 total=8000 used=1000 temp=40 power=200500 limit=700000
gpu uuid=GPU-b name=Fake_H100 util=0 total=8000 used=0 temp=30 power=70000 limit=700000
"""


@pytest.fixture(scope="module")
def figures(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The file that says what the stand-in's GPUs do."""
    path = tmp_path_factory.mktemp("figures") / "gpus.txt"
    path.write_text(_TWO)
    return path


@pytest.fixture(scope="module")
def owner(tmp_path_factory: pytest.TempPathFactory, figures: Path) -> Iterator[Owner]:
    """A runtime on a machine with two stand-in GPUs."""
    library = build_fake_nvml(tmp_path_factory.mktemp("nvml"))
    owner = Owner(tmp_path_factory.mktemp("owner"), "cpus=1", fake_nvml_environment(library, figures))
    yield owner
    owner.end()


def test_devices_are_distinct(owner: Owner) -> None:
    """As many GPUs as NVML sees are Ray's, and each holder has one of its own."""
    assert owner.run("ray.cluster_resources()['GPU']") == 2
    gpu_checks.check_devices_are_distinct(owner, "logical")


def test_parking(owner: Owner) -> None:
    """GPUs can be taken away and given back while the runtime runs."""
    gpu_checks.check_parking(owner, "logical")


def test_ranks(owner: Owner) -> None:
    """A training with a GPU for each rank has them side by side."""
    gpu_checks.check_ranks(owner, "logical")


def test_samples(owner: Owner) -> None:
    """Samples carry the GPUs."""
    gpu_checks.check_samples(owner, "logical")


def test_gpu_seconds_are_on_the_account(owner: Owner, figures: Path) -> None:
    """A cell whose process is on a busy GPU gets GPU-seconds and the memory it held there."""
    pid = owner.process.pid
    figures.write_text(
        _TWO.replace("limit=700000\ngpu", f"limit=700000\nprocess pid={pid} memory=600\ngpu", 1)
    )
    owner.run("runtime.cell_started('trained')")
    wait_for(lambda: (owner.run("[c.gpu_seconds for c in runtime.cells()]") or [None])[-1], 15)
    owner.run("runtime.cell_ended('trained')")
    wait_for(lambda: owner.run("runtime.cells()[-1].ended_at is not None"), 5)
    seconds, peak = owner.run("[runtime.cells()[-1].gpu_seconds, runtime.cells()[-1].peak_gpu_memory_bytes]")
    assert seconds > 0
    assert peak == 600


@pytest.mark.skipif(shutil.which("nvidia-smi") is None, reason="this machine has no NVIDIA GPU")
def test_real_gpus(tmp_path: Path) -> None:
    """The same on real GPUs."""
    owner = Owner(tmp_path, "cpus=1", {})
    try:
        gpu_checks.check_devices_are_distinct(owner, "cuda")
        gpu_checks.check_parking(owner, "cuda")
        gpu_checks.check_ranks(owner, "cuda")
        gpu_checks.check_samples(owner, "cuda")
        for library, name in (("xgboost", "XGB"), ("lightgbm", "LightGBM")):
            owner.run(f"from heliostat.modeling.distributors.{library} import {name}Estimator as Estimator")
            owner.run(f"from heliostat.modeling.distributors.{library} import {name}ScalingConfig as Scaling")
            owner.run("from tests.support import gpu_checks")
            owner.run("gpu_checks.check_boosting(Estimator, Scaling, 'cuda')", seconds=120)
    finally:
        owner.end()
