"""Whose end is put down to a want of memory, on real processes that the kernel kills."""

from __future__ import annotations

import subprocess
import sys
from typing import TYPE_CHECKING

import pytest
from tests.support.memory import limited_group

from heliostat import _oom

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

_HUNGRY = "import sys\nsys.stdin.readline()\nbytearray(200 << 20)"


@pytest.fixture(scope="module")
def ends() -> Iterator[tuple[_oom.Watch, int, int]]:
    """A watch, the id of a process killed by the kernel since, and that of one killed by hand."""
    watch = _oom.Watch()
    with limited_group(60 << 20) as group:
        command = [sys.executable, "-c", _HUNGRY]
        with (
            subprocess.Popen(command, stdin=subprocess.PIPE) as hungry,
            subprocess.Popen(command, stdin=subprocess.PIPE) as other,
        ):
            (group / "cgroup.procs").write_text(str(hungry.pid))
            hungry.communicate(b"\n", timeout=20)
            other.kill()
        assert (hungry.returncode, other.returncode) == (-9, -9)
        yield watch, hungry.pid, other.pid


def test_the_kernels_record_tells_who_it_was(ends: tuple[_oom.Watch, int, int]) -> None:
    """A process that somebody killed meanwhile is not taken for the one that had no memory."""
    watch, hungry, other = ends
    if watch.killed(hungry) is None:
        pytest.skip("the kernel's log is closed here")
    assert (watch.killed(hungry), watch.killed(other)) == (True, False)


def test_without_a_record_it_is_a_suspicion(
    ends: tuple[_oom.Watch, int, int], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """Where only counts can be read nobody is accused, and nobody suspected where none was killed."""
    monkeypatch.setattr(_oom, "_LOG", tmp_path / "closed")
    watch, hungry, other = ends
    assert (watch.killed(hungry), watch.killed(other)) == (None, None)
    assert _oom.Watch().killed(other) is False
