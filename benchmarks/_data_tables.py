"""The tables that ways of reading are compared on, as Parquet files."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

if TYPE_CHECKING:
    from pathlib import Path

FEATURES = [f"f{index}" for index in range(28)]
BATCH = 8192
GROUP = 125_000
_FILE = 5 * GROUP


def write_numbers(directory: Path, rows: int) -> None:
    """Write ``rows`` rows of 28 features and a label, the features of three kinds of precision."""
    directory.mkdir()
    for number, first in enumerate(range(0, rows, _FILE)):
        count = min(_FILE, rows - first)
        random = np.random.default_rng(number)
        matrix = random.standard_normal((28, count), dtype=np.float32)
        matrix[::4] = np.round(matrix[::4], 2)
        matrix[1::4] = np.round(matrix[1::4] * 8) / 8
        label = (matrix[0] * matrix[1] + matrix[2] > 0).astype(np.float32)
        table = pa.table({"label": label, **dict(zip(FEATURES, matrix, strict=True))})
        pq.write_table(table, directory / f"{number:04}.parquet", compression="zstd", row_group_size=GROUP)


def write_mixed(directory: Path, rows: int) -> None:
    """Write numbers of three types, three columns of text and three of categories."""
    directory.mkdir()
    for number, first in enumerate(range(0, rows, 500_000)):
        count = min(500_000, rows - first)
        random = np.random.default_rng(number)
        columns: dict[str, Any] = {f"f{i}": random.standard_normal(count, dtype=np.float32) for i in range(8)}
        columns |= {f"d{i}": np.round(random.standard_normal(count), 3) for i in range(4)}
        columns |= {f"i{i}": random.integers(0, 1000, count) for i in range(5)}
        for i, kinds in enumerate((10, 100, 1000)):
            names = pa.array([f"name-{kind}" for kind in range(kinds)])
            columns[f"s{i}"] = names.take(pa.array(random.integers(0, kinds, count)))
        for i, kinds in enumerate((20, 40, 60)):
            names = pa.array([f"class-{kind}" for kind in range(kinds)])
            codes = pa.array(random.integers(0, kinds, count), pa.int32())
            columns[f"c{i}"] = pa.DictionaryArray.from_arrays(codes, names)
        table = pa.table(columns)
        pq.write_table(table, directory / f"{number:04}.parquet", compression="zstd", row_group_size=GROUP)
