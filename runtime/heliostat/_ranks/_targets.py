"""Ranks by number: read what users write, and write what users read."""

from __future__ import annotations

from typing import TYPE_CHECKING

from heliostat.exceptions import ConfigurationError

if TYPE_CHECKING:
    from collections.abc import Iterable

__all__ = ["label", "parse_targets", "spell"]


def parse_targets(text: str, count: int) -> tuple[int, ...]:
    """Read ``0``, ``0,2-3``, ``1:4`` (its end is left out, as in Python), ``-1`` (the last) or ``all``.

    Raises
    ------
    ConfigurationError
        It is none of these, or there is no such rank.
    """
    found: list[int] = []
    for part in (piece.strip() for piece in text.replace(" ", ",").split(",")):
        if part:
            found += _range(part, count, text)
    missing = sorted({rank for rank in found if not 0 <= rank < count})
    if missing or not found:
        there = "there is only rank 0" if count == 1 else f"there are ranks 0-{count - 1}"
        what = f"There is no {spell(missing)}: {there}." if missing else f"No rank in {text!r}."
        raise ConfigurationError(what, "Start more with %ranks resize N.", required=missing, available=count)
    return tuple(dict.fromkeys(found))


def _range(part: str, count: int, text: str) -> list[int]:
    try:
        if part == "all":
            return list(range(count))
        if ":" in part:
            first, _, end = part.partition(":")
            return list(range(*slice(_number(first), _number(end)).indices(count)))
        if "-" in part[1:]:
            first, _, last = part[1:].partition("-")
            # A range that runs backwards has a step of 0 to the one before, which is refused below.
            low, high = int(part[0] + first), int(last)
            return list(range(low, high + 1, 1 if low <= high else 0))
        return [count + int(part) if part.startswith("-") else int(part)]
    except ValueError:
        message = f"{part!r} in {text!r} names no rank."
        raise ConfigurationError(message, "Write numbers and ranges, such as 0,2-3.") from None


def _number(text: str) -> int | None:
    return int(text) if text else None


def spell(ranks: Iterable[int]) -> str:
    """Write ``rank 2`` or ``ranks 0-3, 5``."""
    ordered = sorted(set(ranks))
    runs: list[list[int]] = []
    for rank in ordered:
        if runs and runs[-1][-1] == rank - 1:
            runs[-1].append(rank)
        else:
            runs.append([rank])
    numbers = ", ".join(str(run[0]) if len(run) == 1 else f"{run[0]}-{run[-1]}" for run in runs)
    return f"{'rank' if len(ordered) == 1 else 'ranks'} {numbers}"


def label(ranks: Iterable[int]) -> str:
    """What stands before output of ``ranks``."""
    return f"[{spell(ranks)}] "
