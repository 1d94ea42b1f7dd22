"""``python -m heliostat_kernel install``: the kernel for a Jupyter of another environment."""

from __future__ import annotations

import json
import subprocess
import sys
from typing import TYPE_CHECKING

import pytest

from heliostat._owner import kernel_id_of

if TYPE_CHECKING:
    from pathlib import Path

    from tests.kernel.support import Place


def install(place: Place, *arguments: str) -> subprocess.CompletedProcess[str]:
    """Run the command."""
    return subprocess.run(
        [sys.executable, "-m", "heliostat_kernel", "install", *arguments],
        env=place.environment(),
        cwd=place.path,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )


def test_prefix_name_and_title(place: Place, tmp_path: Path) -> None:
    """The spec lands below the prefix under its own name, and runs this Python."""
    done = install(place, "--prefix", str(tmp_path), "--name", "other", "--display-name", "Other one")
    assert done.returncode == 0, done.stderr
    spec = json.loads((tmp_path / "share/jupyter/kernels/other/kernel.json").read_text())
    assert spec["display_name"] == "Other one"
    assert spec["argv"][:4] == [sys.executable, "-Xfrozen_modules=off", "-m", "heliostat_kernel"]


def test_user(place: Place) -> None:
    """``--user`` writes into the user's own Jupyter directory, and says where."""
    done = install(place, "--user")
    assert done.returncode == 0, done.stderr
    assert str(place.path / "data/kernels/heliostat") in done.stdout


def test_says_why_it_cannot(place: Place) -> None:
    """A prefix that cannot be written is an error in a sentence."""
    done = install(place, "--prefix", "/proc/nowhere")
    assert done.returncode == 1
    assert done.stderr.startswith("The kernelspec was not installed:")
    assert "Traceback" not in done.stderr


@pytest.mark.parametrize(
    ("file", "expected"),
    [
        ("/run/kernel-3f2a-77.json", "3f2a-77"),
        ("kernel-1.json", "1"),
        ("connection.json", None),
        ("", None),
    ],
)
def test_kernel_id_comes_from_the_connection_file(file: str, expected: str | None) -> None:
    """Jupyter's kernel id is read from the file that the server names after it."""
    assert kernel_id_of(file) == expected
