"""The same batches for TensorFlow. One file: importing TensorFlow takes seconds."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from heliostat.data._loading import make_recipe, tensorflow_dataset
from heliostat.data._shards import RowSlice

if TYPE_CHECKING:
    from pathlib import Path

pytestmark = pytest.mark.filterwarnings("ignore")  # TensorFlow's own


def test_tensorflow_reads_the_same_batches(tmp_path: Path) -> None:
    """By name and dense, shuffled anew in each epoch; text with nulls is refused by name."""
    rows = 1000
    table = pa.table(
        {
            "x": np.arange(rows, dtype=np.float32),
            "y": np.arange(rows),
            "name": [f"n{i}" for i in range(rows)],
            "pair": pa.array([[i, -i] for i in range(rows)], pa.list_(pa.int64(), 2)),
            "maybe": pa.array(["a", None] * (rows // 2)),
        }
    )
    pq.write_table(table, tmp_path / "t.parquet", row_group_size=100)
    slices = [RowSlice(str(tmp_path / "t.parquet"), group, 0, 100) for group in range(10)]
    by_name = make_recipe(
        slices, table.schema, batch_size=64, columns=["x", "name", "pair"], shuffle=True, drop_last=False
    )
    data = tensorflow_dataset(by_name, table.schema)
    epochs = [list(data.as_numpy_iterator()) for _ in range(2)]
    orders = [np.concatenate([batch["x"] for batch in epoch]) for epoch in epochs]
    assert all(np.array_equal(np.sort(order), np.arange(rows)) for order in orders)
    assert not np.array_equal(orders[0], orders[1])
    first = epochs[0][0]
    assert first["pair"].shape == (64, 2)
    assert np.array_equal(first["pair"][:, 0], first["x"])
    assert first["name"][0] == b"n%d" % first["x"][0]
    dense = make_recipe(slices, table.schema, batch_size=64, feature_cols=["x"], label_col="y")
    matrix, labels = next(iter(tensorflow_dataset(dense, table.schema)))
    assert matrix.shape == (64, 1)
    assert np.array_equal(matrix[:, 0], labels)
    refused = make_recipe(slices, table.schema, batch_size=64, columns=["maybe"])
    with pytest.raises(Exception, match="'maybe' is text with nulls"):  # TensorFlow's class, our message
        next(iter(tensorflow_dataset(refused, table.schema)))
