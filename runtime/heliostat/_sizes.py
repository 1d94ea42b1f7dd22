"""Sizes as a user gives them, turned into a target, or refused by name."""

from __future__ import annotations

from heliostat._messages.resizing import ResizeTarget
from heliostat._units import parse_bytes
from heliostat.exceptions import ConfigurationError

Count = int | str | None
Size = int | str | None


def make_target(
    *,
    cpus: Count = None,
    gpus: Count = None,
    memory: Size = None,
    object_store_memory: Size = None,
    nodes: Count = None,
) -> ResizeTarget:
    """Build a target. Counts are whole numbers, sizes are bytes or text such as ``"4GiB"``.

    Raises
    ------
    ConfigurationError
        A value is not a number; whether it can be had is for the supervisor to say.
    """
    return ResizeTarget(
        cpus=_count("cpus", cpus),
        gpus=_count("gpus", gpus),
        memory_bytes=None if memory is None else parse_bytes(memory, "memory"),
        object_store_bytes=(
            None if object_store_memory is None else parse_bytes(object_store_memory, "object_store_memory")
        ),
        nodes=_count("nodes", nodes),
    )


def _count(name: str, value: Count) -> int | None:
    if value is None:
        return None
    if isinstance(value, str) and value.strip().lstrip("+-").isdecimal():
        value = int(value)
    if isinstance(value, bool) or not isinstance(value, int):
        message = f"{name} is {value!r}, which is not a whole number."
        raise ConfigurationError(message, f"Give a number, such as {name}=2.")
    return value
