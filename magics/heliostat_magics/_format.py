"""Numbers in words. ``None`` is unknown and is said to be so; nobody sees an invented zero."""

from __future__ import annotations

from typing import TYPE_CHECKING

from heliostat._units import format_bytes

if TYPE_CHECKING:
    from heliostat._messages.work import Work
    from heliostat._progress import TaskSnapshot

__all__ = ["UNKNOWN", "amount", "count", "duration", "metrics", "percent", "share", "size"]

UNKNOWN = "unknown"


def size(number: int | None) -> str:
    """Bytes in the unit that reads best."""
    return UNKNOWN if number is None else format_bytes(number)


def count(number: float | None) -> str:
    """A quantity that is mostly whole, such as CPUs given out."""
    return UNKNOWN if number is None else f"{number:g}"


def amount(work: TaskSnapshot | Work) -> str:
    """How far work is; empty where it does not say."""
    if work.total is not None:
        return f"{work.done:.12g} of {work.total:.12g} {work.unit}".strip()
    return f"{work.done:.12g} {work.unit}".strip() if work.done else ""


def metrics(work: TaskSnapshot | Work) -> list[str]:
    """The latest value of each metric of work."""
    return [f"{name} {value:.4g}" for name, value in work.metrics.items()]


def percent(number: float | None) -> str:
    """A percentage without decimals."""
    return UNKNOWN if number is None else f"{number:.0f} %"


def duration(seconds: float | None) -> str:
    """Seconds as people say them."""
    if seconds is None:
        return UNKNOWN
    seconds = max(seconds, 0.0)
    if seconds < 60:
        return f"{seconds:.1f} s"
    minutes, rest = divmod(round(seconds), 60)
    if minutes < 60:
        return f"{minutes} min {rest} s"
    hours, minutes = divmod(minutes, 60)
    return f"{hours} h {minutes} min"


def share(part: float | None, whole: float | None) -> float | None:
    """``part`` of ``whole`` as 0..1; ``None`` where that cannot be said."""
    if part is None or not whole:
        return None
    return min(max(part / whole, 0.0), 1.0)
