"""Batches of an exact number of rows, whatever the batches that a source gives."""

from __future__ import annotations

import itertools
from typing import TYPE_CHECKING, Any

from heliostat.data._arrays import as_arrays
from heliostat.exceptions import ConfigurationError

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

    import numpy as np
    import numpy.typing as npt
    import pyarrow as pa

    from heliostat.data._sources import Source

SHUFFLE_ROWS = 262_144
"""Rows that are in memory at a time while they are shuffled, at most."""
SHUFFLE_BYTES = 256 << 20
"""Bytes of such rows, about."""


def batches(
    source: Source,
    batch_size: int,
    *,
    shuffle: bool = False,
    drop_last_batch: bool = True,
    columns: Sequence[str] | None = None,
) -> Iterator[dict[str, npt.NDArray[np.generic]]]:
    """Return an iterator over arrays by column, ``batch_size`` rows at a time, read as it advances.

    Parameters
    ----------
    shuffle:
        Permute the rows by NumPy's global random state, within windows of ``SHUFFLE_ROWS``, or of
        fewer where rows are wide.
    drop_last_batch:
        Leave out the last batch if it has fewer rows.

    Raises
    ------
    ConfigurationError
        ``batch_size`` is not a number of rows.
    """
    size = checked_batch_size(batch_size)

    def read() -> Iterator[dict[str, npt.NDArray[np.generic]]]:
        tables: Iterable[Any] = source.reader(columns)
        if shuffle:
            tables = _shuffled(tables, size)
        for table in rebatched(tables, size):
            if table.num_rows == size or not drop_last_batch:
                yield as_arrays(table)

    return read()


def rebatched(parts: Iterable[Any], size: int) -> Iterator[pa.Table]:
    """Cut and join record batches or tables to tables of ``size`` rows; the last may have fewer."""
    import pyarrow as pa

    held: list[Any] = []
    rows = 0
    for part in parts:
        table = part if isinstance(part, pa.Table) else pa.Table.from_batches([part])
        start = 0
        while rows + table.num_rows - start >= size:
            held.append(table.slice(start, size - rows))
            start += held[-1].num_rows
            yield pa.concat_tables(held)
            held, rows = [], 0
        if start < table.num_rows:
            held.append(table.slice(start))
            rows += held[-1].num_rows
    if held:
        yield pa.concat_tables(held)


def checked_batch_size(batch_size: Any) -> int:
    """Return the number of rows. Raises ConfigurationError when it is not one."""
    if isinstance(batch_size, bool) or not isinstance(batch_size, int) or batch_size < 1:
        message = f"batch_size={batch_size!r} is not a number of rows."
        raise ConfigurationError(message, "Pass 1 or more.")
    return batch_size


def _shuffled(parts: Iterable[Any], least: int) -> Iterator[pa.Table]:
    """Permute windows of ``SHUFFLE_ROWS`` rows, or of fewer where rows are wide."""
    running = iter(parts)
    first = next(running, None)
    if first is not None:
        fitting = SHUFFLE_BYTES // max(first.nbytes // max(first.num_rows, 1), 1)
        window = max(min(SHUFFLE_ROWS, fitting), least)
        yield from map(_permuted, rebatched(itertools.chain([first], running), window))


def _permuted(table: pa.Table) -> pa.Table:
    import numpy as np

    return table.take(np.random.permutation(table.num_rows))
