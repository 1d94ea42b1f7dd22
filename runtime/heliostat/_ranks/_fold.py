"""Folds what ranks say: equal lines of several ranks become one line with their numbers. Pure.

A line waits a moment for its equals. Nothing is dropped and the order of each rank is kept: a
line of rank 0 that ranks 1-3 will say later waits for them, unless it is too old.
"""

from __future__ import annotations

from collections import Counter, deque
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

__all__ = ["Folder", "Item", "Lines", "visible"]

HOLD_SECONDS = 0.25


@dataclass(frozen=True)
class Item:
    """Something that a rank showed: a line of a stream, or an object with its forms."""

    kind: str
    """``stdout``, ``stderr``, ``display``, ``result``, ``update`` or ``clear``."""
    text: str = ""
    content: dict[str, Any] = field(default_factory=dict, compare=False, hash=False)

    @property
    def rich(self) -> bool:
        """Whether it is more than a line."""
        return self.kind not in ("stdout", "stderr")


class Lines:
    """Makes lines of the pieces of one stream of one rank."""

    def __init__(self) -> None:
        self.rest = ""

    def feed(self, text: str) -> list[str]:
        """Add a piece; returns the lines that are whole now, as a terminal would show them."""
        if "\n" not in text:
            self.rest += text
            if "\r" in text:
                self.rest = self.rest[self.rest.rstrip("\r").rfind("\r") + 1 :]
            return []
        *lines, self.rest = (self.rest + text).split("\n")
        return [visible(line) for line in lines] if "\r" in text or "\r" in lines[0] else lines

    def finish(self) -> list[str]:
        """Give up what has no end of line."""
        rest, self.rest = self.rest, ""
        return [visible(rest)] if rest else []


def visible(line: str) -> str:
    """What a terminal leaves of a line with carriage returns in it: what was written last."""
    return line.rstrip("\r").rpartition("\r")[2]


class Folder:
    """Collects items of ranks and gives them out folded."""

    def __init__(self, ranks: Iterable[int], hold: float = HOLD_SECONDS) -> None:
        self._hold = hold
        self._queues: dict[int, deque[tuple[Item, float]]] = {rank: deque() for rank in ranks}
        self._counts: dict[int, Counter[Item]] = {rank: Counter() for rank in self._queues}
        self._finished: set[int] = set()

    def add(self, rank: int, items: Iterable[Item], now: float) -> None:
        """Take what ``rank`` showed."""
        found = list(items)
        self._queues[rank].extend((item, now) for item in found)
        self._counts[rank].update(found)

    def finish(self, rank: int) -> None:
        """Note that ``rank`` will show nothing more."""
        self._finished.add(rank)

    @property
    def waiting(self) -> bool:
        """Whether something is held back."""
        return any(self._queues.values())

    def take(self, now: float) -> Iterator[tuple[tuple[int, ...], Item]]:
        """Give out what need not wait any longer."""
        while True:
            silent = [rank for rank, held in self._queues.items() if not held and rank not in self._finished]
            speaking = [rank for rank, held in self._queues.items() if held]
            if not speaking:
                return
            owners, item = self._next(speaking)
            age = now - min(self._queues[rank][0][1] for rank in owners)
            if silent and age < self._hold:
                return
            for rank in owners:
                self._pop(rank, item)
            yield tuple(owners), item
            if len(owners) == 1:
                yield from self._run_on(owners[0], speaking, now, wait=bool(silent))

    def _next(self, speaking: list[int]) -> tuple[list[int], Item]:
        """Choose the first head that nobody else has further back; else the lowest rank's."""
        heads = {rank: self._queues[rank][0][0] for rank in speaking}
        first = heads[speaking[0]]
        if all(item is first or item == first for item in heads.values()):
            return speaking, first
        for rank in speaking:
            item = heads[rank]
            if not any(self._counts[other][item] for other in speaking if heads[other] != item):
                return [other for other in speaking if heads[other] == item], item
        item = heads[speaking[0]]
        return [other for other in speaking if heads[other] == item], item

    def _run_on(
        self, rank: int, speaking: list[int], now: float, *, wait: bool
    ) -> Iterator[tuple[tuple[int, ...], Item]]:
        """Go on with a rank as long as only it says what it says; most of a flood is like that."""
        queue = self._queues[rank]
        others = [self._counts[other] for other in speaking if other != rank]
        while queue:
            item, at = queue[0]
            if (wait and now - at < self._hold) or any(item in counts for counts in others):
                return
            self._pop(rank, item)
            yield (rank,), item

    def _pop(self, rank: int, item: Item) -> None:
        self._queues[rank].popleft()
        counts = self._counts[rank]
        counts[item] -= 1
        if not counts[item]:
            del counts[item]
