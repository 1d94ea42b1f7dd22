"""In which order rows come: pure arithmetic over row counts, the same in every process.

An epoch is one stream of rows. It is cut into windows; a window is what is decoded, permuted and
held at a time. Whoever reads (a DataLoader worker, a position to resume at) takes a span of that
stream, so a batch has the same rows whatever the number of workers, and after a restart.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal, TypeAlias

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


def windows(unit_rows: Sequence[int], size: int = 1, key: Key | None = None) -> tuple[Window, ...]:
    """Cut an epoch into windows of ``size`` units; with a ``key``, units come in a random order."""
    order = np.arange(len(unit_rows))
    if key is not None:
        order = generator(key, _UNITS, 0).permutation(len(unit_rows))
    made: list[Window] = []
    first = 0
    for start in range(0, len(order), size):
        units = tuple(int(unit) for unit in order[start : start + size])
        rows = sum(unit_rows[unit] for unit in units)
        made.append(Window(len(made), units, first, rows))
        first += rows
    return tuple(made)


def permutation(key: Key, window: Window) -> np.ndarray[tuple[int], np.dtype[np.int64]]:
    """Order of the rows within a window."""
    return generator(key, _ROWS, window.number).permutation(window.rows)


def bucket_labels(key: Key, unit: int, rows: int, buckets: int) -> np.ndarray[tuple[int], np.dtype[np.int32]]:
    """Bucket of each row of a unit, for a global shuffle.

    Each row draws its bucket independently, and a bucket is permuted when it is read. Together
    that sorts all rows by one uniform random key each: every order of the table is equally likely.
    """
    return generator(key, _BUCKETS, unit).integers(0, buckets, rows, dtype=np.int32)


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


def share(unit_rows: Sequence[int], rank: int, ranks: int, *, equal: bool) -> list[tuple[int, int, int]]:
    """Cut a table for ranks: ``(unit, start, stop)`` within the unit for each part of this rank's rows.

    Ranks get consecutive rows. With ``equal`` all get the same number and the remainder, fewer
    rows than there are ranks, is left out; without it the numbers differ by one at most.
    """
    total = sum(unit_rows)
    if equal:
        start, stop = (total // ranks * index for index in (rank, rank + 1))
    else:
        start, stop = (total * index // ranks for index in (rank, rank + 1))
    parts: list[tuple[int, int, int]] = []
    first = 0
    for unit, rows in enumerate(unit_rows):
        low, high = max(start - first, 0), min(stop - first, rows)
        if low < high:
            parts.append((unit, low, high))
        first += rows
    return parts
