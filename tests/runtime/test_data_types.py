"""What becomes of each type in each output: converted as it is, or refused with the column's name."""

from __future__ import annotations

import datetime as dt
import pickle
from decimal import Decimal
from typing import Any

import numpy as np
import pyarrow as pa
import pytest

from heliostat.data import DataConnector
from heliostat.data._arrays import as_array
from heliostat.exceptions import DataError

DAY = dt.date(2020, 2, 29)
MOMENT = dt.datetime(2020, 2, 29, 12, 30, tzinfo=dt.UTC)
TENSOR = pa.fixed_shape_tensor(pa.float32(), (2, 2))


def _tensors() -> pa.Array:
    storage = pa.array([[1, 2, 3, 4], [5, 6, 7, 8]], pa.list_(pa.float32(), 4))
    return pa.ExtensionArray.from_storage(TENSOR, storage)


COLUMNS: dict[str, pa.Array] = {
    "bool": pa.array([True, False]),
    "int8": pa.array([1, -2], pa.int8()),
    "uint64": pa.array([1, 2**64 - 1], pa.uint64()),
    "float16": pa.array(np.array([1, 2], np.float16)),
    "float nulls": pa.array([1.5, None]),
    "int nulls": pa.array([1, None]),
    "bool nulls": pa.array([True, None]),
    "null": pa.nulls(2),
    "decimal": pa.array([Decimal("1.25"), Decimal("-2.50")], pa.decimal128(10, 2)),
    "decimal32": pa.array([Decimal("1.25"), None], pa.decimal32(5, 2)),
    "decimal whole": pa.array([Decimal(7), Decimal(-8)], pa.decimal128(18, 0)),
    "decimal huge": pa.array([Decimal(10) ** 30, Decimal(1)], pa.decimal128(38, 0)),
    "date": pa.array([DAY, None]),
    "timestamp": pa.array([MOMENT.replace(tzinfo=None), None], pa.timestamp("us")),
    "timestamp zoned": pa.array([MOMENT, None], pa.timestamp("ms", "Europe/Berlin")),
    "time": pa.array([dt.time(1, 2), None], pa.time64("us")),
    "duration": pa.array([dt.timedelta(hours=1), None], pa.duration("s")),
    "string": pa.array(["ä", None]),
    "string view": pa.array(["ä", None], pa.string_view()),
    "large string": pa.array(["ä", None], pa.large_string()),
    "binary": pa.array([b"\0\1", None]),
    "fixed binary": pa.array([b"ab", b"cd"], pa.binary(2)),
    "dictionary": pa.array(["x", "y"]).dictionary_encode(),
    "dictionary numbers": pa.array([5, 6]).dictionary_encode(),
    "list fixed": pa.array([[1, 2, 3], [4, 5, 6]], pa.list_(pa.float32(), 3)),
    "list equal": pa.array([[1, 2], [3, 4]]),
    "list nested": pa.array([[[1, 2]], [[3, 4]]]),
    "list ragged": pa.array([[1], [2, 3]]),
    "list missing": pa.array([[1], None]),
    "struct": pa.array([{"a": 1, "b": "x"}, {"a": None, "b": "y"}]),
    "map": pa.array([[("k", 1)], []], pa.map_(pa.string(), pa.int64())),
    "image": pa.array([{"bytes": b"png", "path": None}, {"bytes": b"png", "path": "p"}]),
    "tensor": _tensors(),
}
REFUSED = {"int nulls", "bool nulls", "decimal huge", "list ragged", "list missing"}
SHAPES = {
    "list fixed": ("float32", (2, 3)),
    "list equal": ("int64", (2, 2)),
    "list nested": ("int64", (2, 1, 2)),
    "tensor": ("float32", (2, 2, 2)),
    "bool": ("bool", (2,)),
    "int8": ("int8", (2,)),
    "uint64": ("uint64", (2,)),
    "float16": ("float16", (2,)),
    "float nulls": ("float64", (2,)),
    "null": ("float64", (2,)),
    "decimal": ("float64", (2,)),
    "decimal32": ("float32", (2,)),
    "decimal whole": ("int64", (2,)),
    "dictionary numbers": ("int64", (2,)),
    "date": ("datetime64[D]", (2,)),
    "timestamp": ("datetime64[us]", (2,)),
    "timestamp zoned": ("datetime64[ms]", (2,)),
    "duration": ("timedelta64[s]", (2,)),
}


def _plain(value: Any) -> Any:
    """Values as Python has them, to compare with Arrow's; NaN and NaT are missing."""
    if isinstance(value, np.ndarray | list):
        return [_plain(each) for each in value]
    if isinstance(value, np.generic):
        value = value.item()
    if isinstance(value, Decimal):
        return float(value)
    if isinstance(value, dt.datetime) and value.tzinfo is not None:
        return value.astimezone(dt.UTC).replace(tzinfo=None)
    return None if value != value else value  # noqa: PLR0124 - NaN


@pytest.mark.parametrize("name", COLUMNS)
def test_batches(name: str) -> None:
    """Arrays have the documented type and shape and the same values, or the column is refused by name."""
    table = pa.table({name: pa.chunked_array([COLUMNS[name].slice(0, 1), COLUMNS[name].slice(1)])})
    batches = DataConnector.from_dataframe(table)._ingestor.to_batches(2, shuffle=False)
    if name in REFUSED:
        with pytest.raises(DataError, match=f"column '{name}'") as refused:
            next(iter(batches))
        assert refused.value.column == name
        return
    (batch,) = batches
    dtype, shape = SHAPES.get(name, ("object", (2,)))
    assert (str(batch[name].dtype), batch[name].shape) == (dtype, shape)
    expected = COLUMNS[name].to_numpy_ndarray() if name == "tensor" else COLUMNS[name].to_pylist()
    assert _plain(batch[name]) == _plain(list(expected))


@pytest.mark.parametrize("name", COLUMNS)
def test_arrow_keeps_everything(name: str) -> None:
    """to_arrow changes neither types nor values, also through a pickle and a shard."""
    connector = DataConnector.from_dataframe(pa.table({name: COLUMNS[name]}))
    for read in (connector, pickle.loads(pickle.dumps(connector))):
        assert read.to_arrow().combine_chunks().equals(pa.table({name: COLUMNS[name]}))


@pytest.mark.parametrize("name", COLUMNS)
def test_pandas(name: str) -> None:
    """to_pandas has all values; categories stay categories."""
    frame = DataConnector.from_dataframe(pa.table({name: COLUMNS[name]})).to_pandas()
    assert len(frame) == 2
    if name.startswith("dictionary"):
        assert str(frame[name].dtype) == "category"
    if name in ("string", "bool", "int8", "uint64", "date", "time", "binary", "decimal", "float nulls"):
        values = [None if v is None or v != v else v for v in frame[name].tolist()]  # noqa: PLR0124
        assert values == COLUMNS[name].to_pylist()


@pytest.mark.parametrize("streaming", [False, True])
@pytest.mark.parametrize("name", COLUMNS)
def test_hugging_face(name: str, streaming: bool) -> None:
    """Hugging Face's data sets, loaded or streamed, have all values; maps are refused by name."""
    connector = DataConnector.from_dataframe(pa.table({name: COLUMNS[name]}))
    if name == "map":
        with pytest.raises(DataError, match="column 'map'"):
            connector.to_huggingface_dataset(streaming=streaming)
        return
    rows = [row[name] for row in connector.to_huggingface_dataset(streaming=streaming)]
    expected = list(COLUMNS[name].to_numpy_ndarray()) if name == "tensor" else COLUMNS[name].to_pylist()
    assert _plain(rows) == _plain(expected)


def test_what_hugging_face_wrote_down_is_kept() -> None:
    """Images and class labels of a Hugging Face dataset are that again after a connector."""
    import datasets

    features = datasets.Features(
        {
            "image": datasets.Image(),
            "label": datasets.ClassLabel(names=["a", "b"]),
            "grid": datasets.Array2D((2, 2), "float32"),
        }
    )
    rows = {"image": [np.zeros((4, 4, 3), np.uint8)], "label": [1], "grid": [[[1, 2], [3, 4]]]}
    given = datasets.Dataset.from_dict(rows, features=features)
    connector = DataConnector.from_dataframe(given)
    back = connector.to_huggingface_dataset()
    assert back.features["label"] == features["label"]
    assert back[0]["image"].size == (4, 4)
    (batch,) = connector._ingestor.to_batches(1, shuffle=False)
    assert batch["grid"].tolist() == [[[1, 2], [3, 4]]]
    assert batch["image"][0]["bytes"].startswith(b"\x89PNG")


def test_hugging_face_options() -> None:
    """limit, batch size, dropping, shuffling of the two forms; a stream travels, and goes on where it was."""
    connector = DataConnector.from_dataframe(pa.table({"i": range(10)}))
    assert connector.to_huggingface_dataset(limit=3)["i"][:] == [0, 1, 2]
    assert sorted(connector.to_huggingface_dataset(shuffle=True)["i"]) == list(range(10))
    for shuffle in (False, True):
        streamed = connector.to_huggingface_dataset(
            streaming=True, limit=9, batch_size=4, drop_last_batch=True, shuffle=shuffle
        )
        assert sorted(row["i"] for row in streamed) == list(range(8))
    streamed = pickle.loads(pickle.dumps(connector.to_huggingface_dataset(streaming=True)))
    running = iter(streamed)
    assert [next(running)["i"] for _ in range(4)] == [0, 1, 2, 3]
    again = connector.to_huggingface_dataset(streaming=True)
    again.load_state_dict(streamed.state_dict())
    assert [row["i"] for row in again] == list(range(4, 10))


def test_slices_of_lists_are_converted_as_what_they_are() -> None:
    """A batch that begins within a column of lists gets its own values, and an empty one none."""
    column = COLUMNS["list fixed"].slice(1)
    assert as_array("c", column).tolist() == [[4, 5, 6]]
    assert as_array("c", column.slice(1)).shape == (0, 3)
    assert as_array("c", pa.chunked_array([], pa.list_(pa.int8()))).shape == (0, 0)


TIMES = ("date", "timestamp", "timestamp zoned", "duration")
"""NumPy has arrays of them; torch gets lists."""


def _columns_of(name: str) -> DataConnector:
    return DataConnector.from_dataframe(pa.table({name: COLUMNS[name]}), expand_dims=False)


@pytest.mark.parametrize("name", COLUMNS)
def test_torch(name: str) -> None:
    """Batches for torch have arrays as documented or lists of all values, or the name is in the error."""
    if name in REFUSED:
        with pytest.raises(DataError, match=f"'{name}'"):
            next(iter(_columns_of(name).to_torch_dataset(batch_size=2)))
        return
    (batch,) = _columns_of(name).to_torch_dataset(batch_size=2)
    as_array = name in SHAPES and name not in TIMES
    if as_array:
        dtype, shape = SHAPES[name]
        assert (str(batch[name].dtype).removeprefix("torch."), tuple(batch[name].shape)) == (dtype, shape)
    else:
        assert isinstance(batch[name], list)
    values = batch[name].tolist() if as_array else batch[name]
    expected = COLUMNS[name].to_numpy_ndarray() if name == "tensor" else COLUMNS[name].to_pylist()
    assert _plain(values) == _plain(list(expected))


def test_torch_shapes() -> None:
    """Columns of numbers are (rows, 1) unless told otherwise; single rows are (1,) or numbers."""
    table = pa.table({"n": [1, 2, 3], "s": ["a", "b", "c"]})
    (batch,) = DataConnector.from_dataframe(table).to_torch_dataset(batch_size=2)
    assert tuple(batch["n"].shape) == (2, 1)
    assert batch["s"] == ["a", "b"]
    rows = list(DataConnector.from_dataframe(table).to_torch_dataset())
    assert [tuple(row["n"].shape) for row in rows] == [(1,)] * 3
    with pytest.warns(DeprecationWarning, match="to_torch_dataset"):
        pipe = DataConnector.from_dataframe(table).to_torch_datapipe(batch_size=1)
    assert [batch["n"].tolist() for batch in pipe] == [[[1]], [[2]], [[3]]]
    with pytest.raises(DataError, match="no column 'gone'"):
        DataConnector.from_dataframe(table).to_torch_dataset(batch_size=1, columns=["gone"])
