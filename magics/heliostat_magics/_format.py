"""Numbers in words. ``None`` is unknown and is said to be so; nobody sees an invented zero."""

from __future__ import annotations

from heliostat._units import format_bytes

__all__ = ["UNKNOWN", "count", "duration", "percent", "share", "size"]

UNKNOWN = "unknown"


def size(number: int | None) -> str:
    """Bytes in the unit that reads best."""
    return UNKNOWN if number is None else format_bytes(number)


def count(number: float | None) -> str:
    """A quantity that is mostly whole, such as CPUs given out."""
    return UNKNOWN if number is None else f"{number:g}"


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
