"""How others read the same tables. Each way hands out epochs of ``(matrix, labels)``."""

from __future__ import annotations

import queue
import threading
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow.parquet as pq
from _data_tables import BATCH, FEATURES, GROUP

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

_CHUNK = 131_072


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
        for first in range(0, pq.read_metadata(path).num_rows, GROUP)
    ]
    random = np.random.default_rng(0)

    def run() -> Iterator[Any]:
        order = random.permutation(len(groups))
        for pair in range(0, len(groups), 2):
            parts = [groups[index] for index in order[pair : pair + 2]]
            frame = pl.concat(scan.slice(first, GROUP).collect() for scan, first in parts)
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
