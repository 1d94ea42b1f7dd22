"""Row groups that are larger than what is held at a time: read in parts, exact and in bounded memory."""

from __future__ import annotations

import json
import subprocess
import sys
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from heliostat.data import DataConnector
from heliostat.data._loading._plan import unit_order

if TYPE_CHECKING:
    from pathlib import Path

ROWS = 60_000
GROUPS = (25_000, 35_000)
PART = 2000


@pytest.fixture(autouse=True)
def small_parts(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Parts of a few thousand rows; a cache of the test's own."""
    for module in ("_recipes", "_decode", "_reader"):
        monkeypatch.setattr(f"heliostat.data._loading.{module}.PART_BYTES", PART * 4, raising=False)
    monkeypatch.setattr("heliostat.data._pandas.PART_BYTES", PART * 4)
    monkeypatch.setenv("HELIOSTAT_LOADER_CACHE_DIR", str(tmp_path / "cache"))


@pytest.fixture
def connector(tmp_path: Path) -> DataConnector:
    """One file of two row groups of different sizes; the first column is the row's place."""
    path = tmp_path / "rows.parquet"
    table = pa.table(
        {
            "row": np.arange(ROWS, dtype=np.int64),
            "a": np.random.default_rng(0).standard_normal(ROWS).astype(np.float32),
            "name": [f"n{index % 7}" for index in range(ROWS)],
        }
    )
    with pq.ParquetWriter(path, table.schema) as writer:
        writer.write_table(table.slice(0, GROUPS[0]), row_group_size=ROWS)
        writer.write_table(table.slice(GROUPS[0]), row_group_size=ROWS)
    return DataConnector.from_sources(None, [str(path)])


def order(connector: DataConnector, **options: Any) -> np.ndarray[Any, Any]:
    """Which rows came, in order; that their values belong together is checked."""
    data = connector.to_torch_dataset(
        batch_size=1000, feature_cols=["a"], label_col="row", drop_last_batch=False, **options
    )
    found = list(data)
    rows = np.concatenate([labels.numpy() for _, labels in found])
    values = np.concatenate([matrix.numpy()[:, 0] for matrix, _ in found])
    assert np.array_equal(values, connector.to_arrow()["a"].to_numpy()[rows])
    return rows


@pytest.mark.parametrize("most", [8, 100])
@pytest.mark.parametrize("shuffle", [False, "window", "global"])
def test_parts_are_all_rows_once(
    connector: DataConnector, shuffle: bool | str, most: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each row comes once, by either decoder in one order, with any number of parts."""
    monkeypatch.setattr("heliostat.data._loading._recipes.MOST_PARTS", most)
    found = {}
    for decoder in ("polars", "pyarrow"):
        monkeypatch.setenv("HELIOSTAT_DECODER", decoder)
        found[decoder] = order(connector, shuffle=shuffle, seed=4)
        assert np.array_equal(np.sort(found[decoder]), np.arange(ROWS))
        assert np.array_equal(found[decoder], np.arange(ROWS)) == (shuffle is False)
    assert np.array_equal(found["polars"], found["pyarrow"])
    if shuffle == "window":
        # A window has a part of each of two row groups.
        first = found["polars"][:PART]
        assert 0.2 < np.mean(first < GROUPS[0]) < 0.8


@pytest.mark.parametrize("shuffle", [False, "window", "global"])
def test_parts_by_name_and_in_frames(connector: DataConnector, shuffle: bool | str) -> None:
    """Text comes in parts too, later epochs from the cache as well, and a frame is the same frame."""
    data = connector.to_torch_dataset(batch_size=777, shuffle=shuffle, drop_last_batch=False, cache=True)
    for _ in range(2):
        batches = list(data)
        rows = np.concatenate([batch["row"][:, 0] for batch in batches])
        assert np.array_equal(np.sort(rows), np.arange(ROWS))
        assert [name for batch in batches for name in batch["name"]] == [f"n{row % 7}" for row in rows]
    frame = connector.to_pandas(limit=40_001)
    assert frame.equals(connector.to_arrow().slice(0, 40_001).to_pandas())


def test_a_position_within_a_large_row_group(connector: DataConnector) -> None:
    """An iteration goes on in the middle of a row group with the very next batch."""
    data, again = (
        connector.to_torch_dataset(batch_size=1000, shuffle=True, feature_cols=["a"], label_col="row", seed=1)
        for _ in range(2)
    )
    running = iter(data)
    for _ in range(23):
        next(running)
    again.load_state_dict(data.state_dict())
    rest = [labels.tolist() for _, labels in running]
    assert [labels.tolist() for _, labels in again] == rest
    assert len(rest) == ROWS // 1000 - 23


def test_parts_stay_in_their_order() -> None:
    """Origins come in a random order, some side by side, and each from its beginning to its end."""
    origins = [0] * 4 + [1] * 2 + [2] + [3] * 3 + [4]
    for seed in range(20):
        found = unit_order(origins, 2, (seed,))
        assert sorted(found) == list(range(len(origins)))
        for origin in range(5):
            parts = [unit for unit in found if origins[unit] == origin]
            assert parts == sorted(parts)
        assert len({origins[unit] for unit in found[:2]}) == 2
    assert len({tuple(unit_order(origins, 2, (seed,))) for seed in range(20)}) > 10


_MEASURE = """
import json, sys
import numpy, polars, pyarrow.dataset, torch
from heliostat.data import DataConnector
from heliostat.data._loading import _decode, _reader, _recipes

_decode.PART_BYTES = _recipes.PART_BYTES = _reader.PART_BYTES = 2 << 20
_decode.READ_BYTES = _reader.READ_BYTES = 1 << 20
_reader.MEMORY = 16 << 20

def peak():
    return next(int(l.split()[1]) for l in open("/proc/self/status") if l.startswith("VmHWM")) * 1024

connector = DataConnector.from_sources(None, [sys.argv[1]])
data = connector.to_torch_dataset(
    batch_size=4096, shuffle=sys.argv[2], feature_cols=[f"c{i}" for i in range(15)], label_col="c15"
)
before, rows = peak(), 0
for matrix, labels in data:
    rows += len(matrix)
print(json.dumps({"grown": peak() - before, "rows": rows}))
"""


@pytest.mark.parametrize("shuffle", ["window", "global"])
def test_memory_does_not_grow_with_a_row_group(tmp_path: Path, shuffle: str) -> None:
    """A table of one row group is read in a small part of its size, and never held whole."""
    rows = 3 << 20
    columns = {f"c{i}": np.random.default_rng(i).random(rows, np.float32) for i in range(16)}
    pq.write_table(pa.table(columns), tmp_path / "one.parquet", row_group_size=rows, compression="lz4")
    told = subprocess.run(
        [sys.executable, "-c", _MEASURE, str(tmp_path / "one.parquet"), shuffle],
        capture_output=True,
        text=True,
        check=True,
    )
    found = json.loads(told.stdout)
    assert found["rows"] == rows
    assert found["grown"] < rows * 16 * 4 * 0.6
