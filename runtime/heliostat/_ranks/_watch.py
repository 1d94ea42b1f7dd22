"""Says where ranks are, in one line for those that are at the same place."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from heliostat._ranks._targets import spell

if TYPE_CHECKING:
    from collections.abc import Sequence

    from heliostat._ranks._group import RankGroup

__all__ = ["describe"]

_ANSWER_SECONDS = 1.0
_FRAME = re.compile(r'^  File "(?P<file>.+)", line (?P<line>\d+) in (?P<name>.+)$')


def describe(group: RankGroup, ranks: Sequence[int]) -> list[str]:
    """Lines such as ``ranks 0-2: all_reduce (…), from cell:4 `dist.all_reduce(t)```."""
    answers = group.ask("rank_frames_request", ranks, _ANSWER_SECONDS)
    places: dict[str, list[int]] = {}
    for number, answer in answers.items():
        if answer is not None:
            place = answer["frame"] or "the cell has not begun, or has just ended"
        else:
            place = (
                _from_stacks(group.ranks[number].stacks()) or "no answer: it is in C code and holds the GIL"
            )
        places.setdefault(place, []).append(number)
    return [f"{spell(numbers)}: {place}" for place, numbers in places.items()]


def _from_stacks(text: str) -> str:
    """Name the innermost frame of the main thread in what faulthandler wrote."""
    _, _, main = text.rpartition("Thread 0x")
    for line in main.splitlines():
        match = _FRAME.match(line)
        if match is not None:
            file = match["file"].rpartition("/")[2]
            place = f"{match['name']} ({'cell' if 'ipykernel_' in match['file'] else file}:{match['line']})"
            return f"{place}, in C code that holds the GIL"
    return ""
