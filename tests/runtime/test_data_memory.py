"""A table that is larger than what its reader may take goes through every output that streams."""

from __future__ import annotations

import json
import subprocess
import sys
from typing import TYPE_CHECKING, Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from heliostat.data import DataConnector
from heliostat.data._shards import sharded

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

IMAGE = 65_536
WIDE, NARROW = 40_000, 16_384_000
"""Rows of the tables: 2.6 GB of images and 1 GB of numbers."""
LIMIT = 700 << 20

_MEASURE = """
import json, sys
import datasets, polars, pyarrow.dataset as pads, torch
from heliostat.data import DataConnector

path, size, outputs = sys.argv[1], int(sys.argv[2]), sys.argv[3:]
connector = DataConnector.from_sources(None, [path])

def anonymous():
    with open("/proc/self/status") as status:
        return next(int(line.split()[1]) for line in status if line.startswith("RssAnon")) * 1024

def loaded(**options):
    for batch in connector.to_torch_dataset(batch_size=size, drop_last_batch=False, **options):
        yield len(batch["n"])

def huggingface():
    return connector.to_huggingface_dataset(streaming=True, batch_size=size)

def scanned():
    return DataConnector.from_dataframe(pads.dataset(path))

streamed = {
    "arrow": lambda: (batch.num_rows for batch in connector.to_reader()),
    "arrow of a dataset": lambda: (batch.num_rows for batch in scanned().to_reader()),
    "torch": lambda: loaded(),
    "torch window": lambda: loaded(shuffle=True),
    "hugging face rows": lambda: (1 for _ in huggingface()),
    "hugging face": lambda: (len(rows) for rows in huggingface().with_format("arrow").iter(size)),
}
found, before = {}, anonymous()
for output in outputs:
    rows = most = 0
    for number, count in enumerate(streamed[output]()):
        rows += count
        if number % 4 == 0:
            most = max(most, anonymous() - before)
    found[output] = {"rows": rows, "grown": most}
print(json.dumps(found))
"""


@pytest.fixture(scope="module", params=["wide", "narrow"])
def table(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A few large values in a row, such as images; or many numbers. Small on disk either way."""
    path = tmp_path_factory.mktemp("memory") / f"{request.param}.parquet"
    if request.param == "wide":
        image = [f"{row:8}".encode() + bytes(IMAGE - 8) for row in range(500)]
        part = pa.table({"n": range(500), "image": image})
    else:
        numbers = pa.array(range(512_000), pa.int64())
        part = pa.table(dict.fromkeys("nabcdefg", numbers))
    with pq.ParquetWriter(path, part.schema, compression="zstd", use_dictionary=False) as writer:
        for _ in range((WIDE if request.param == "wide" else NARROW) // part.num_rows):
            writer.write_table(part)
    return path


def test_memory_is_bounded(table: Path) -> None:
    """Gigabytes of rows go through a process that grows by a part of them, whether they are large or many."""
    outputs, size = ["arrow", "torch", "torch window", "hugging face"], "8192"
    if table.stem == "wide":  # millions of rows one by one would take minutes
        outputs, size = [*outputs, "arrow of a dataset", "hugging face rows"], "256"
    told = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", _MEASURE, str(table), size, *outputs],
        capture_output=True,
        text=True,
        check=True,
    )
    found = json.loads(told.stdout)
    assert {name: one["rows"] for name, one in found.items()} == dict.fromkeys(
        outputs, WIDE if table.stem == "wide" else NARROW
    )
    assert {name: one["grown"] for name, one in found.items() if one["grown"] >= LIMIT} == {}


def _relation() -> Any:
    import duckdb

    return duckdb.sql("SELECT range AS n, 'x'::BLOB AS image FROM range(5000)")


def _stream() -> Any:
    import datasets

    features = datasets.Features({"n": datasets.Value("int64"), "image": datasets.Value("binary")})
    rows = datasets.Dataset.from_dict({"n": range(5000), "image": [b"x"] * 5000}, features)
    return rows.to_iterable_dataset()


@pytest.mark.parametrize("made", [_relation, _stream], ids=["DuckDB", "Hugging Face"])
def test_rows_that_may_be_wide_come_few_at_a_time(made: Callable[[], Any]) -> None:
    """Where only types are known, columns of bytes are taken for images."""
    reader = DataConnector.from_dataframe(made()).to_reader()
    sizes = [batch.num_rows for batch in reader]
    assert sum(sizes) == 5000
    assert max(sizes) <= 2048


def test_wide_rows_are_laid_out_and_shuffled_a_few_at_a_time(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Row groups written for workers, their streams, and windows of a shuffle are bounded in bytes."""
    image = [bytes(1 << 20)] * 10
    parts = [pa.record_batch({"n": range(at, at + 10), "image": image}) for at in range(0, 160, 10)]
    wide = pa.Table.from_batches(parts)
    connector = DataConnector.from_dataframe(wide)
    with sharded(connector, 1, directory=str(tmp_path)) as (shard,):
        assert [piece.rows for piece in shard.slices] == [70, 70, 20]
        batches = list(shard.batches(["n", "image"]))
        assert [row for batch in batches for row in batch["n"].to_pylist()] == list(range(160))
        assert max(batch.nbytes for batch in batches) < 48 << 20
    monkeypatch.setattr("heliostat.data._batches.SHUFFLE_BYTES", 40 << 20)
    order = [batch["n"].tolist() for batch in connector._ingestor.to_batches(40, shuffle=True)]
    assert [sorted(rows) for rows in order] == [list(range(at, at + 40)) for at in range(0, 160, 40)]
    assert order[0] != sorted(order[0])
