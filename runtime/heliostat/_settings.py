"""Settings that workers share with the driver they work for, also those that it changed later.

They are environment variables. A Ray worker has those that its cluster was started with; so the
driver leaves its own in the cluster, and ``setting`` asks for them there. What was given to a task
alone, by ``runtime_env``, goes before. A script's changes are left when it asks for its session, a
notebook's before each cell.
"""

from __future__ import annotations

import json
import os
import socket
import time
from contextlib import suppress
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from heliostat._cluster import job_notes

if TYPE_CHECKING:
    from collections.abc import Mapping

WAREHOUSE = "HELIOSTAT_WAREHOUSE"
_DATA_HOME = "XDG_DATA_HOME"
_NAMES = (
    "HELIOSTAT_CATALOG",
    "HELIOSTAT_DATASETS",
    "HELIOSTAT_STAGES",
    "HELIOSTAT_WAREHOUSE_WAIT",
    WAREHOUSE,
    _DATA_HOME,
)
_SECONDS = 0.02
"""How long an answer of the cluster is good for: many files may be opened by the name of their stage."""


@dataclass(frozen=True)
class Place:
    """Where a file is, so that another process can tell whether its path leads to the same file there."""

    host: str
    view: str
    """Boot and mounts: processes that have the same see the same files."""
    file: tuple[int, int] | None
    """Device and inode of the file, if it is there."""

    @classmethod
    def of(cls, path: Path) -> Place:
        """Say where a file of this process is."""
        try:
            view = Path("/proc/sys/kernel/random/boot_id").read_text().strip()
            view += f" {Path('/proc/self/ns/mnt').readlink()}"
        except OSError:
            view = socket.gethostname()
        file = None
        with suppress(OSError):
            found = path.stat()
            file = found.st_dev, found.st_ino
        return cls(socket.gethostname(), view, file)

    def is_here(self, path: Path) -> bool:
        """Whether ``path`` is that file for this process, or would be if it is not there yet."""
        here = Place.of(path)
        if here.view == self.view:
            return True
        if here.file is None or self.file is None:
            return False
        # A directory that two containers share; or a pickle from before the machine was started anew.
        boot, other = self.view.partition(" ")[0], here.view.partition(" ")[0]
        return (
            here.file == self.file
            if boot == other
            else (self.host, self.file[1]) == (here.host, here.file[1])
        )


@dataclass(frozen=True)
class Shared:
    """What a driver leaves for its workers."""

    values: Mapping[str, str]
    warehouse: str
    """Path of the file that the driver's session is of."""
    place: Place
    """Where the file is by which processes take turns on the warehouse."""

    @classmethod
    def parse(cls, content: bytes) -> Shared:
        """Read what ``share`` wrote."""
        read = json.loads(content)
        file = read["place"]["file"]
        place = Place(**{**read["place"], "file": None if file is None else tuple(file)})
        return cls(read["values"], read["warehouse"], place)

    @property
    def is_here(self) -> bool:
        """Whether the driver's files are those of this process."""
        return self.place.is_here(guard_of(Path(self.warehouse)))


def setting(name: str) -> str:
    """Return a setting; empty if it is not set."""
    shared = of_driver()
    if shared is None or name in job_notes.own_variables():
        return os.environ.get(name, "")
    if not shared.is_here and (name == _DATA_HOME or name not in shared.values):
        return os.environ.get(name, "")
    return shared.values.get(name, "")


def share(warehouse: Path) -> None:
    """As a driver: leave the settings for the workers, if they are not those that were left last."""
    values = {name: os.environ[name] for name in _NAMES if os.environ.get(name)}
    note = Shared(values, str(warehouse), Place.of(guard_of(warehouse)))
    job_notes.leave(json.dumps(asdict(note), sort_keys=True).encode())


def of_driver() -> Shared | None:
    """As a worker: what the driver left; ``None`` for all other processes."""
    global _read  # noqa: PLW0603 - one driver of a worker
    if not job_notes.in_worker():
        return None
    now = time.monotonic()
    if _read is None or now - _read[0] > _SECONDS:
        note = job_notes.read()
        _read = now, None if note is None else Shared.parse(note)
    return _read[1]


def guard_of(warehouse: Path) -> Path:
    """File beside a warehouse by which processes take turns; it is there as long as the warehouse."""
    return warehouse.with_name(f"{warehouse.name}.lock")


_read: tuple[float, Shared | None] | None = None
