"""Rows on their way to workers: opened once, then cut into parts as often as workers change."""

from __future__ import annotations

import itertools
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from heliostat.data._shards import Shard, cut, sharded

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    import pyarrow as pa

    from heliostat.data.data_connector import DataConnector


@dataclass(frozen=True)
class Part:
    """Consecutive rows; small, and readable on every worker."""

    shard: Shard

    @property
    def rows(self) -> int:
        """How many there are."""
        return self.shard.rows

    def tables(self, columns: Sequence[str] | None = None) -> Iterator[pa.Table]:
        """Decode piece by piece, in order."""
        return self.shard.tables(columns)

    def pieces(self) -> list[Part]:
        """Smaller parts that can be decoded side by side, in order."""
        return [Part(Shard((piece,), self.shard.columns)) for piece in self.shard.slices]


@dataclass(frozen=True)
class Rows:
    """All rows of one data set."""

    whole: Part

    @property
    def rows(self) -> int:
        """How many there are."""
        return self.whole.rows

    def split(self, count: int) -> list[Part]:
        """Divide into ``count`` parts whose lengths differ by one at most."""
        return self.cut([self.rows * index // count for index in range(1, count)])

    def cut(self, edges: Sequence[int]) -> list[Part]:
        """Cut before each row in ``edges``, which ascend."""
        shard = self.whole.shard
        return [
            Part(Shard(cut(shard.slices, start, stop), shard.columns))
            for start, stop in itertools.pairwise([0, *edges, self.rows])
        ]


@contextmanager
def open_rows(
    named: Mapping[str, tuple[DataConnector, Sequence[str]]], directory: str | None
) -> Iterator[dict[str, Rows]]:
    """Make rows readable on workers for the length of a ``with`` block.

    Raises ConfigurationError where there is no room for them, DataError where they cannot be read.
    """
    with ExitStack() as stack:
        yield {
            name: Rows(
                Part(
                    stack.enter_context(sharded(connector, 1, columns=list(columns), directory=directory))[0]
                )
            )
            for name, (connector, columns) in named.items()
        }


def at_groups(rows: Rows, column: str, count: int) -> list[Part]:
    """Divide into ``count`` parts about equal in rows, none of which begins inside of a group.

    Raises
    ------
    DataError
        Groups are not sorted, or there are fewer than ``count``.
    """
    import numpy as np

    from heliostat.exceptions import DataError

    starts: list[Any] = []
    first, last = 0, None
    for table in rows.whole.tables([column]):
        values = table.column(column).to_numpy()
        before = values[:1] if last is None else np.array([last], dtype=values.dtype)
        steps = np.diff(np.concatenate([before, values]))
        if (steps < 0).any():
            message = f"The groups in {column!r} are not sorted."
            raise DataError(message, "Sort the rows by it, so that each group lies together.", column=column)
        starts.append(first + np.flatnonzero(steps))
        first, last = first + len(values), values[-1]
    edges = np.concatenate([[0], *starts])
    if len(edges) < count:
        message = f"There are fewer groups ({len(edges)}) than workers ({count})."
        raise DataError(message, "Ask for fewer workers in the scaling config.")
    wanted = [rows.rows * index // count for index in range(1, count)]
    chosen: list[int] = []
    for index, row in enumerate(wanted, 1):
        lowest = int(np.searchsorted(edges, chosen[-1], "right")) if chosen else 1
        nearest = int(np.searchsorted(edges, row))
        chosen.append(int(edges[min(max(nearest, lowest), len(edges) - (count - index))]))
    return rows.cut(chosen)
