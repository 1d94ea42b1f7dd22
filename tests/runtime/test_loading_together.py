"""Loaders among others: ranks with workers, processes on one cache, files that differ or go, S3."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from torch.utils.data import DataLoader
from torchdata.stateful_dataloader import StatefulDataLoader  # type: ignore[import-untyped]

from heliostat._stages import open_location
from heliostat.data import DataConnector, ShardedDataConnector
from heliostat.data._loading import make_recipe, torch_dataset
from heliostat.data._shards import RowSlice
from heliostat.exceptions import DataError

if TYPE_CHECKING:
    from pathlib import Path

    from tests.runtime.conftest import AsRank
    from tests.support.s3 import S3Server

ROWS = 10_001
FILES = 3

pytestmark = [
    pytest.mark.filterwarnings("ignore:This DataLoader will create:UserWarning"),  # on few CPUs
    pytest.mark.filterwarnings("ignore:'set_vital' is deprecated:UserWarning"),  # torchdata with this torch
]


@pytest.fixture(autouse=True)
def small_units(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Units of one row group, so that there are many; a cache of the test's own."""
    monkeypatch.setattr("heliostat.data._loading._recipes.UNIT_ROWS", 1)
    monkeypatch.setenv("HELIOSTAT_LOADER_CACHE_DIR", str(tmp_path / "cache"))


@pytest.fixture
def table() -> pa.Table:
    """Numbers whose first column is the row's place."""
    row = np.arange(ROWS, dtype=np.int64)
    return pa.table({"row": row, "a": row.astype(np.float32), "b": row.astype(np.float32)})


@pytest.fixture
def directory(table: pa.Table, tmp_path: Path) -> Path:
    """The table in files of 500 rows a row group."""
    found = tmp_path / "table"
    found.mkdir()
    for number in range(FILES):
        part = table.slice(number * ROWS // FILES, (number + 1) * ROWS // FILES - number * ROWS // FILES)
        pq.write_table(part, found / f"{number}.parquet", row_group_size=500)
    return found


def dense(connector: DataConnector, **options: Any) -> Any:
    """A data set of dense batches whose labels are the rows' places."""
    wanted = {"batch_size": 64, "feature_cols": ["a", "b"], "label_col": "row", "drop_last_batch": False}
    return connector.to_torch_dataset(**{**wanted, **options})


def places(batches: Any) -> np.ndarray[Any, Any]:
    """Which rows came, in order; that a row's values belong together is checked."""
    found = []
    for matrix, labels in batches:
        assert np.array_equal(matrix.numpy()[:, 1], labels.numpy())
        found.append(labels.numpy().copy())
    return np.concatenate(found) if found else np.empty(0, np.int64)


@pytest.mark.parametrize("shuffle", [False, True, "global"])
@pytest.mark.parametrize("equal", [True, False])
def test_ranks_with_workers(directory: Path, equal: bool, shuffle: bool | str, as_rank: AsRank) -> None:
    """Three ranks with two workers each get all rows once; with equal=True as many rows and batches each."""
    connector = ShardedDataConnector.from_sources([str(directory)], equal=equal)
    parts = []
    for rank in range(3):
        as_rank(rank, 3)
        data = dense(connector.get_shard(), shuffle=shuffle, seed=rank)
        loader = DataLoader(data, batch_size=None, num_workers=2)
        batches = list(loader)
        parts.append(places(batches))
        assert len(batches) == len(data)
    rows = np.sort(np.concatenate(parts))
    sizes = [len(part) for part in parts]
    if equal:
        assert sizes == [ROWS // 3] * 3
        assert len(np.unique(rows)) == len(rows)
    else:
        assert max(sizes) - min(sizes) <= 1
        assert np.array_equal(rows, np.arange(ROWS))


def test_ranks_with_workers_resume(directory: Path, as_rank: AsRank) -> None:
    """A rank's loader with workers goes on in the middle of an epoch with the very next batch."""
    as_rank(1, 2)
    connector = ShardedDataConnector.from_sources([str(directory)], equal=False).get_shard()

    def loader() -> Any:
        return StatefulDataLoader(dense(connector, shuffle=True), batch_size=None, num_workers=2)

    started, resumed = loader(), loader()
    running = iter(started)
    first = places(next(running) for _ in range(31))
    resumed.load_state_dict(started.state_dict())
    rest = places(running)
    assert np.array_equal(places(resumed), rest)
    assert np.array_equal(np.sort(np.concatenate([first, rest])), np.arange(ROWS // 2, ROWS))


def test_processes_share_a_cache(directory: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Four processes that fill one cache at a time read the right rows, and later nobody decodes."""
    connector = DataConnector.from_sources(None, [str(directory)])
    loaders = [
        DataLoader(dense(connector, cache=True, shuffle=shuffle), batch_size=None, num_workers=2)
        for shuffle in (False, True)
    ]
    for found in zip(*(list(loader) for loader in loaders), strict=True):
        assert {len(labels) for _, labels in found} <= {64, ROWS % 64}
    both = [iter(loader) for loader in loaders]
    rows = [places(running) for running in both]
    assert all(np.array_equal(np.sort(one), np.arange(ROWS)) for one in rows)
    files = [path for path in (tmp_path / "cache").rglob("*") if path.is_file()]
    groups = sum(pq.read_metadata(path).num_row_groups for path in directory.iterdir())
    assert len(files) == groups
    monkeypatch.setattr("heliostat.data._loading._decode.Decoder.numbers", None)
    for shuffle in (False, True, "global"):
        assert np.array_equal(np.sort(places(dense(connector, cache=True, shuffle=shuffle))), np.arange(ROWS))


@pytest.mark.parametrize("decoder", ["pyarrow", "polars"])
@pytest.mark.parametrize("drift", ["lacks", "type"])
def test_a_file_that_differs(
    table: pa.Table, tmp_path: Path, drift: str, decoder: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A column that a later file lacks, or has as text, is named with its file; rows before it are whole."""
    monkeypatch.setenv("HELIOSTAT_DECODER", decoder)
    text = pa.array([f"n{row}" for row in range(ROWS)])
    other = table.drop_columns(["b"]) if drift == "lacks" else table.set_column(2, "b", text)
    for number, part in enumerate((table, other)):
        pq.write_table(part, tmp_path / f"{number}.parquet")
    with pytest.raises(DataError, match=r"column 'b'"):
        dense(DataConnector.from_sources(None, [str(tmp_path)]))
    # Where files are replaced after they were looked at, reading finds it.
    slices = [RowSlice(str(tmp_path / f"{number}.parquet"), 0, 0, ROWS) for number in range(2)]
    recipe = make_recipe(slices, table.schema, batch_size=64, feature_cols=["a", "b"], label_col="row")
    came: list[Any] = []
    with pytest.raises(DataError, match=r"1\.parquet") as raised:
        came.extend(torch_dataset(recipe))
    assert raised.value.column == "b"
    assert np.array_equal(places(came), np.arange(ROWS // 64 * 64))


@pytest.mark.parametrize("shuffle", [False, True, "global"])
@pytest.mark.parametrize("damage", ["truncated", "gone", "replaced"])
def test_a_file_that_goes(table: pa.Table, directory: Path, damage: str, shuffle: bool | str) -> None:
    """A file that is cut off, gone or another one once the data set is made ends the epoch by its name."""
    data = dense(DataConnector.from_sources(None, [str(directory)]), shuffle=shuffle)
    path = directory / "1.parquet"
    if damage == "gone":
        path.unlink()
    elif damage == "truncated":
        path.write_bytes(path.read_bytes()[:-1000])
    else:
        pq.write_table(table.slice(0, 100), path)
    came: list[Any] = []
    with pytest.raises(DataError, match=r"1\.parquet"):
        came.extend(data)
    assert all(len(labels) == 64 for _, labels in came)
    places(came)


def test_nothing_to_load(table: pa.Table, tmp_path: Path) -> None:
    """An empty table, and a column that is not there, are refused when the data set is made."""
    pq.write_table(table.slice(0, 0), tmp_path / "0.parquet")
    connector = DataConnector.from_sources(None, [str(tmp_path)])
    with pytest.raises(DataError, match="no rows"):
        dense(connector)
    pq.write_table(table, tmp_path / "1.parquet")
    with pytest.raises(DataError, match="no column 'nothing'"):
        dense(connector, feature_cols=["a", "nothing"])


def test_files_on_s3(s3: S3Server, table: pa.Table, directory: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Objects are loaded like files, shuffled or not, and one that is gone ends the epoch by its address."""
    for name, value in s3.environment.items():
        monkeypatch.setenv(name, value)
    url = f"s3://{s3.bucket}/loading"
    for path in directory.iterdir():
        with open_location(url).join(path.name).open_output() as file:
            file.write(path.read_bytes())
    connector = DataConnector.from_sources(None, [url], use_file_cache=False)
    for shuffle in (False, True, "global"):
        rows = places(dense(connector, shuffle=shuffle, cache=True))
        assert np.array_equal(np.sort(rows), np.arange(ROWS))
    data = dense(connector)
    open_location(url).join("1.parquet").delete()
    came: list[Any] = []
    with pytest.raises(DataError, match=r"loading/1\.parquet"):
        came.extend(data)
    assert np.array_equal(places(came), np.arange(len(came) * 64))


def test_a_replaced_object_is_not_taken_from_the_cache(
    s3: S3Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An object of the same size, written within the same second, is another one: its ETag says so."""
    for name, value in s3.environment.items():
        monkeypatch.setenv(name, value)
    url = f"s3://{s3.bucket}/replaced"
    sizes = set()
    for first in (0.0, 1000.0):
        path = tmp_path / "0.parquet"
        column = pa.array(np.arange(256) + first)
        pq.write_table(pa.table({"a": column}), path, compression="none", use_dictionary=False)
        sizes.add(path.stat().st_size)
        with open_location(url).join("0.parquet").open_output() as file:
            file.write(path.read_bytes())
        loaded = DataConnector.from_sources(None, [url]).to_torch_dataset(batch_size=256, cache=True)
        values = np.concatenate([np.asarray(batch["a"]).ravel() for batch in loaded])
        assert values.min() == first
    assert len(sizes) == 1
