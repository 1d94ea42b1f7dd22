"""Parts of a connector for ``%%distribute map``, as the notebook makes them and ranks read them."""

from __future__ import annotations

import pickle
import subprocess
import sys
from datetime import UTC, datetime
from decimal import Decimal
from typing import TYPE_CHECKING, Any

import duckdb
import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from heliostat._ranks._map import divide, share
from heliostat._ranks._map_parts import is_read_by_ranks, parts_of, share_of
from heliostat.data import DataConnector
from heliostat.exceptions import DataError

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path


def _read(connector: Any, by: Sequence[str]) -> list[tuple[Any, Any, int]]:
    """Keys, parts and weights as three ranks find them, each of which gets its share pickled."""
    with parts_of(connector, by, 3, 4) as parts:
        found: dict[int, tuple[Any, Any, int]] = {}
        for each in share([weight for _, _, weight in parts], 3):
            for index, key, part in pickle.loads(pickle.dumps(share_of(parts, each))):
                found[index] = (key, part.read(), parts[index][2])
        return [found[index] for index in range(len(parts))]


def _table() -> pa.Table:
    random = np.random.default_rng(1)
    rows = 5000
    flat = random.integers(0, 4, rows)
    return pa.table(
        {
            "text": pa.array([[None, "b", "a", ""][n] for n in flat]),
            "whole": pa.array([[None, 3, -1, 2**52][n] for n in random.integers(0, 4, rows)], pa.int64()),
            "real": pa.array([[None, float("nan"), 0.5, 1e300][n] for n in flat], pa.float64()),
            "flag": pa.array([[None, True, False, True][n] for n in flat]),
            "at": pa.array([[None, *(datetime(2020, 1, n, tzinfo=UTC) for n in (3, 1, 2))][n] for n in flat]),
            "price": pa.array([[None, Decimal("1.10"), Decimal("-2.00"), Decimal(0)][n] for n in flat]),
            "kind": pa.array([["z", "y", None, "x"][n] for n in flat]).dictionary_encode(),
            "value": random.random(rows),
        }
    )


BY = [
    ["text"],
    ["whole"],
    ["real"],
    ["flag"],
    ["at"],
    ["price"],
    ["kind"],
    ["text", "whole"],
    ["at", "kind"],
    [],
]


@pytest.mark.parametrize("by", BY, ids="+".join)
@pytest.mark.parametrize("kind", ["files", "query"])
def test_parts_are_those_of_the_whole_table(tmp_path: Path, by: list[str], kind: str) -> None:
    """Keys, their order, rows and row numbers are what pandas makes of the table in memory."""
    table = _table()
    for number in range(2):
        half = table.slice(number * 2500, 2500)
        pq.write_table(half, tmp_path / f"{number}.parquet", row_group_size=700)
    connector = DataConnector.from_sources(None, [str(tmp_path)])
    if kind == "query":
        with duckdb.connect() as connection:
            relation = connection.sql(f"FROM read_parquet('{tmp_path}/*.parquet')")
            _same(_read(DataConnector.from_dataframe(relation), by), relation.to_arrow_table(), by)
        return
    _same(_read(connector, by), connector, by)


def _same(found: list[tuple[Any, Any, int]], whole: Any, by: list[str]) -> None:
    _, expected = divide(whole, by, 3)
    assert [repr(key) for key, _, _ in found] == [repr(key) for key, _, _ in expected]
    assert [weight for _, _, weight in found] == [weight for _, _, weight in expected]
    for (_, part, weight), (_, other, _) in zip(found, expected, strict=True):
        assert len(part) == weight
        pd.testing.assert_frame_equal(part, other, check_dtype=False, check_categorical=False)


def test_what_cannot_be_divided_is_named(tmp_path: Path) -> None:
    """A column that is not there, or holds no keys, is an error; a table without rows has no parts."""
    path = str(tmp_path / "rows.parquet")
    pq.write_table(pa.table({"k": ["a"], "many": [[1]]}), path)
    connector = DataConnector.from_sources(None, [path])
    assert is_read_by_ranks(connector)
    assert not is_read_by_ranks(DataConnector.from_dataframe(pd.DataFrame({"k": [1]})))
    with pytest.raises(DataError, match="no column 'x'"), parts_of(connector, ["x"], 2, 4):
        pytest.fail("no parts of these")
    with pytest.raises(DataError, match="columns many make no keys"), parts_of(connector, ["many"], 2, 4):
        pytest.fail("no parts of these")
    pq.write_table(pa.table({"k": pa.array([], pa.string())}), path)
    assert _read(connector, ["k"]) == _read(connector, []) == []


_DIVIDE = """
import sys, threading, time
from heliostat._ranks._map_parts import parts_of
from heliostat.data import DataConnector

def held():
    for line in open("/proc/self/status"):
        if line.startswith("RssAnon"):
            return int(line.split()[1]) / 1024

def watch():
    global most
    while True:
        most = max(most, held())
        time.sleep(0.002)

def divide(path):
    for by in (["k"], []):
        with parts_of(DataConnector.from_sources(None, [path]), by, 2, 4) as parts:
            assert len(parts) == (100 if by else 8)
            assert sum(weight for _, _, weight in parts) == int(path.rpartition("/")[2].partition(".")[0])

small, large = sys.argv[1:]
divide(small)
most = held()
threading.Thread(target=watch, daemon=True).start()
for path in (small, large):
    divide(path)
    print(max(most, held()))
"""


def test_the_memory_of_the_notebook_does_not_grow_with_the_table(tmp_path: Path) -> None:
    """A table of thirty times the size is divided, by keys as well, in the same memory."""
    for rows in (100_000, 3_000_000):
        with pq.ParquetWriter(
            tmp_path / f"{rows}.parquet", pa.schema([("k", pa.int64()), ("v", pa.float64())])
        ) as file:
            for first in range(0, rows, 100_000):
                keys = np.arange(first, first + 100_000)
                file.write_table(pa.table({"k": keys % 100, "v": keys / 7}))
    paths = [str(tmp_path / f"{rows}.parquet") for rows in (100_000, 3_000_000)]
    told = subprocess.run([sys.executable, "-c", _DIVIDE, *paths], capture_output=True, text=True, check=True)
    small, large = map(float, told.stdout.split())
    assert large - small < 8  # MiB, of a table of 46
