"""What a runtime is booted with, decided from figures of machines that we do not have."""

from __future__ import annotations

from typing import Any

import pytest

from heliostat._messages.cluster import Limits
from heliostat._messages.resizing import ResizeTarget
from heliostat._supervisor.boot_policy import SMALLEST_STORE, Surroundings, look_around, plan_boot
from heliostat.exceptions import BootError, ConfigurationError, ResizeError

GIB = 1 << 30
MIB = 1 << 20
LIMITS = Limits(cpus=8, gpus=2, memory_bytes=32 * GIB, object_store_bytes=16 * GIB, nodes=8)


def _around(**changes: Any) -> Surroundings:
    usual = {"memory": 32 * GIB, "shm_free": 16 * GIB, "disk_free": 100 * GIB, "least_disk": 200 * MIB}
    return Surroundings(**{**usual, "directory": "/somewhere", **changes})


@pytest.mark.parametrize("in_place", [True, False])
@pytest.mark.parametrize(
    ("target", "wanted", "head"),
    [
        (ResizeTarget(), (8, 2, 1), 8),
        (ResizeTarget(cpus=3), (3, 2, 1), 3),
        (ResizeTarget(cpus=4, nodes=3), (4, 2, 3), 2),
        (ResizeTarget(nodes=3), (10, 2, 3), 8),
        (ResizeTarget(gpus=0), (8, 0, 1), 8),
    ],
)
def test_sizes_to_boot_with(
    target: ResizeTarget, wanted: tuple[int, int, int], head: int, in_place: bool
) -> None:
    """All there is by default; a head that can shrink later starts with every CPU and every GPU."""
    plan = plan_boot(target, LIMITS, _around(), in_place=in_place)
    assert (plan.wanted.cpus, plan.wanted.gpus, plan.wanted.nodes) == wanted
    assert plan.shape.cpus == (LIMITS.cpus if in_place else head)
    assert plan.shape.gpus == LIMITS.gpus
    assert plan.wanted.memory_bytes == plan.shape.memory_bytes == int(32 * GIB * 0.7)
    assert plan.notes == ()


@pytest.mark.parametrize(
    ("shm", "store", "on_disk"),
    [
        (16 * GIB, int(32 * GIB * 0.3), False),
        (int(32 * GIB * 0.3), int(32 * GIB * 0.3), False),
        (4 * GIB, int(4 * GIB * 0.95), False),
        (2 * SMALLEST_STORE, int(2 * SMALLEST_STORE * 0.95), False),
        (64 * MIB, GIB, True),
        (0, GIB, True),
        (None, int(32 * GIB * 0.3), False),
    ],
)
def test_default_object_store_fits_shared_memory(shm: int | None, store: int, on_disk: bool) -> None:
    """Nobody asked for a size: it takes what /dev/shm has, and goes to disk with a note if that is little."""
    plan = plan_boot(ResizeTarget(), LIMITS, _around(shm_free=shm), in_place=True)
    assert plan.shape.object_store_bytes == plan.wanted.object_store_bytes == store
    assert plan.shape.plasma_directory == ("/somewhere" if on_disk else None)
    assert len(plan.notes) == on_disk
    assert all("kept on disk" in note and "--shm-size" in note for note in plan.notes)


def test_default_object_store_never_exceeds_shared_memory() -> None:
    """Whatever memory and /dev/shm a machine has, what is put there fits, and Ray's least is met."""
    for memory in (1 * GIB, 4 * GIB, 64 * GIB, 4096 * GIB):
        for shm in (0, 1, 64 * MIB, 100 * MIB, 159 * MIB, 160 * MIB, GIB, 30 * GIB, 2048 * GIB):
            plan = plan_boot(ResizeTarget(), LIMITS, _around(memory=memory, shm_free=shm), in_place=True)
            store = plan.shape.object_store_bytes
            assert store is not None
            assert store >= SMALLEST_STORE
            assert store <= shm or plan.shape.plasma_directory == "/somewhere"


def test_asked_object_store_is_never_moved_to_disk() -> None:
    """A size that was asked for and does not fit is an error that says how to enlarge /dev/shm."""
    with pytest.raises(BootError, match=r"/dev/shm has 1 GiB free.*--shm-size") as caught:
        plan_boot(ResizeTarget(object_store_bytes=2 * GIB), LIMITS, _around(shm_free=GIB), in_place=True)
    assert (caught.value.required, caught.value.available) == (2 * GIB, GIB)
    plan = plan_boot(ResizeTarget(object_store_bytes=GIB), LIMITS, _around(shm_free=GIB), in_place=True)
    assert plan.shape.object_store_bytes == plan.wanted.object_store_bytes == GIB
    assert plan.shape.plasma_directory is None


@pytest.mark.parametrize("free", [0, 200 * MIB - 1])
def test_a_full_disk_is_refused(free: int) -> None:
    """Without room for Ray's logs nothing is booted; the message has both figures and a way out."""
    with pytest.raises(BootError, match=r"disk of /somewhere is full.*HELIOSTAT_TMPDIR") as caught:
        plan_boot(ResizeTarget(), LIMITS, _around(disk_free=free), in_place=True)
    assert (caught.value.required, caught.value.available) == (200 * MIB, free)


@pytest.mark.parametrize("free", [200 * MIB, None])
def test_enough_or_unknown_disk_is_no_obstacle(free: int | None) -> None:
    """Exactly enough is enough, and a disk that tells nothing is trusted."""
    assert plan_boot(ResizeTarget(), LIMITS, _around(disk_free=free), in_place=True).notes == ()


@pytest.mark.parametrize(
    "target",
    [
        ResizeTarget(cpus=9),
        ResizeTarget(gpus=3),
        ResizeTarget(nodes=9),
        ResizeTarget(cpus=1, nodes=2),
        ResizeTarget(memory_bytes=33 * GIB),
        ResizeTarget(object_store_bytes=-1),
    ],
)
def test_sizes_beyond_the_machine(target: ResizeTarget) -> None:
    """What the machine does not have cannot be booted with."""
    with pytest.raises(ResizeError) as caught:
        plan_boot(target, LIMITS, _around(), in_place=True)
    assert caught.value.action


def test_looking_around_reads_this_machine(
    tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Memory and disk of the machine are found, and HELIOSTAT_LEAST_DISK is read by name."""
    directory = tmp_path_factory.mktemp("around")
    monkeypatch.setenv("HELIOSTAT_LEAST_DISK", "5GiB")
    found = look_around(directory / "not made yet")
    assert found.least_disk == 5 * GIB
    assert found.memory > 0
    assert found.disk_free is not None
    monkeypatch.setenv("HELIOSTAT_LEAST_DISK", "-1")
    with pytest.raises(ConfigurationError, match="HELIOSTAT_LEAST_DISK"):
        look_around(directory)
