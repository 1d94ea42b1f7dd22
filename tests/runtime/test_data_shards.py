"""Shards: every row once, exact counts, decoded from the files where they lie."""

from __future__ import annotations

import pickle
from typing import TYPE_CHECKING

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from heliostat.data import DataConnector
from heliostat.data._shards import RowSlice, cut, divided, sharded
from heliostat.exceptions import ConfigurationError, DataError

if TYPE_CHECKING:
    from pathlib import Path

ROWS = 10_007


@pytest.fixture(scope="module")
def directory(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Three Parquet files with row groups of several sizes; ``i`` counts the rows."""
    directory = tmp_path_factory.mktemp("parquet")
    numbers = pa.table({"i": range(ROWS), "x": pa.array(range(ROWS), pa.float32()), "s": ["text"] * ROWS})
    for name, start, stop, group in (("a", 0, 1000, 300), ("b", 1000, 1000, 10), ("c", 1000, ROWS, 5000)):
        pq.write_table(
            numbers.slice(start, stop - start), directory / f"{name}.parquet", row_group_size=group
        )
    return directory


@pytest.mark.parametrize("equal", [True, False])
@pytest.mark.parametrize("count", [1, 2, 3, 7])
@pytest.mark.parametrize("place", ["files", "memory"])
def test_shards_are_all_rows_once(
    directory: Path, tmp_path: Path, place: str, count: int, equal: bool
) -> None:
    """Together the shards are the rows in order; equal ones lack the remainder alone."""
    connector = DataConnector.from_sources(None, [str(directory)])
    if place == "memory":
        connector = DataConnector.from_dataframe(connector.to_arrow())
    with sharded(connector, count, columns=["x", "i"], equal=equal, directory=str(tmp_path)) as shards:
        assert len(list(tmp_path.iterdir())) == (place == "memory")
        read = [pa.concat_tables(pickle.loads(pickle.dumps(shard)).tables()) for shard in shards]
        assert [table.num_rows for table in read] == [shard.rows for shard in shards]
        assert {table.column_names == ["x", "i"] for table in read} == {True}
        sizes = [shard.rows for shard in shards]
        whole = ROWS // count * count if equal else ROWS
        assert max(sizes) - min(sizes) <= (0 if equal else 1)
        assert pa.concat_tables(read)["i"].to_pylist() == list(range(whole))
        assert next(shards[0].tables(["i"])).column_names == ["i"]
    assert list(tmp_path.iterdir()) == []


def test_a_part_of_a_row_group_costs_no_more_than_what_precedes_it(directory: Path) -> None:
    """The first rows of a large row group are decoded without the rest of it."""
    piece = RowSlice(str(directory / "c.parquet"), 0, 10, 20)
    (shard,) = divided([piece], 1, ["i"])
    before = pa.total_allocated_bytes()
    (table,) = shard.tables()
    assert table["i"].to_pylist() == list(range(1010, 1020))
    assert pa.total_allocated_bytes() - before < 5000 * 8


def test_cutting_is_exact() -> None:
    """Any range of rows is cut out of slices that begin within their row groups."""
    slices = [RowSlice("a", 0, 5, 10), RowSlice("a", 1, 0, 3), RowSlice("b", 0, 2, 9)]
    numbers = [(p.path, p.row_group, n) for p in slices for n in range(p.start, p.stop)]
    for start in range(len(numbers) + 1):
        for stop in range(start, len(numbers) + 1):
            parts = cut(slices, start, stop)
            cut_out = [(p.path, p.row_group, n) for p in parts for n in range(p.start, p.stop)]
            assert cut_out == numbers[start:stop]


def test_a_file_that_changed_is_not_read_as_what_it_was(tmp_path: Path) -> None:
    """A worker that finds another file, or none, says so and names it."""
    path = tmp_path / "rows.parquet"
    pq.write_table(pa.table({"i": range(100)}), path)
    with sharded(DataConnector.from_sources(None, [str(path)]), 2) as shards:
        pq.write_table(pa.table({"i": range(1000, 3000)}), path)
        with pytest.raises(DataError, match=r"rows\.parquet has changed"):
            list(shards[0].tables())
        path.unlink()
        with pytest.raises(DataError, match=r"rows\.parquet is not there"):
            list(shards[1].tables())


def test_wrong_shards_are_refused_before_anything_is_read(tmp_path: Path) -> None:
    """No part, and a column that is not there, are errors that say so."""
    connector = DataConnector.from_dataframe(pa.table({"i": [1]}))
    with pytest.raises(ConfigurationError, match="0 parts"), sharded(connector, 0):
        pytest.fail("not divisible")
    with (
        pytest.raises(DataError, match="no column 'gone'"),
        sharded(connector, 1, columns=["gone"], directory=str(tmp_path)),
    ):
        pytest.fail("no such column")
    with sharded(connector, 3) as shards:
        assert sorted(shard.rows for shard in shards) == [0, 0, 1]
