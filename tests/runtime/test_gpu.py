"""GPUs, read through a stand-in for NVIDIA's library with figures that tests choose."""

from __future__ import annotations

import os
import subprocess
import sys
from typing import TYPE_CHECKING

import pytest
from tests.support.nvml import GpuProbe, build_fake_nvml

from heliostat._messages.usage import Gpu, GpuProcess
from heliostat._supervisor.gpu import gpu_count, visible
from heliostat.exceptions import ConfigurationError

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

TWO_GPUS = """\
gpu uuid=GPU-a name=Fake_H100 util=50 total=8000 used=1000 temp=40 power=200500 limit=700000
process pid=11 memory=600
process pid=12 memory=400
gpu uuid=GPU-b name=Fake_H100 util=0 total=8000 used=0 temp=30 power=70000 limit=700000
"""
MIG = """\
gpu uuid=GPU-a name=Fake_A100 total=8000 used=1000 temp=40
slice uuid=MIG-x name=Fake_A100_MIG_1g total=1000 used=700
process pid=11 memory=650
slice uuid=MIG-y name=Fake_A100_MIG_1g total=1000 used=0
"""


@pytest.fixture(scope="module")
def library(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Folder of the compiled stand-in."""
    return build_fake_nvml(tmp_path_factory.mktemp("nvml"))


@pytest.fixture
def probe(library: Path, tmp_path: Path) -> Iterator[GpuProbe]:
    """A process that reads GPUs through the stand-in."""
    with GpuProbe(library, tmp_path / "figures") as probe:
        yield probe


def read(probe: GpuProbe, ours: dict[int, tuple[str, str]] | None = None) -> list[Gpu]:
    """Read GPUs that must be there."""
    gpus = probe.read(ours)
    assert gpus is not None
    return gpus


def test_every_figure_is_read(probe: GpuProbe) -> None:
    """A GPU is shown with all its figures in the units of the message."""
    probe.show(TWO_GPUS)
    first, second = read(probe, {11: ("worker", "ray::train")})
    assert first == Gpu(
        index=0,
        uuid="GPU-a",
        name="Fake H100",
        mig=False,
        utilization_percent=50.0,
        memory_used_bytes=1000,
        memory_limit_bytes=8000,
        temperature_celsius=40.0,
        power_watts=200.5,
        power_limit_watts=700.0,
        processes=[
            GpuProcess(pid=11, memory_bytes=600, role="worker", name="ray::train"),
            GpuProcess(pid=12, memory_bytes=400, role=None, name="program-12"),
        ],
    )
    assert (second.index, second.utilization_percent, second.processes) == (1, 0.0, [])


def test_figures_follow_the_driver(probe: GpuProbe) -> None:
    """Each reading asks the driver again."""
    probe.show(TWO_GPUS)
    assert read(probe)[0].utilization_percent == 50.0
    probe.show(TWO_GPUS.replace("util=50", "util=91"))
    assert read(probe)[0].utilization_percent == 91.0


@pytest.mark.parametrize(
    ("refused", "unknown"),
    [
        ("util=50", {"utilization_percent"}),
        ("total=8000", {"memory_used_bytes", "memory_limit_bytes"}),
        ("temp=40", {"temperature_celsius"}),
        ("power=200500", {"power_watts"}),
        ("limit=700000", {"power_limit_watts"}),
    ],
)
@pytest.mark.parametrize("error", [3, 4, 15, 999])
def test_a_refusal_is_none_and_only_that_value(
    probe: GpuProbe, refused: str, unknown: set[str], error: int
) -> None:
    """Whatever the driver's reason, what it refuses is unknown and the rest is shown."""
    probe.show(TWO_GPUS)
    whole = read(probe)[0]
    probe.show(TWO_GPUS.replace(refused, f"{refused.partition('=')[0]}=!{error}", 1))
    part = read(probe)[0]
    changed = {name for name in Gpu.__struct_fields__ if getattr(part, name) != getattr(whole, name)}
    assert changed == unknown
    assert all(getattr(part, name) is None for name in unknown)


def test_lost_gpu_keeps_its_place_and_name(probe: GpuProbe) -> None:
    """A GPU that falls off the bus stays listed under its uuid, with nothing known of it."""
    probe.show(TWO_GPUS)
    read(probe)
    probe.show(TWO_GPUS.replace("uuid=GPU-a", "uuid=GPU-a handle=!15"))
    lost, other = read(probe)
    assert (lost.uuid, lost.name, lost.utilization_percent, lost.processes) == (
        "GPU-a",
        "Fake H100",
        None,
        None,
    )
    assert other.utilization_percent == 0.0


def test_process_that_computes_and_draws_is_listed_once(probe: GpuProbe) -> None:
    """Compute and graphics processes are merged by pid; memory that is not available is unknown."""
    probe.show(
        "gpu uuid=GPU-a name=X\n"
        "process pid=11 memory=600\n"
        "process pid=11 memory=600 kind=graphics\n"
        "process pid=12 memory=- kind=graphics\n"
    )
    assert [(process.pid, process.memory_bytes) for process in read(probe)[0].processes or ()] == [
        (11, 600),
        (12, None),
    ]


def test_mig_slices_take_the_place_of_their_gpu(probe: GpuProbe) -> None:
    """In MIG mode the slices are listed, with their own memory and processes; the rest is unknown."""
    probe.show(MIG)
    first, second = read(probe, {11: ("owner", "python")})
    assert [first.uuid, second.uuid] == ["MIG-x", "MIG-y"]
    assert all(gpu.mig and gpu.index == 0 for gpu in (first, second))
    assert (first.memory_used_bytes, first.memory_limit_bytes) == (700, 1000)
    assert first.utilization_percent is None
    assert first.processes == [GpuProcess(pid=11, memory_bytes=650, role="owner", name="python")]
    assert second.processes == []


def test_no_gpu_is_not_the_same_as_no_driver(probe: GpuProbe) -> None:
    """A driver without a GPU gives an empty list."""
    probe.show("")
    assert probe.read() == []


def test_driver_that_does_not_start_is_no_nvml(probe: GpuProbe) -> None:
    """A library whose driver is not loaded counts as none."""
    probe.show("driver init=!9\n")
    assert probe.read() is None


def test_missing_library_costs_nothing() -> None:
    """Without NVIDIA's library the reader says so, and does not import the binding."""
    code = (
        "import sys\n"
        "from heliostat._supervisor import gpu\n"
        "gpu._LIBRARY = 'libno-such-thing.so.1'\n"
        "print(gpu.GpuReader().read(), 'pynvml' in sys.modules)"
    )
    shown = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
    assert shown.split() == ["None", "False"]


def test_only_visible_gpus_are_ours(library: Path, tmp_path: Path) -> None:
    """A process under CUDA_VISIBLE_DEVICES sees what CUDA would give it."""
    (tmp_path / "figures").write_text(TWO_GPUS)
    with GpuProbe(library, tmp_path / "figures", CUDA_VISIBLE_DEVICES="1") as probe:
        assert [gpu.uuid for gpu in read(probe)] == ["GPU-b"]
    with GpuProbe(library, tmp_path / "figures", CUDA_VISIBLE_DEVICES="") as probe:
        assert read(probe) == []


def named(index: int, uuid: str, *, mig: bool = False) -> Gpu:
    """Make a GPU of which only the name matters."""
    return Gpu(
        index=index,
        uuid=uuid,
        name="X",
        mig=mig,
        utilization_percent=None,
        memory_used_bytes=None,
        memory_limit_bytes=None,
        temperature_celsius=None,
        power_watts=None,
        power_limit_watts=None,
        processes=[],
    )


@pytest.mark.parametrize(
    ("setting", "chosen"),
    [
        (None, ["GPU-aa", "GPU-ab", "MIG-x", "MIG-y"]),
        ("", []),
        ("-1", []),
        ("NoDevFiles", []),
        ("1,0", ["GPU-ab", "GPU-aa"]),
        ("0,7,1", ["GPU-aa"]),
        ("0,0", ["GPU-aa"]),
        ("GPU-ab", ["GPU-ab"]),
        ("GPU-a", []),
        ("MIG-y, 0", ["MIG-y", "GPU-aa"]),
        ("2", ["MIG-x"]),
    ],
)
def test_visible_devices_are_read_as_cuda_reads_them(setting: str | None, chosen: list[str]) -> None:
    """Numbers, uuids and their beginnings choose; the first that fits nothing, or not one, ends the list."""
    gpus = [named(0, "GPU-aa"), named(1, "GPU-ab"), named(2, "MIG-x", mig=True), named(2, "MIG-y", mig=True)]
    assert [gpu.uuid for gpu in visible(gpus, setting)] == chosen


def test_gpu_count_is_what_was_found_or_what_was_said() -> None:
    """Ray is given the GPUs found, or as many as HELIOSTAT_GPUS says."""
    assert gpu_count(None, {}) == 0
    assert gpu_count([named(0, "GPU-a")], {}) == 1
    assert gpu_count(None, {"HELIOSTAT_GPUS": "2"}) == 2
    assert gpu_count([named(0, "GPU-a")], {"HELIOSTAT_GPUS": "0"}) == 0


@pytest.mark.parametrize("text", ["-1", "two", "1.5", "", "²"])
def test_bad_gpu_count_names_its_variable(text: str) -> None:
    """A number of GPUs that is none is refused, with the variable's name."""
    with pytest.raises(ConfigurationError, match="HELIOSTAT_GPUS"):
        gpu_count(None, os.environ | {"HELIOSTAT_GPUS": text})
