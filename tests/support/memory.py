"""Control groups in which processes get little memory."""

from __future__ import annotations

import contextlib
import os
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from tests.support.trainings import until

if TYPE_CHECKING:
    from collections.abc import Iterator

GROUP = f"heliostat-test-{os.getpid()}"


@contextlib.contextmanager
def limited_group(size: int) -> Iterator[Path]:
    """A control group of ``size`` bytes; skips the test where none can be made.

    Write process ids to its ``cgroup.procs``; they must have ended when the block does.
    """
    old = Path("/sys/fs/cgroup/memory")
    root, limit = (old, "memory.limit_in_bytes") if old.is_dir() else (Path("/sys/fs/cgroup"), "memory.max")
    group = root / GROUP
    try:
        group.mkdir()
        (group / limit).write_text(str(size))
    except OSError as error:
        with contextlib.suppress(OSError):
            group.rmdir()
        pytest.skip(f"no control group for memory can be made here: {error}")
    try:
        yield group
    finally:
        until(lambda: not (group / "cgroup.procs").read_text(), 5, "the group is empty")
        group.rmdir()
