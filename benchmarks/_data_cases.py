"""Ways to read the same tables, each run in a process of its own: ``python _data_cases.py CASE DIRECTORY``.

A case prints one line of JSON: seconds of its epochs, and rows. Imports, and the start of Ray, are
not timed. Every way of loading hands out ``(matrix, labels)`` and the labels are summed up.
"""

from __future__ import annotations

import json
import os
import queue
import sys
import tempfile
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

FEATURES = [f"f{index}" for index in range(28)]
BATCH = 8192
_GROUP = 125_000
_FILE = 5 * _GROUP
_CHUNK = 131_072


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
        pq.write_table(table, directory / f"{number:04}.parquet", compression="zstd", row_group_size=_GROUP)


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
        pq.write_table(table, directory / f"{number:04}.parquet", compression="zstd", row_group_size=_GROUP)


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


def polars_frames(directory: str, size: int) -> Callable[[], Iterable[Any]]:
    """Polars' stream of frames."""
    import polars as pl

    scan = pl.scan_parquet(Path(directory) / "*.parquet").select(["label", *FEATURES])
    return lambda: scan.collect_batches(chunk_size=size)


def polars_ordered(directory: str) -> Any:
    """Polars, a frame for each batch."""
    import torch

    frames = polars_frames(directory, BATCH)

    def run() -> Iterator[Any]:
        for frame in frames():
            matrix = torch.from_numpy(frame.to_numpy(order="c"))
            yield matrix[:, 1:], matrix[:, 0]

    return [run, run]


def polars_windows(directory: str) -> Any:
    """Polars, shuffled as ours is: pairs of random row groups, each pair permuted, by hand with NumPy."""
    import polars as pl
    import torch

    paths = sorted(Path(directory).glob("*.parquet"))
    scans = [pl.scan_parquet(path).select(["label", *FEATURES]) for path in paths]
    groups = [
        (scan, first)
        for scan, path in zip(scans, paths, strict=True)
        for first in range(0, pq.read_metadata(path).num_rows, _GROUP)
    ]
    random = np.random.default_rng(0)

    def run() -> Iterator[Any]:
        order = random.permutation(len(groups))
        for pair in range(0, len(groups), 2):
            parts = [groups[index] for index in order[pair : pair + 2]]
            frame = pl.concat(scan.slice(first, _GROUP).collect() for scan, first in parts)
            matrix = torch.from_numpy(
                frame.to_numpy(order="c").take(random.permutation(frame.height), axis=0)
            )
            for first in range(0, len(matrix), BATCH):
                part = matrix[first : first + BATCH]
                yield part[:, 1:], part[:, 0]

    return [run, run]


def polars_memory(directory: str) -> Any:
    """Everything in memory by Polars, then slices of one tensor."""
    import polars as pl
    import torch

    def run() -> Iterator[Any]:
        frame = pl.read_parquet(Path(directory) / "*.parquet", columns=["label", *FEATURES])
        matrix = torch.from_numpy(frame.to_numpy(order="c"))
        for first in range(0, len(matrix), BATCH):
            part = matrix[first : first + BATCH]
            yield part[:, 1:], part[:, 0]

    return [run]


def polars_shuffled(directory: str, *, by_hand: bool = False) -> Any:
    """Polars, rows shuffled within chunks: by its own ``sample``, or by hand with NumPy."""
    import torch

    frames = polars_frames(directory, _CHUNK)
    random = np.random.default_rng(0)

    def run() -> Iterator[Any]:
        for frame in frames():
            if by_hand:
                found = frame.to_numpy(order="c").take(random.permutation(frame.height), axis=0)
            else:
                found = frame.sample(fraction=1.0, shuffle=True).to_numpy(order="c")
            matrix = torch.from_numpy(found)
            for first in range(0, len(matrix), BATCH):
                part = matrix[first : first + BATCH]
                yield part[:, 1:], part[:, 0]

    return [run, run]


def stacked(batches: Iterable[Any]) -> Iterator[Any]:
    """Record batches as tensors."""
    import torch

    for batch in batches:
        columns = [batch.column(name).to_numpy() for name in FEATURES]
        yield (
            torch.from_numpy(np.stack(columns, 1)),
            torch.from_numpy(batch.column("label").to_numpy().copy()),
        )


def duckdb_stream(directory: str) -> Any:
    """DuckDB's stream of record batches."""
    import duckdb

    return [lambda: stacked(duckdb.read_parquet(f"{directory}/*.parquet").to_arrow_reader(BATCH))]


def arrow_scan(directory: str) -> Any:
    """The scanner of pyarrow's dataset."""
    from pyarrow import dataset

    return [lambda: stacked(dataset.dataset(directory).to_batches(batch_size=BATCH))]


def arrow_ahead(directory: str) -> Any:
    """The scanner of pyarrow's dataset, its batches stacked in a thread ahead."""
    from pyarrow import dataset

    def run() -> Iterator[Any]:
        ready: queue.Queue[Any] = queue.Queue(8)

        def fill() -> None:
            for batch in stacked(dataset.dataset(directory).to_batches(batch_size=BATCH)):
                ready.put(batch)
            ready.put(None)

        thread = threading.Thread(target=fill)
        thread.start()
        yield from iter(ready.get, None)
        thread.join()

    return [run]


def worker_batches(directory: str) -> Any:
    """The ordinary DataLoader with two workers over an IterableDataset of whole batches."""
    import torch
    from torch.utils.data import DataLoader, IterableDataset, get_worker_info

    class Files(IterableDataset[Any]):
        def __iter__(self) -> Iterator[Any]:
            worker = get_worker_info()
            assert worker is not None
            for path in sorted(Path(directory).glob("*.parquet"))[worker.id :: worker.num_workers]:
                yield from stacked(pq.ParquetFile(path).iter_batches(BATCH, use_threads=False))

    torch.set_num_threads(1)
    return [lambda: DataLoader(Files(), batch_size=None, num_workers=2)]


def hugging_face(directory: str) -> Any:
    """Hugging Face's stream of batches, shuffled with a buffer; the first file only."""
    import torch
    from datasets import load_dataset

    path = str(min(Path(directory).glob("*.parquet")))
    data = load_dataset("parquet", data_files=path, split="train", streaming=True)
    data = data.shuffle(seed=0, buffer_size=100_000)

    def run() -> Iterator[Any]:
        for batch in data.iter(BATCH):
            yield torch.tensor([batch[name] for name in FEATURES]).T, torch.tensor(batch["label"])

    return [run]


def pandas_slices(directory: str) -> Any:
    """Everything in memory by pandas, then slices of one tensor."""
    import pandas as pd
    import torch

    def run() -> Iterator[Any]:
        frame = pd.read_parquet(directory)
        matrix = torch.from_numpy(frame[FEATURES].to_numpy())
        labels = torch.from_numpy(frame["label"].to_numpy().copy())
        for first in range(0, len(matrix), BATCH):
            yield matrix[first : first + BATCH], labels[first : first + BATCH]

    return [run]


def ray_data(directory: str) -> Any:
    """Ray Data with a local shuffle."""
    import ray

    ray.init(num_cpus=2, include_dashboard=False, log_to_driver=False, logging_level="error")
    ray.data.DataContext.get_current().enable_progress_bars = False

    def run() -> Iterator[Any]:
        import torch

        found = ray.data.read_parquet(directory).iter_torch_batches(
            batch_size=BATCH, local_shuffle_buffer_size=_CHUNK
        )
        for batch in found:
            yield torch.stack([batch[name] for name in FEATURES], 1), batch["label"]

    return [run]


def row_by_row(directory: str) -> Any:
    """The ordinary DataLoader over a TensorDataset, shuffled; the first file only."""
    import pandas as pd
    import torch
    from torch.utils.data import DataLoader, TensorDataset

    frame = pd.read_parquet(min(Path(directory).glob("*.parquet")))
    data = TensorDataset(
        torch.from_numpy(frame[FEATURES].to_numpy()), torch.from_numpy(frame["label"].to_numpy().copy())
    )
    return [lambda: DataLoader(data, batch_size=BATCH, shuffle=True)]


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
    "polars": polars_ordered,
    "polars sample": polars_shuffled,
    "polars by hand": lambda directory: polars_shuffled(directory, by_hand=True),
    "polars windows": polars_windows,
    "polars memory": polars_memory,
    "duckdb": duckdb_stream,
    "pyarrow scan": arrow_scan,
    "pyarrow ahead": arrow_ahead,
    "workers": worker_batches,
    "hugging face": hugging_face,
    "pandas": pandas_slices,
    "ray data": ray_data,
    "row by row": row_by_row,
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
