"""In which order rows come: pure arithmetic over row counts, the same in every process.

An epoch is one stream of rows. It is cut into windows; a window is what is decoded, permuted and
held at a time. Whoever reads (a DataLoader worker, a position to resume at) takes a span of that
stream, so a batch has the same rows whatever the number of workers, and after a restart.
"""

from __future__ import annotations

import itertools
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal, TypeAlias

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Sequence

Shuffle: TypeAlias = Literal["none", "window", "global"]
Key: TypeAlias = tuple[int, ...]
"""What decides an epoch's order: the seed, and numbers that differ between epochs."""

_UNITS, _ROWS, _BUCKETS = range(3)


@dataclass(frozen=True)
class Window:
    """Rows that are decoded and permuted together.

    ``units`` are numbers of reading units, in the order of the stream; ``first`` is the place of
    the window's first row in the stream.
    """

    number: int
    units: tuple[int, ...]
    first: int
    rows: int

    @property
    def stop(self) -> int:
        """Place after the last row."""
        return self.first + self.rows


def generator(key: Key, purpose: int, number: int) -> np.random.Generator:
    """Random numbers that depend on the arguments alone."""
    return np.random.default_rng([*key, purpose, number])


def coalesced(rows: Sequence[int], least: int) -> list[range]:
    """Join neighbours until each run has ``least`` rows, as far as there are any.

    Small row groups would make small windows: a poor shuffle and much work for each row.
    """
    runs: list[range] = []
    first = held = 0
    for index, count in enumerate(rows):
        held += count
        if held >= least or index == len(rows) - 1:
            runs.append(range(first, index + 1))
            first, held = index + 1, 0
    return runs


def unit_order(origins: Sequence[int], size: int, key: Key) -> list[int]:
    """Put units in a random order, in which parts of one origin stay in theirs.

    The origins come in a random order, ``size`` of them side by side: a part of each in turn. So
    a window has rows of ``size`` origins, and each origin is read from its beginning to its end.
    """
    parts: dict[int, list[int]] = {}
    for unit, origin in enumerate(origins):
        parts.setdefault(origin, []).append(unit)
    found = list(parts.values())
    mixed = [found[index] for index in generator(key, _UNITS, 0).permutation(len(found))]
    order: list[int] = []
    for first in range(0, len(mixed), size):
        for turn in itertools.zip_longest(*mixed[first : first + size]):
            order += [unit for unit in turn if unit is not None]
    return order


def windows(
    unit_rows: Sequence[int], size: int = 1, key: Key | None = None, origins: Sequence[int] | None = None
) -> tuple[Window, ...]:
    """Cut an epoch into windows of ``size`` units; with a ``key``, see :func:`unit_order`.

    Without ``origins`` each unit is one of its own.
    """
    order = list(range(len(unit_rows)))
    if key is not None:
        order = unit_order(order if origins is None else origins, size, key)
    made: list[Window] = []
    first = 0
    for start in range(0, len(order), size):
        units = tuple(order[start : start + size])
        rows = sum(unit_rows[unit] for unit in units)
        made.append(Window(len(made), units, first, rows))
        first += rows
    return tuple(made)


def permutation(key: Key, window: Window) -> np.ndarray[tuple[int], np.dtype[np.int64]]:
    """Where each row of a window goes within it."""
    return generator(key, _ROWS, window.number).permutation(window.rows)


def bucket_labels(key: Key, unit: int, rows: int, buckets: int) -> np.ndarray[tuple[int], np.dtype[Any]]:
    """Bucket of each row of a unit, for a global shuffle.

    Each row draws its bucket independently, and a bucket is permuted when it is read. Together
    that sorts all rows by one uniform random key each: every order of the table is equally likely.
    """
    # Small integers are sorted several times as fast.
    kind = np.uint16 if buckets <= 1 << 16 else np.int64
    return generator(key, _BUCKETS, unit).integers(0, buckets, rows, dtype=kind)


def bucket_windows(sizes: Sequence[int]) -> tuple[Window, ...]:
    """Windows of a global shuffle: one for each bucket, empty ones left out of the stream."""
    made: list[Window] = []
    first = 0
    for number, rows in enumerate(sizes):
        made.append(Window(number, (), first, rows))
        first += rows
    return tuple(made)


def span(rows: int, batch_size: int, worker: int, workers: int, *, drop_last: bool) -> range:
    """Rows of the stream that a worker delivers: consecutive whole batches.

    The spans of all workers together are the stream, without its incomplete last batch where
    ``drop_last`` is set; otherwise that one belongs to the last worker.
    """
    batches = rows // batch_size if drop_last else -(-rows // batch_size)
    start, stop = (batches * index // workers * batch_size for index in (worker, worker + 1))
    return range(min(start, rows), min(stop, rows))
