"""Rows as a pandas DataFrame.

Numbers in Parquet files are decoded in threads straight into the blocks that the frame is made of,
so there is one copy of them and no other. Types are those that pyarrow's own conversion gives.
"""

from __future__ import annotations

import functools
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from heliostat._extras import require
from heliostat.data._loading._decode import PART_BYTES, Decoder
from heliostat.data._loading._pool import in_order, usable_cpus

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    import pandas as pd
    import pyarrow as pa

    from heliostat.data._shards import RowSlice
    from heliostat.data._sources import Source

_MOST_THREADS = 8


def to_pandas(source: Source, limit: int | None = None) -> pd.DataFrame:
    """Load the first ``limit`` rows (default: all). Raises MissingDependencyError without pandas."""
    require("pandas", "pandas", "to_pandas()")
    slices = source.slices()
    if slices is not None:
        from heliostat.data._shards import cut

        rows = sum(part.rows for part in slices)
        wanted = cut(slices, 0, rows if limit is None else min(limit, rows))
        if wanted:
            return frame_of(wanted, source.schema())
    table = source.reader(limit=limit).read_all()
    # Only buffers that are nobody else's may be freed while they are converted.
    frame: pd.DataFrame = table.to_pandas(split_blocks=source.owned, self_destruct=source.owned)
    return frame


@dataclass(frozen=True)
class Layout:
    """Which column is decoded into which block: positions in the schema."""

    blocks: dict[str, tuple[int, ...]]
    """By NumPy type."""
    texts: tuple[int, ...]
    others: tuple[int, ...]
    """Types with missing values or without a NumPy type; pyarrow converts them."""


def layout(schema: pa.Schema, nullable: frozenset[int]) -> Layout:
    """Decide on blocks; ``nullable`` are positions of columns that may have nulls."""
    from pyarrow import types

    blocks: dict[str, list[int]] = {}
    texts: list[int] = []
    others: list[int] = []
    for position, field in enumerate(schema):
        kind = field.type
        # A float has NaN for a null; whatever else has nulls changes its type in pandas.
        whole = (types.is_integer(kind) or types.is_boolean(kind)) and position not in nullable
        if whole or types.is_float32(kind) or types.is_float64(kind):
            blocks.setdefault(np.dtype(kind.to_pandas_dtype()).name, []).append(position)
        elif types.is_string(kind) or types.is_large_string(kind):
            texts.append(position)
        else:
            others.append(position)
    return Layout({name: tuple(at) for name, at in blocks.items()}, tuple(texts), tuple(others))


def frame_of(slices: Sequence[RowSlice], schema: pa.Schema) -> pd.DataFrame:
    """Decode slices into a frame. Raises DataError with the file and column that cannot be read."""
    import pyarrow as pa

    decoder = Decoder()
    plan = layout(schema, _nullable(slices, schema, decoder))
    rows = sum(part.rows for part in slices)
    blocks = {name: np.empty((len(at), rows), name) for name, at in plan.blocks.items()}
    firsts = np.cumsum([0, *(part.rows for part in slices)]).tolist()
    steps: list[Callable[[], pa.Table | None]] = []
    for part, first in zip(slices, firsts, strict=False):
        for some in _portions(plan, part.rows):
            columns = [(schema.field(plan.blocks[name][at]).name, blocks[name][at]) for name, at in some]
            steps.append(functools.partial(_fill, decoder, part, dict(columns), first))
        if plan.texts or plan.others:
            steps.append(functools.partial(_rest, decoder, part, schema, plan))
    threads = min(usable_cpus() + 1, _MOST_THREADS, len(steps))
    tables = list(in_order(lambda step: step(), steps, threads, threads))
    found = [table for table in tables if table is not None]
    del tables
    rest = None
    if found:
        table = pa.concat_tables(found)
        del found
        rest = table.to_pandas(split_blocks=True, self_destruct=True)
        del table
    return _assembled(schema, plan, blocks, rest, rows)


def _nullable(slices: Sequence[RowSlice], schema: pa.Schema, decoder: Decoder) -> frozenset[int]:
    """Positions of columns for which no statistics say that there are no nulls."""
    found: set[int] = set()
    for part in slices:
        footer = decoder.footer(part)
        if footer.num_columns != len(schema):  # nested types: leaves are not columns
            return frozenset(range(len(schema)))
        group = footer.row_group(part.row_group)
        for position in range(len(schema)):
            if position in found:
                continue
            statistics = group.column(position).statistics
            if group.column(position).path_in_schema != schema.field(position).name:
                return frozenset(range(len(schema)))
            if statistics is None or not statistics.has_null_count or statistics.null_count:
                found.add(position)
    return frozenset(found)


def _portions(plan: Layout, rows: int) -> Iterator[list[tuple[str, int]]]:
    """Divide the blocks' columns, each as block and row of it, so that little is decoded at a time."""
    portion: list[tuple[str, int]] = []
    held = 0
    for name, positions in plan.blocks.items():
        for at in range(len(positions)):
            size = np.dtype(name).itemsize * rows
            if portion and held + size > PART_BYTES:
                yield portion
                portion, held = [], 0
            portion.append((name, at))
            held += size
    if portion:
        yield portion


def _fill(decoder: Decoder, part: RowSlice, columns: dict[str, Any], first: int) -> None:
    """Decode columns of numbers into rows of blocks, given by column name, from ``first`` on."""
    found = decoder.numbers(part, list(columns), plain=True)
    for row, column in zip(columns.values(), found, strict=True):
        row[first : first + part.rows] = column


def _rest(decoder: Decoder, part: RowSlice, schema: pa.Schema, plan: Layout) -> pa.Table:
    """Decode the columns that are in no block."""
    texts = [schema.field(at).name for at in plan.texts]
    others = [schema.field(at).name for at in plan.others]
    table = decoder.texts(part, texts) if texts else None
    if others:
        converted = decoder.table(part, others)
        if table is None:
            return converted
        for name in others:
            table = table.append_column(name, converted.column(name))
    assert table is not None
    return table


def _assembled(
    schema: pa.Schema, plan: Layout, blocks: dict[str, Any], rest: pd.DataFrame | None, rows: int
) -> pd.DataFrame:
    """Make one frame of blocks and the other columns, in the order of the schema, without a copy."""
    import pandas as pd

    placed = [(blocks[name], np.array(at)) for name, at in plan.blocks.items()]
    for at in (*plan.texts, *plan.others):
        assert rest is not None
        column = rest[schema.field(at).name]
        values = column.array if pd.api.types.is_extension_array_dtype(column.dtype) else column.to_numpy()
        placed.append(
            (
                values if values.ndim == 1 and not isinstance(values, np.ndarray) else values[None],
                np.array([at]),
            )
        )
    index, names = pd.RangeIndex(rows), pd.Index(schema.names)
    try:
        from pandas.api.internals import (  # type: ignore[import-not-found]
            create_dataframe_from_blocks,
        )
    except ImportError:  # pandas before 3
        columns = {
            int(at): block[row] if block.ndim == 2 else block
            for block, positions in placed
            for row, at in enumerate(positions)
        }
        frame = pd.DataFrame({at: columns[at] for at in range(len(schema))}, index=index, copy=False)
        frame.columns = names
        return frame
    made: pd.DataFrame = create_dataframe_from_blocks(placed, index=index, columns=names)
    return made
