"""Locks of a file beside the warehouse, and whether this process has the warehouse open."""

from __future__ import annotations

import contextlib
import fcntl
import os
import sys
from pathlib import Path

from heliostat.exceptions import ConfigurationError


def open_lock(file: Path) -> int:
    """Open a lock file, made if it is missing. Raises ConfigurationError."""
    try:
        return os.open(file, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    except OSError as error:
        message = f"The file {file}, which guards the warehouse, cannot be opened: {error.strerror}."
        raise ConfigurationError(
            message, "Set HELIOSTAT_WAREHOUSE to a file that can be written.", path=str(file)
        ) from error


def try_lock(descriptor: int, kind: int) -> bool:
    """Take a lock if nobody has it; whether it was taken."""
    try:
        fcntl.flock(descriptor, kind | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def is_open_here(path: Path) -> bool:
    """Whether this process has the file open."""
    if not sys.platform.startswith("linux"):
        import psutil

        return any(found.path == str(path) for found in psutil.Process().open_files())
    for descriptor in Path("/proc/self/fd").iterdir():
        with contextlib.suppress(OSError):
            if descriptor.readlink() == path:
                return True
    return False
