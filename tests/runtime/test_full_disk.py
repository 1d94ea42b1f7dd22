"""A disk that is really full, and shared memory that is really small."""

from __future__ import annotations

import subprocess
import sys
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from pathlib import Path

_UNSHARE = ["unshare", "--mount", "--propagation", "private", "sh", "-c"]


def _can_mount(tmp_path: Path) -> bool:
    try:
        done = subprocess.run(
            [*_UNSHARE, f"mount -t tmpfs none {tmp_path}"], capture_output=True, check=False
        )
    except FileNotFoundError:
        return False
    return done.returncode == 0


def _run(tmp_path: Path, prepare: str, code: str, **environment: str) -> str:
    """Run Python in a mount namespace of its own, after ``prepare``; returns what it printed."""
    if not _can_mount(tmp_path):
        pytest.skip("needs the right to mount")
    variables = " ".join(f"{name}={value}" for name, value in environment.items())
    script = f'{prepare} && {variables} exec {sys.executable} -c "{code}"'
    done = subprocess.run([*_UNSHARE, script], capture_output=True, text=True, timeout=90, check=False)
    return done.stdout + done.stderr


_INIT = """
import heliostat
try:
    heliostat.init(cpus=1)
except heliostat.HeliostatError as error:
    print(type(error).__name__, error)
"""


def test_full_disk(tmp_path: Path) -> None:
    """Where the runtime's disk is full it does not boot, and says so with what to do."""
    full = _run(
        tmp_path,
        "mount -t tmpfs -o size=20m none /mnt",
        _INIT,
        HELIOSTAT_TMPDIR="/mnt",
        JUPYTER_RUNTIME_DIR=str(tmp_path),
    )
    assert "BootError The disk of /mnt/" in full
    assert "Free some space" in full


def test_full_home(tmp_path: Path) -> None:
    """Where no manifest can be written, nothing is started, and the variable to set is named."""
    fill = f"dd if=/dev/zero of={tmp_path}/fill bs=4k 2>/dev/null || true"
    fill = f"mount -t tmpfs -o size=64k none {tmp_path} && ({fill})"
    said = _run(tmp_path, fill, _INIT, JUPYTER_RUNTIME_DIR=str(tmp_path))
    assert "ConfigurationError" in said
    assert "JUPYTER_RUNTIME_DIR" in said


def test_small_shared_memory(tmp_path: Path) -> None:
    """With little /dev/shm objects are kept on disk, and a store that is asked for is refused."""
    code = (
        "import heliostat, ray; r = heliostat.init(cpus=1); "
        "print(r.status().reason, ray.get(ray.put(8))); heliostat.shutdown()"
    )
    shm = "mount -t tmpfs -o size=32m none /dev/shm"
    said = _run(tmp_path, shm, code, JUPYTER_RUNTIME_DIR=str(tmp_path))
    assert "objects are kept on disk" in said
    assert "8" in said.split()
    sized = _INIT.replace("cpus=1", "cpus=1, object_store_memory='1GiB'")
    refused = _run(tmp_path, shm, sized, JUPYTER_RUNTIME_DIR=str(tmp_path))
    assert "1 GiB was asked for and /dev/shm has 32 MiB free" in refused
