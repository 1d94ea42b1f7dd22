"""Directories of trainings: made, held while they are in use, and pruned when there are too many.

A run directory has what the ranks printed. With it go the run's checkpoints in the place that
nobody chose; models and artifacts stay, and so does all that lies where a user said.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import shutil
from typing import TYPE_CHECKING

from heliostat.exceptions import ConfigurationError, DataError

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from heliostat._location import Location

KEPT_VARIABLE = "HELIOSTAT_RUNS_KEPT"
_DEFAULT_KEPT = 50
_LOCK = ".in-use"


def kept_runs() -> int:
    """How many runs are kept: ``HELIOSTAT_RUNS_KEPT``. Raises ConfigurationError."""
    text = os.environ.get(KEPT_VARIABLE, "")
    if not text:
        return _DEFAULT_KEPT
    if not text.isdecimal() or int(text) < 1:
        message = f"{KEPT_VARIABLE}={text!r} is not a number of runs."
        raise ConfigurationError(message, "Set it to a whole number from 1.")
    return int(text)


@contextlib.contextmanager
def in_use(directory: Path) -> Iterator[None]:
    """Make a run's directory, readable by its owner alone, and keep it from being pruned."""
    directory.mkdir(parents=True, exist_ok=True, mode=0o700)
    with (directory / _LOCK).open("w") as lock:
        # The lock goes with the process, however that ends.
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield


def prune(runs: Path, checkpoints: Location, keep: int) -> list[str]:
    """Remove all but the newest ``keep`` runs; returns the names of those that went.

    Whatever cannot be removed stays: an old run is no reason not to train.
    """
    aged = sorted(_aged(runs), reverse=True)
    gone = []
    for _, directory in aged[keep:]:
        with contextlib.suppress(OSError), (directory / _LOCK).open("a") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            with contextlib.suppress(DataError):
                checkpoints.join(directory.name).delete()
            shutil.rmtree(directory)
            gone.append(directory.name)
    return gone


def _aged(runs: Path) -> Iterator[tuple[float, Path]]:
    with contextlib.suppress(OSError):
        for directory in runs.iterdir():
            with contextlib.suppress(OSError):
                if directory.is_dir():
                    yield directory.stat().st_mtime, directory
