"""Frames from Parquet are those of pyarrow's own conversion."""

from __future__ import annotations

import datetime as dt
import decimal
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from heliostat.data._pandas import frame_of, layout, to_pandas
from heliostat.data._shards import RowSlice, cut
from heliostat.exceptions import DataError

if TYPE_CHECKING:
    from pathlib import Path

ROWS = 5000


@pytest.fixture(scope="module")
def table() -> pa.Table:
    """One column of each kind, some with missing values in the second half only."""
    random = np.random.default_rng(0)
    late = np.arange(ROWS) > ROWS // 2
    day = dt.datetime(2026, 1, 1)  # noqa: DTZ001 - a column without a zone
    return pa.table(
        {
            "float": random.standard_normal(ROWS).astype(np.float32),
            "text": [f"value {i}" for i in range(ROWS)],
            "int": random.integers(0, 9, ROWS),
            "small": random.integers(0, 9, ROWS).astype(np.int8),
            "bool": random.random(ROWS) < 0.5,
            "double": pa.array(random.standard_normal(ROWS), mask=late),
            "int null": pa.array(random.integers(0, 9, ROWS), mask=late),
            "bool null": pa.array(random.random(ROWS) < 0.5, mask=late),
            "text null": pa.array(["a", None] * (ROWS // 2)),
            "category": pa.array([f"c{i % 5}" for i in range(ROWS)]).dictionary_encode(),
            "time": pa.array([day] * ROWS),
            "zone": pa.array([day] * ROWS, pa.timestamp("us", "Europe/Zurich")),
            "date": pa.array([day.date()] * ROWS),
            "decimal": pa.array([decimal.Decimal("1.25")] * ROWS),
            "binary": pa.array([b"x"] * ROWS),
        }
    )


def slices_of(path: Path) -> tuple[RowSlice, ...]:
    """All rows of a file."""
    footer = pq.read_metadata(path)
    return tuple(
        RowSlice(str(path), group, 0, footer.row_group(group).num_rows)
        for group in range(footer.num_row_groups)
    )


@pytest.mark.parametrize("decoder", ["pyarrow", "polars"])
@pytest.mark.parametrize("limit", [ROWS, 1234])
def test_same_frame_as_pyarrow(
    table: pa.Table, tmp_path: Path, limit: int, decoder: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Values, types and the order of columns are pyarrow's, for a whole table and its first rows."""
    monkeypatch.setenv("HELIOSTAT_DECODER", decoder)
    path = tmp_path / "table.parquet"
    pq.write_table(table, path, row_group_size=700)
    frame = frame_of(cut(slices_of(path), 0, limit), table.schema)
    pd.testing.assert_frame_equal(frame, table.slice(0, limit).to_pandas(), check_categorical=False)
    frame.loc[0, "int"] = 77  # the frame's own memory
    assert frame["int"].iloc[0] == 77


def test_nested_columns(tmp_path: Path) -> None:
    """Lists and structures are converted as well, beside numbers."""
    table = pa.table({"x": [1, 2], "list": [[1], [2, 3]], "struct": [{"a": 1}, {"a": 2}]})
    pq.write_table(table, tmp_path / "nested.parquet")
    frame = frame_of(slices_of(tmp_path / "nested.parquet"), table.schema)
    assert frame["x"].tolist() == [1, 2]
    assert frame["struct"].tolist() == [{"a": 1}, {"a": 2}]
    assert [list(values) for values in frame["list"]] == [[1], [2, 3]]


def test_layout() -> None:
    """Numbers of one type share a block; integers that may be missing do not."""
    schema = pa.schema({"a": pa.int64(), "b": pa.float32(), "c": pa.int64(), "d": pa.string()})
    found = layout(schema, frozenset([2]))
    assert found.blocks == {"int64": (0,), "float32": (1,)}
    assert (found.texts, found.others) == ((3,), (2,))


def test_a_source_of_files(table: pa.Table, tmp_path: Path) -> None:
    """A connector over files takes this way; a file that changed meanwhile is refused by name."""
    from heliostat.data import DataConnector

    path = tmp_path / "table.parquet"
    pq.write_table(table, path, row_group_size=700)
    source = DataConnector.from_sources(None, [str(path)]).source
    assert len(to_pandas(source, 10)) == 10
    assert len(to_pandas(source, 0)) == 0
    slices = source.slices()
    assert slices is not None
    pq.write_table(table.slice(0, 100), path)
    with pytest.raises(DataError, match=r"table\.parquet"):
        frame_of(slices, table.schema)
