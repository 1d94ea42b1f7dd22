"""A table that is larger than what its reader may take goes through every output that streams."""

from __future__ import annotations

import json
import subprocess
import sys
from typing import TYPE_CHECKING

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

if TYPE_CHECKING:
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
