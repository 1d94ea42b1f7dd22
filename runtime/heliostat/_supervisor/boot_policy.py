"""Whether a runtime can be booted here and with what, decided before anything is started."""

from __future__ import annotations

import os
from dataclasses import dataclass
from typing import TYPE_CHECKING

from heliostat._cluster.slim import NodeShape
from heliostat._messages.cluster import Limits, Resources
from heliostat._supervisor.limits import disk_use, memory_use, shm_use
from heliostat._supervisor.wishes import complete
from heliostat._units import format_bytes, parse_bytes
from heliostat.exceptions import BootError

if TYPE_CHECKING:
    from pathlib import Path

    from heliostat._messages.resizing import ResizeTarget

DEFAULT_LEAST_DISK = 200 << 20
"""Bytes: Ray's logs and a little spilling need this much."""
SMALLEST_STORE = 80 << 20
"""Bytes: Ray refuses an object store that is smaller."""
_STORE_SHARE = 0.3
_MEMORY_SHARE = 0.7
_LARGEST_DEFAULT_STORE = 200 << 30


@dataclass(frozen=True)
class Surroundings:
    """What the machine offers at the moment of booting, in bytes."""

    memory: int
    shm_free: int | None
    disk_free: int | None
    least_disk: int
    directory: str


def look_around(directory: Path) -> Surroundings:
    """Read the machine. ``HELIOSTAT_LEAST_DISK`` sets the free disk that is asked for."""
    shm, disk = shm_use(), disk_use(directory)
    return Surroundings(
        memory=memory_use().limit_bytes,
        shm_free=None if shm is None else shm.limit_bytes - shm.used_bytes,
        disk_free=None if disk is None else disk.limit_bytes - disk.used_bytes,
        least_disk=parse_bytes(
            os.environ.get("HELIOSTAT_LEAST_DISK", DEFAULT_LEAST_DISK), "HELIOSTAT_LEAST_DISK"
        ),
        directory=str(directory),
    )


@dataclass(frozen=True)
class BootPlan:
    """What the head is booted with, and what the user should know about it."""

    shape: NodeShape
    limits: Limits
    wanted: Resources
    """Totals to reach after the head is up; equal to the shape where nothing is left to do."""
    notes: tuple[str, ...] = ()


def plan_boot(target: ResizeTarget, limits: Limits, around: Surroundings, *, in_place: bool) -> BootPlan:
    """Decide what to boot.

    Raises
    ------
    ResizeError
        The target cannot be had on this machine.
    BootError
        The disk is full, or ``/dev/shm`` is too small for the object store that was asked for.
    """
    _require_disk(around)
    store, directory, notes = _object_store(target, around)
    memory = min(limits.memory_bytes, int(around.memory * _MEMORY_SHARE))
    nothing = Resources(
        cpus=limits.cpus, gpus=limits.gpus, memory_bytes=memory, object_store_bytes=store, nodes=1
    )
    wanted = complete(nothing, target, limits)
    head_cpus = max(1, int(wanted.cpus) - (wanted.nodes - 1))
    shape = NodeShape(
        # A raylet starts as many workers at once as it had CPUs at its own start, however much it
        # grows later: it starts with all there are and is made smaller at once.
        cpus=max(limits.cpus, head_cpus) if in_place else head_cpus,
        # All GPUs are installed and the unwanted ones parked: Ray cannot add one later.
        gpus=limits.gpus,
        memory_bytes=wanted.memory_bytes,
        object_store_bytes=store,
        plasma_directory=directory,
    )
    return BootPlan(shape, limits, wanted, notes)


def _require_disk(around: Surroundings) -> None:
    if around.disk_free is None or around.disk_free >= around.least_disk:
        return
    free, least = format_bytes(around.disk_free), format_bytes(around.least_disk)
    message = f"The disk of {around.directory} is full: {free} left, and a runtime needs {least}."
    action = "Free some space, or set HELIOSTAT_TMPDIR to a directory on another disk."
    raise BootError(message, action, required=around.least_disk, available=around.disk_free)


def _object_store(target: ResizeTarget, around: Surroundings) -> tuple[int, str | None, tuple[str, ...]]:
    shm, asked = around.shm_free, target.object_store_bytes
    if asked is not None:
        if shm is not None and asked > shm:
            has = f"/dev/shm has {format_bytes(shm)} free"  # noqa: S108 - named, not used
            message = f"An object store of {format_bytes(asked)} was asked for and {has}."
            action = (
                "Ask for less, or enlarge it: docker run --shm-size, or mount -o remount,size=8G /dev/shm."
            )
            raise BootError(message, action, required=asked, available=shm)
        return max(asked, SMALLEST_STORE), None, ()
    default = min(int(around.memory * _STORE_SHARE), _LARGEST_DEFAULT_STORE)
    if shm is None or shm >= default:
        return default, None, ()
    if shm >= 2 * SMALLEST_STORE:
        return int(shm * 0.95), None, ()
    note = (
        f"shared memory has only {format_bytes(shm)}, so objects are kept on disk, which is slower; "
        "enlarge /dev/shm (docker run --shm-size)"
    )
    return max(SMALLEST_STORE, min(default, 1 << 30)), around.directory, (note,)
