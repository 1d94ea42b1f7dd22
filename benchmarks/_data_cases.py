"""Ways to read the same tables, each run in a process of its own: ``python _data_cases.py CASE DIRECTORY``.

A case prints one line of JSON: seconds of its epochs, and rows. Imports, and the start of Ray, are
not timed. Every way of loading hands out ``(matrix, labels)`` and the labels are summed up.
"""

from __future__ import annotations

import json
import os
import sys
import tempfile
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING, Any

import _data_peers as peers
import numpy as np
import pyarrow.parquet as pq
from _data_tables import BATCH, FEATURES

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator


def ours(directory: str, epochs: int = 1, shard: tuple[int, int] | None = None, **options: Any) -> Any:
    """Return a case: our loader."""
    import polars  # noqa: F401, ICN001 - its import is not timed on their side either
    import torch  # noqa: F401

    from heliostat.data._loading import make_recipe, torch_dataset
    from heliostat.data._shards import RowSlice, divided

    slices = [
        RowSlice(str(path), group, 0, footer.row_group(group).num_rows)
        for path in sorted(Path(directory).glob("*.parquet"))
        for footer in [pq.read_metadata(path)]
        for group in range(footer.num_row_groups)
    ]
    if shard is not None:
        slices = list(divided(slices, shard[1])[shard[0]].slices)
    schema = pq.read_schema(slices[0].path)
    recipe = make_recipe(
        slices,
        schema,
        batch_size=BATCH,
        feature_cols=FEATURES,
        label_col="label",
        drop_last=False,
        **options,
    )
    data = torch_dataset(recipe, seed=0)
    return [lambda: data] * epochs


def raw(directory: str) -> Any:
    """Two threads of pyarrow decode row groups, and that is all."""
    paths = sorted(Path(directory).glob("*.parquet"))
    units = [(path, group) for path in paths for group in range(pq.read_metadata(path).num_row_groups)]

    def decode(unit: tuple[Path, int]) -> int:
        table = pq.ParquetFile(unit[0], memory_map=True).read_row_group(unit[1], use_threads=False)
        return int(table.num_rows)

    def run() -> Iterator[Any]:
        with ThreadPoolExecutor(2) as executor:
            for rows in executor.map(decode, units):
                yield np.empty(rows, np.void), np.zeros(1)

    return [run]


def frame(directory: str, way: str) -> Any:
    """Everything as a pandas DataFrame."""
    import pandas as pd  # noqa: F401
    import polars as pl

    from heliostat.data import DataConnector

    source = DataConnector.from_sources(None, [directory])
    ways: dict[str, Callable[[], Any]] = {
        "ours": source.to_pandas,
        "pyarrow": lambda: pq.read_table(directory).to_pandas(),
        "polars": lambda: pl.read_parquet(f"{directory}/*.parquet").to_pandas(),
    }

    def run() -> Iterator[Any]:
        made = ways[way]()
        yield made, made.iloc[:1, 0].to_numpy()

    return [run]


def cached(directory: str) -> Any:
    """Our loader with the local cache, in a directory of its own."""
    return ours(directory, 4, shuffle="window", cache=tempfile.mkdtemp(dir=os.environ.get("TMPDIR")))


CASES: dict[str, Callable[[str], Any]] = {
    "raw": raw,
    "ours": lambda directory: ours(directory, 2),
    "ours window": lambda directory: ours(directory, 2, shuffle="window"),
    "ours global": lambda directory: ours(directory, 2, shuffle="global"),
    "ours cached": cached,
    "ours rank 0": lambda directory: ours(directory, shard=(0, 2), shuffle="window"),
    "ours rank 1": lambda directory: ours(directory, shard=(1, 2), shuffle="window"),
    "polars": peers.polars_ordered,
    "polars sample": peers.polars_shuffled,
    "polars by hand": lambda directory: peers.polars_shuffled(directory, by_hand=True),
    "polars windows": peers.polars_windows,
    "polars memory": peers.polars_memory,
    "duckdb": peers.duckdb_stream,
    "pyarrow scan": peers.arrow_scan,
    "pyarrow ahead": peers.arrow_ahead,
    "workers": peers.worker_batches,
    "hugging face": peers.hugging_face,
    "pandas": peers.pandas_slices,
    "ray data": peers.ray_data,
    "row by row": peers.row_by_row,
    **{
        f"frame {way}": lambda directory, way=way: frame(directory, way)  # type: ignore[misc]
        for way in ("ours", "pyarrow", "polars")
    },
}


def main() -> None:
    """Run one case; waits for a line on standard input after its imports."""
    case, directory = sys.argv[1:]
    epochs = CASES[case](directory)
    print("ready", flush=True)
    sys.stdin.readline()
    started = time.time()
    seconds, rows = [], 0
    for epoch in epochs:
        begun, rows, total = time.perf_counter(), 0, 0.0
        for matrix, labels in epoch():
            rows += len(matrix)
            total += float(labels.sum())
        seconds.append(time.perf_counter() - begun)
    print(
        json.dumps({"seconds": seconds, "rows": rows, "started": started, "ended": time.time()}), flush=True
    )


if __name__ == "__main__":
    main()
