"""Folds what ranks say: equal lines of several ranks become one line with their numbers. Pure.

A line waits a moment for its equals. Nothing is dropped and the order of each rank is kept: a
line of rank 0 that ranks 1-3 will say later waits for them, unless it is too old. Lines are
handled in blocks, as they arrive: a flood costs little more than the comparison of its lines.
"""

from __future__ import annotations

from collections import Counter, defaultdict, deque
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

__all__ = ["Folded", "Folder", "Lines", "Piece", "visible"]

HOLD_SECONDS = 0.25
_WINDOW = 32


@dataclass
class Piece:
    """What a rank showed at once: lines of a stream, or one object with its forms."""

    kind: str
    """``stdout``, ``stderr``, ``display``, ``result``, ``update`` or ``clear``."""
    lines: list[str]
    """Of an object, one text that tells whether another one is the same."""
    at: float = 0.0
    content: dict[str, Any] = field(default_factory=dict)
    start: int = 0
    """How many of the lines were given out."""

    @property
    def left(self) -> int:
        """How many lines were not."""
        return len(self.lines) - self.start

    def like(self, other: Piece) -> bool:
        """Whether both begin with the same."""
        return self.kind == other.kind and self.lines[self.start] == other.lines[other.start]


@dataclass(frozen=True)
class Folded:
    """What ranks have in common."""

    ranks: tuple[int, ...]
    kind: str
    lines: Sequence[str]
    content: dict[str, Any]

    @property
    def rich(self) -> bool:
        """Whether it is more than lines."""
        return self.kind not in ("stdout", "stderr")


class Lines:
    """Makes lines of the pieces of one stream of one rank."""

    def __init__(self) -> None:
        self._rest: list[str] = []

    @property
    def rest(self) -> str:
        """The line that has no end yet."""
        if len(self._rest) > 1:
            self._rest = ["".join(self._rest)]
        return self._rest[0] if self._rest else ""

    def feed(self, text: str) -> list[str]:
        """Add a piece; returns the lines that are whole now, as a terminal would show them."""
        if "\n" not in text:
            if "\r" in text:
                rest = self.rest + text
                text = rest[rest.rstrip("\r").rfind("\r") + 1 :]
                self._rest = []
            if text:
                self._rest.append(text)
            return []
        *lines, rest = (self.rest + text).split("\n")
        self._rest = [rest] if rest else []
        return [visible(line) for line in lines] if "\r" in text or "\r" in lines[0] else lines

    def finish(self) -> list[str]:
        """Give up what has no end of line."""
        rest, self._rest = self.rest, []
        return [visible(rest)] if rest else []


def visible(line: str) -> str:
    """What a terminal leaves of a line with carriage returns in it: what was written last."""
    return line.rstrip("\r").rpartition("\r")[2]


class Folder:
    """Collects what ranks show and gives it out folded."""

    def __init__(self, ranks: Iterable[int], hold: float = HOLD_SECONDS) -> None:
        self._hold = hold
        self._queues: dict[int, deque[Piece]] = {rank: deque() for rank in ranks}
        self._counts: dict[int, dict[str, Counter[str]]] = {
            rank: defaultdict(Counter) for rank in self._queues
        }
        """How often each rank will still say a line, by its kind."""
        self._finished: set[int] = set()

    def add(self, rank: int, piece: Piece) -> None:
        """Take what ``rank`` showed."""
        if piece.lines:
            self._queues[rank].append(piece)
            self._counts[rank][piece.kind].update(piece.lines)

    def finish(self, rank: int) -> None:
        """Note that ``rank`` will show nothing more."""
        self._finished.add(rank)

    @property
    def waiting(self) -> bool:
        """Whether something is held back."""
        return any(self._queues.values())

    def take(self, now: float) -> Iterator[Folded]:
        """Give out what need not wait any longer."""
        while True:
            heads = {rank: queue[0] for rank, queue in self._queues.items() if queue}
            if not heads:
                return
            owners, count = self._next(heads)
            first = heads[owners[0]]
            silent = any(rank not in heads and rank not in self._finished for rank in self._queues)
            if silent and now - min(heads[rank].at for rank in owners) < self._hold:
                return
            lines = first.lines[first.start : first.start + count]
            for rank in owners:
                self._drop(rank, lines)
            yield Folded(tuple(owners), first.kind, lines, first.content)

    def _next(self, heads: dict[int, Piece]) -> tuple[list[int], int]:
        """Choose a head that nobody else has further back, else the lowest rank's.

        Returns its owners, and for how many lines they go on alike, with nothing that others have
        further back.
        """
        chosen, certain = [next(iter(heads))], False
        for rank, piece in heads.items():
            owners = [other for other in heads if heads[other].like(piece)]
            if len(owners) == len(heads):
                return owners, _common([*heads.values()])
            line = piece.lines[piece.start]
            if not any(line in self._counts[other][piece.kind] for other in heads if other not in owners):
                chosen, certain = owners, True
                break
            if rank == chosen[0]:
                chosen = owners
        if not certain:
            return chosen, 1
        others = [self._counts[other][heads[chosen[0]].kind] for other in heads if other not in chosen]
        return chosen, _alone([heads[rank] for rank in chosen], others)

    def _drop(self, rank: int, lines: Sequence[str]) -> None:
        queue = self._queues[rank]
        piece = queue[0]
        piece.start += len(lines)
        if not piece.left:
            queue.popleft()
        if not queue:
            self._counts[rank].clear()
            return
        counts = self._counts[rank][piece.kind]
        for line in lines:
            if counts[line] == 1:
                del counts[line]
            else:
                counts[line] -= 1


def _common(pieces: Sequence[Piece]) -> int:
    """How many lines all pieces begin with."""
    first, *others = pieces
    most, same, window = min(piece.left for piece in pieces), 1, _WINDOW
    while same < most:
        step = min(window, most - same)
        lines = first.lines[first.start + same : first.start + same + step]
        for other in others:
            theirs = other.lines[other.start + same : other.start + same + len(lines)]
            if theirs != lines:
                lines = lines[: next(at for at, line in enumerate(lines) if line != theirs[at])]
        same += len(lines)
        if len(lines) < step:
            break
        window *= 4
    return same


def _alone(pieces: Sequence[Piece], others: Sequence[Counter[str]]) -> int:
    """How many lines all pieces begin with that nobody else has."""
    first, most = pieces[0], _common(pieces)
    alone, window = 1, _WINDOW
    while alone < most:
        lines = first.lines[first.start + alone : first.start + min(most, alone + window)]
        if not all(counts.keys().isdisjoint(lines) for counts in others):
            return alone + next(at for at, line in enumerate(lines) if any(line in each for each in others))
        alone += len(lines)
        window *= 4
    return most
