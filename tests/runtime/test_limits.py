"""What this process may use, on laid-out and on real files."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import time
from typing import TYPE_CHECKING

import pytest

from heliostat._supervisor.cgroups import Roots
from heliostat._supervisor.limits import (
    cpu_use,
    disk_use,
    machine_limits,
    memory_use,
    shm_use,
)
from heliostat._units import format_bytes, parse_bytes
from heliostat.exceptions import ConfigurationError

if TYPE_CHECKING:
    from pathlib import Path

GIB = 2**30
MACHINE_MEMORY = 64 * GIB


def lay_out(place: Path, groups: str, files: dict[str, str]) -> Roots:
    """Write a machine of 64 GiB, 40 of them free, with these control groups."""
    contents = {
        "proc/self/cgroup": groups,
        "proc/meminfo": f"MemTotal: {64 * 2**20} kB\nMemFree: 1 kB\nMemAvailable: {40 * 2**20} kB\n",
        "proc/stat": "cpu 9 9 9 9\n"
        + "".join(f"cpu{n} 100 0 50 9000 0 0 0 0 0 0\n" for n in range(256))
        + "intr 0\n",
    } | {f"cgroup/{name}": text for name, text in files.items()}
    for name, text in contents.items():
        (place / name).parent.mkdir(parents=True, exist_ok=True)
        (place / name).write_text(text)
    return Roots(proc=place / "proc", cgroup=place / "cgroup", shm=place)


def v2(place: Path, files: dict[str, str], group: str = "/pod/box") -> Roots:
    """Lay out version 2 control groups."""
    return lay_out(place, f"0::{group}\n", {"cgroup.controllers": "cpu memory\n"} | files)


def v1(place: Path, files: dict[str, str], group: str = "/pod") -> Roots:
    """Lay out version 1 control groups."""
    lines = f"4:memory:{group}\n2:cpu,cpuacct:{group}\n0::/\n"
    return lay_out(place, lines, files)


def test_cpu_quota_of_version_2(tmp_path: Path) -> None:
    """A quota below the CPUs at hand limits, and the group's own use is counted."""
    roots = v2(tmp_path, {"pod/box/cpu.max": "50000 100000\n", "pod/box/cpu.stat": "usage_usec 2500000\n"})
    use = cpu_use(roots)
    assert (use.cpus, use.used_seconds) == (0.5, 2.5)


def test_cpu_quota_of_version_1(tmp_path: Path) -> None:
    """The same with the files of version 1, whose use is in nanoseconds."""
    roots = v1(
        tmp_path,
        {
            "cpu,cpuacct/pod/cpu.cfs_quota_us": "25000\n",
            "cpu,cpuacct/pod/cpu.cfs_period_us": "100000\n",
            "cpu,cpuacct/pod/cpuacct.usage": "1500000000\n",
        },
    )
    use = cpu_use(roots)
    assert (use.cpus, use.used_seconds) == (0.25, 1.5)


def test_cpu_quota_with_separate_version_1_mounts(tmp_path: Path) -> None:
    """Use is found in cpuacct's own hierarchy where the two are mounted apart."""
    roots = v1(
        tmp_path,
        {
            "cpu/pod/cpu.cfs_quota_us": "25000\n",
            "cpu/pod/cpu.cfs_period_us": "100000\n",
            "cpuacct/pod/cpuacct.usage": "1500000000\n",
        },
    )
    assert cpu_use(roots).used_seconds == 1.5


@pytest.mark.parametrize("quota", ["max 100000\n", "100000000 100000\n"])
def test_quota_that_does_not_bind_leaves_the_cpus_of_this_process(tmp_path: Path, quota: str) -> None:
    """No quota, or one above the CPUs that we may run on, means those CPUs and their use."""
    use = cpu_use(v2(tmp_path, {"pod/box/cpu.max": quota}))
    cpus = len(os.sched_getaffinity(0))
    assert use.cpus == cpus
    assert use.used_seconds == pytest.approx(cpus * 150 / os.sysconf("SC_CLK_TCK"))


def test_quota_of_a_group_above_holds(tmp_path: Path) -> None:
    """The smallest quota on the way up is the one that counts."""
    roots = v2(tmp_path, {"pod/box/cpu.max": "80000 100000\n", "pod/cpu.max": "30000 100000\n"})
    assert cpu_use(roots).cpus == 0.3


def test_affinity_limits_the_cpus() -> None:
    """A process bound to one CPU has one."""
    code = (
        "import os\n"
        "os.sched_setaffinity(0, {min(os.sched_getaffinity(0))})\n"
        "from heliostat._supervisor.limits import cpu_use\n"
        "print(cpu_use().cpus <= 1)"
    )
    shown = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
    assert shown.strip() == "True"


def test_cpu_use_grows_with_work() -> None:
    """On the real machine, CPU that we use is in the figure."""
    before, began = cpu_use().used_seconds, time.process_time()
    while time.process_time() - began < 0.2:
        pass
    assert cpu_use().used_seconds - before >= 0.15


def test_memory_limit_of_version_2_less_reclaimable_cache(tmp_path: Path) -> None:
    """Limit and use are the group's; file cache that is given back first does not count."""
    roots = v2(
        tmp_path,
        {
            "pod/box/memory.max": f"{8 * GIB}\n",
            "pod/box/memory.current": f"{3 * GIB}\n",
            "pod/box/memory.stat": f"anon {GIB}\ninactive_file {GIB}\nactive_file 5\n",
        },
    )
    use = memory_use(roots)
    assert (use.limit_bytes, use.used_bytes) == (8 * GIB, 2 * GIB)


def test_memory_limit_of_version_1(tmp_path: Path) -> None:
    """The same with the files of version 1."""
    roots = v1(
        tmp_path,
        {
            "memory/pod/memory.limit_in_bytes": f"{4 * GIB}\n",
            "memory/pod/memory.usage_in_bytes": f"{3 * GIB}\n",
            "memory/pod/memory.stat": f"inactive_file 1\ntotal_inactive_file {GIB}\n",
        },
    )
    use = memory_use(roots)
    assert (use.limit_bytes, use.used_bytes) == (4 * GIB, 2 * GIB)


def test_smallest_memory_limit_above_us_holds_with_its_own_use(tmp_path: Path) -> None:
    """Limit and use are of the same level, the one that is reached first."""
    roots = v2(
        tmp_path,
        {
            "pod/box/memory.max": "max\n",
            "pod/box/memory.current": f"{GIB}\n",
            "pod/memory.max": f"{6 * GIB}\n",
            "pod/memory.current": f"{5 * GIB}\n",
        },
    )
    use = memory_use(roots)
    assert (use.limit_bytes, use.used_bytes) == (6 * GIB, 5 * GIB)


@pytest.mark.parametrize("group", ["/docker/0123/box", "/../../kubepods/pod1"])
def test_group_path_from_outside_the_container(tmp_path: Path, group: str) -> None:
    """A container that sees its own group as the root is limited by that root."""
    files = {"memory.max": f"{2 * GIB}\n", "memory.current": f"{GIB}\n"}
    assert memory_use(v2(tmp_path, files, group)).limit_bytes == 2 * GIB


@pytest.mark.parametrize("limit", [9223372036854771712, 128 * GIB])
def test_limit_above_the_machine_means_the_machine(tmp_path: Path, limit: int) -> None:
    """A limit that the machine cannot reach is none: its own memory and use are shown."""
    roots = v1(
        tmp_path,
        {"memory/pod/memory.limit_in_bytes": f"{limit}\n", "memory/pod/memory.usage_in_bytes": "1\n"},
    )
    use = memory_use(roots)
    assert (use.limit_bytes, use.used_bytes) == (MACHINE_MEMORY, 24 * GIB)


def test_disk_of_a_directory_that_is_not_there_yet(tmp_path: Path) -> None:
    """The disk is the one that the directory will be on; root's reserve does not count."""
    use = disk_use(tmp_path / "not" / "yet")
    figures = shutil.disk_usage(tmp_path)
    assert use is not None
    assert use.limit_bytes - use.used_bytes == pytest.approx(figures.free, rel=0.01)
    assert use.limit_bytes <= figures.total


def test_missing_shared_memory_is_unknown(tmp_path: Path) -> None:
    """Without /dev/shm there is no figure, and no error."""
    assert shm_use(Roots(shm=tmp_path / "nothing")) is None


def limits(place: Path, **environ: str) -> tuple[int, int, int, int]:
    """Read cpus, gpus, memory and nodes of a machine with 2 GPUs and a limit of 8 GiB."""
    files = {"memory.max": f"{8 * GIB}\n", "memory.current": "0\n", "cpu.max": "50000 100000\n"}
    found = machine_limits(2, place, v2(place, files), environ)
    assert found.object_store_bytes <= found.memory_bytes
    return found.cpus, found.gpus, found.memory_bytes, found.nodes


def test_limits_of_the_machine(tmp_path: Path) -> None:
    """Without further word a user may ask for what is there, one CPU at least, and 8 nodes."""
    assert limits(tmp_path) == (1, 2, 8 * GIB, 8)


def test_administrator_has_the_last_word(tmp_path: Path) -> None:
    """The variables lower every limit, and raise those that are only counted."""
    assert limits(
        tmp_path,
        HELIOSTAT_MAX_CPUS="16",
        HELIOSTAT_MAX_GPUS="0",
        HELIOSTAT_MAX_MEMORY="2GiB",
        HELIOSTAT_MAX_NODES="3",
    ) == (16, 0, 2 * GIB, 3)
    assert limits(tmp_path, HELIOSTAT_MAX_GPUS="8", HELIOSTAT_MAX_MEMORY="1TiB") == (1, 2, 8 * GIB, 8)


@pytest.mark.parametrize("text", ["", "many", "-1", "1.5", "0x10"])
@pytest.mark.parametrize("name", ["CPUS", "GPUS", "MEMORY", "NODES"])
def test_bad_word_names_its_variable(tmp_path: Path, name: str, text: str) -> None:
    """A variable that cannot be used is refused by name."""
    if (name, text) == ("MEMORY", "1.5"):
        text = "1.5 apples"
    with pytest.raises(ConfigurationError, match=f"HELIOSTAT_MAX_{name}"):
        limits(tmp_path, **{f"HELIOSTAT_MAX_{name}": text})


@pytest.mark.parametrize("name", ["CPUS", "MEMORY", "NODES"])
def test_nothing_at_all_is_no_limit_to_live_with(tmp_path: Path, name: str) -> None:
    """Zero CPUs, memory or nodes are refused."""
    with pytest.raises(ConfigurationError, match=f"HELIOSTAT_MAX_{name}"):
        limits(tmp_path, **{f"HELIOSTAT_MAX_{name}": "0"})


@pytest.mark.parametrize(
    ("text", "size"),
    [
        (0, 0),
        (12345, 12345),
        ("12345", 12345),
        ("7 B", 7),
        ("4GiB", 4 * GIB),
        ("4Gi", 4 * GIB),
        ("4GB", 4 * 10**9),
        ("4g", 4 * 10**9),
        (" 1.5 gib ", 3 * GIB // 2),
        ("0.1k", 100),
        ("1.9B", 1),
        ("8PiB", 8 * 2**50),
    ],
)
def test_sizes_are_read(text: int | str, size: int) -> None:
    """Numbers and texts with units, decimal and binary, are read to the byte."""
    assert parse_bytes(text) == size


@pytest.mark.parametrize(
    "text",
    ["", " ", "-1", -1, "4 GiBs", "GiB", "1e3", "nan", "1,5GB", "٣GB", 2**63, "9999999PiB", True, 1.5, None],
)
def test_what_is_no_size_is_refused(text: object) -> None:
    """Anything else is refused with the name of the argument and an example of a size."""
    with pytest.raises(ConfigurationError, match=r"memory is .*4GiB"):
        parse_bytes(text, "memory")  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("size", "text"),
    [
        (0, "0 B"),
        (1023, "1023 B"),
        (1024, "1 KiB"),
        (1288490189, "1.2 GiB"),
        (2**40 - 1, "1 TiB"),
        (-2048, "-2 KiB"),
    ],
)
def test_sizes_are_written_short(size: int, text: str) -> None:
    """A size is shown with at most one decimal in the unit that fits."""
    assert format_bytes(size) == text
