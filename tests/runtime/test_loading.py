"""Batches for PyTorch from Parquet: exact, shuffled, sharded over workers, resumable, cached."""

from __future__ import annotations

import gc
import os
import stat
import threading
import time
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch
from torch.utils.data import DataLoader
from torchdata.stateful_dataloader import StatefulDataLoader  # type: ignore[import-untyped]

from heliostat.data._loading import make_recipe, torch_dataset
from heliostat.data._loading._cache import Stored, to_remove
from heliostat.data._loading._plan import coalesced, span, windows
from heliostat.data._shards import RowSlice
from heliostat.exceptions import ConfigurationError, DataError

if TYPE_CHECKING:
    from pathlib import Path

ROWS = 200_000
GROUP = 10_000


@pytest.fixture(scope="module")
def table() -> pa.Table:
    """Numbers whose first column is the row's place."""
    random = np.random.default_rng(0)
    return pa.table(
        {
            "row": np.arange(ROWS, dtype=np.int64),
            "a": random.standard_normal(ROWS).astype(np.float32),
            "b": random.integers(0, 9, ROWS).astype(np.int32),
            "name": pa.array([f"n{i % 7}" for i in range(ROWS)]),
        }
    )


@pytest.fixture(scope="module")
def slices(table: pa.Table, tmp_path_factory: pytest.TempPathFactory) -> list[RowSlice]:
    """The table in three files."""
    return written(table, tmp_path_factory.mktemp("table"), (70_000, 65_000, 65_000))


@pytest.fixture(autouse=True)
def small_units(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Units of one row group, so that there are many; a cache of the test's own."""
    monkeypatch.setattr("heliostat.data._loading._recipes.UNIT_ROWS", 1)
    monkeypatch.setenv("HELIOSTAT_LOADER_CACHE_DIR", str(tmp_path / "cache"))


def written(table: pa.Table, directory: Path, parts: tuple[int, ...]) -> list[RowSlice]:
    """Write files, and return all their rows as slices."""
    found, first = [], 0
    for number, rows in enumerate(parts):
        path = directory / f"{number}.parquet"
        pq.write_table(table.slice(first, rows), path, row_group_size=GROUP)
        first += rows
        footer = pq.read_metadata(path)
        found += [
            RowSlice(str(path), group, 0, footer.row_group(group).num_rows)
            for group in range(footer.num_row_groups)
        ]
    return found


def dataset(slices: list[RowSlice], schema: pa.Schema, *, seed: int | None = 1, **options: Any) -> Any:
    """Make a data set of dense batches whose labels are the rows' places."""
    wanted = {"batch_size": 1024, "feature_cols": ["a", "b"], "label_col": "row", "drop_last": False}
    return torch_dataset(make_recipe(slices, schema, **{**wanted, **options}), seed=seed)


def places(batches: Any) -> np.ndarray[Any, Any]:
    """Which rows came, in order."""
    return np.concatenate([labels.numpy() for _, labels in batches])


@pytest.mark.parametrize("decoder", ["pyarrow", "polars"])
@pytest.mark.parametrize("shuffle", [False, "window", "global"])
def test_dense_batches_have_the_rows_of_the_table(
    table: pa.Table,
    slices: list[RowSlice],
    shuffle: bool | str,
    decoder: str,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Each row comes once, its values belong together, and all batches but the last have one size."""
    monkeypatch.setenv("HELIOSTAT_DECODER", decoder)
    batches = list(dataset(slices, table.schema, shuffle=shuffle))
    assert [len(labels) for _, labels in batches[:-1]] == [1024] * (ROWS // 1024)
    assert all(matrix.is_contiguous() and matrix.dtype == torch.float32 for matrix, _ in batches)
    order = places(batches)
    assert np.array_equal(np.sort(order), np.arange(ROWS))
    assert np.array_equal(order, np.arange(ROWS)) == (shuffle is False)
    matrix = torch.cat([matrix for matrix, _ in batches]).numpy()
    assert np.array_equal(matrix[:, 0], table["a"].to_numpy()[order])
    assert np.array_equal(matrix[:, 1], table["b"].to_numpy()[order])


@pytest.mark.parametrize("shuffle", [False, True, "global"])
def test_batches_by_name(table: pa.Table, slices: list[RowSlice], shuffle: bool | str) -> None:
    """The dictionary form has arrays of shape (rows, 1), and lists where there is no array."""
    found = list(torch_dataset(make_recipe(slices, table.schema, batch_size=5000, shuffle=shuffle), seed=3))
    assert {batch["a"].shape for batch in found} == {(5000, 1)}
    order = np.concatenate([batch["row"][:, 0] for batch in found])
    assert np.array_equal(np.sort(order), np.arange(ROWS))
    assert [name for batch in found for name in batch["name"]] == [f"n{row % 7}" for row in order]


def test_single_rows(table: pa.Table, slices: list[RowSlice]) -> None:
    """Without a batch size rows come one by one, scalars with one axis, or with none if asked."""
    row = next(iter(torch_dataset(make_recipe(slices, table.schema, batch_size=None))))
    assert row["row"].shape == (1,)
    assert row["name"] == "n0"
    flat = next(iter(torch_dataset(make_recipe(slices, table.schema, batch_size=None), expand_dims=False)))
    assert flat["row"] == 0
    assert len(torch_dataset(make_recipe(slices, table.schema, batch_size=None))) == ROWS


def test_order_is_seeded_and_differs_between_epochs(table: pa.Table, slices: list[RowSlice]) -> None:
    """One seed gives one order whatever the number of threads, and each epoch has another."""
    first, again = (dataset(slices, table.schema, shuffle=True, threads=count) for count in (1, 4))
    epochs = [places(first) for _ in range(2)]
    assert np.array_equal(epochs[0], places(again))
    assert not np.array_equal(epochs[0], epochs[1])
    assert np.array_equal(epochs[1], places(again))
    again.set_epoch(1)
    assert np.array_equal(epochs[1], places(again))
    assert not np.array_equal(epochs[0], places(dataset(slices, table.schema, shuffle=True, seed=2)))


def test_quality_of_the_shuffles(table: pa.Table, slices: list[RowSlice]) -> None:
    """Global has the displacement and the mixing of a uniform order; window mixes its units only."""
    uniform = ROWS / 3  # mean distance between two random places
    for shuffle, low, high in (("window", 0.75, 1.25), ("global", 0.98, 1.02)):
        order = places(dataset(slices, table.schema, shuffle=shuffle, batch_size=4096))
        moved = np.abs(order - np.arange(ROWS)).mean()
        assert low < moved / uniform < high, shuffle
        groups = [len(np.unique(order[at : at + 4096] // GROUP)) for at in range(0, ROWS - 4096, 4096)]
        assert (min(groups) == ROWS // GROUP) == (shuffle == "global")
        assert np.median(groups) >= 2
        if shuffle == "global":
            assert abs(np.corrcoef(order, np.arange(ROWS))[0, 1]) < 0.01
        # Within a window the order is uniform as well: neighbours are no longer neighbours.
        assert np.mean(np.diff(order) == 1) < 0.001


@pytest.mark.filterwarnings("ignore:This DataLoader will create:UserWarning")  # on few CPUs
@pytest.mark.parametrize("workers", [1, 3])
@pytest.mark.parametrize("shuffle", [True, "global"])
def test_workers_divide_an_epoch(
    table: pa.Table, slices: list[RowSlice], workers: int, shuffle: bool | str
) -> None:
    """Shuffling works with DataLoader workers: no row is lost or doubled, and epochs differ."""
    loader = DataLoader(dataset(slices, table.schema, shuffle=shuffle), batch_size=None, num_workers=workers)
    epochs = [places(loader) for _ in range(2)]
    for order in epochs:
        assert np.array_equal(np.sort(order), np.arange(ROWS))
    assert not np.array_equal(epochs[0], epochs[1])


@pytest.mark.filterwarnings("ignore:'set_vital' is deprecated:UserWarning")  # torchdata with this torch
@pytest.mark.filterwarnings("ignore:This DataLoader will create:UserWarning")
@pytest.mark.parametrize("workers", [0, 2])
def test_resumes_in_the_middle_of_an_epoch(table: pa.Table, slices: list[RowSlice], workers: int) -> None:
    """Torchdata's loader goes on with the very next batch, shuffled and with workers, and then anew."""

    def loader() -> Any:
        made = dataset(slices, table.schema, shuffle=True, seed=None)
        return StatefulDataLoader(made, batch_size=None, num_workers=workers)

    started = loader()
    running = iter(started)
    for _ in range(50):
        next(running)
    state = started.state_dict()
    rest = places(running)
    resumed = loader()
    resumed.load_state_dict(state)
    assert np.array_equal(places(resumed), rest)
    assert np.array_equal(np.sort(places(resumed)), np.arange(ROWS))


def test_position_without_a_loader(table: pa.Table, slices: list[RowSlice]) -> None:
    """The data set tells its own position, and refuses one that means something else."""
    made = dataset(slices, table.schema, shuffle="global")
    running = iter(made)
    for _ in range(7):
        next(running)
    state = made.state_dict()
    rest, following = places(running), places(made)
    other = dataset(slices, table.schema, shuffle="global", seed=9)
    other.load_state_dict(state)
    assert np.array_equal(places(other), rest)
    assert np.array_equal(places(other), following)
    with pytest.raises(ConfigurationError, match="batch_size=1024"):
        dataset(slices, table.schema, shuffle="global", batch_size=7).load_state_dict(state)


def interrupted(batches: Any) -> None:
    """A loop that ends by Ctrl-C."""
    for _ in batches:
        raise KeyboardInterrupt


@pytest.mark.parametrize("end", ["drop", "interrupt"])
def test_threads_end_with_the_iteration(table: pa.Table, slices: list[RowSlice], end: str) -> None:
    """Nothing goes on decoding for an iterator that was dropped or interrupted."""
    running = iter(dataset(slices, table.schema, shuffle=True, threads=3))
    next(running)
    assert any("heliostat-decode" in thread.name for thread in threading.enumerate())
    if end == "interrupt":
        with pytest.raises(KeyboardInterrupt):
            interrupted(running)
    del running
    gc.collect()
    deadline = time.monotonic() + 10
    while any("heliostat-decode" in thread.name for thread in threading.enumerate()):
        assert time.monotonic() < deadline
        time.sleep(0.01)


@pytest.mark.parametrize("form", ["dense", "names"])
def test_later_epochs_come_from_the_cache(
    table: pa.Table, tmp_path: Path, form: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Cached rows are the same rows, private to their user, and not used once the source changed."""
    slices = written(table, tmp_path, (ROWS,))
    wanted = {"feature_cols": ["a", "b"], "label_col": "row"} if form == "dense" else {"columns": ["row"]}

    def rows() -> Any:
        recipe = make_recipe(slices, table.schema, batch_size=4096, drop_last=False, cache=True, **wanted)
        found = list(torch_dataset(recipe))
        return np.concatenate([one[1] if form == "dense" else one["row"][:, 0] for one in found])

    assert np.array_equal(rows(), np.arange(ROWS))
    files = [path for path in (tmp_path / "cache").rglob("*") if path.is_file()]
    assert len(files) == len(slices)
    assert {stat.S_IMODE(path.stat().st_mode) for path in files} == {0o600}
    assert stat.S_IMODE((tmp_path / "cache").stat().st_mode) == 0o700
    with monkeypatch.context() as patch:
        patch.setattr("heliostat.data._loading._decode.Decoder.table", None)
        patch.setattr("heliostat.data._loading._decode.Decoder.numbers", None)
        assert np.array_equal(rows(), np.arange(ROWS))
    files[0].write_bytes(files[0].read_bytes()[:-100])
    assert np.array_equal(rows(), np.arange(ROWS)), "a damaged file is decoded anew"
    changed = table.set_column(0, "row", pa.array(np.arange(ROWS)[::-1]))
    slices = written(changed, tmp_path, (ROWS,))
    assert np.array_equal(rows(), np.arange(ROWS)[::-1])
    (tmp_path / "0.parquet").unlink()
    with pytest.raises(DataError, match=r"0\.parquet"):
        rows()


def test_cache_keeps_to_its_limit(
    table: pa.Table, slices: list[RowSlice], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What was used longest ago goes first, and what exceeds the limit is not kept."""
    files = [Stored("old", 10, 1.0), Stored("new", 10, 3.0), Stored("middle", 10, 2.0)]
    assert [file.path for file in to_remove(files, 15)] == ["old", "middle"]
    assert to_remove(files, 30) == []
    monkeypatch.setenv("HELIOSTAT_LOADER_CACHE_LIMIT", "500kB")
    for _ in range(2):
        assert len(places(dataset(slices, table.schema, cache=True))) == ROWS
    held = sum(path.stat().st_size for path in (tmp_path / "cache").rglob("*") if path.is_file())
    assert 0 < held <= 1_000_000, "the limit, and a unit for each thread"


def test_global_shuffle_leaves_nothing_behind(
    table: pa.Table, slices: list[RowSlice], tmp_path: Path
) -> None:
    """The files of a global shuffle go with its iteration, and so do those of a killed process."""
    left = tmp_path / "cache" / "shuffle-left"
    left.mkdir(parents=True)
    (left / "lock").touch()
    running = iter(dataset(slices, table.schema, shuffle="global"))
    next(running)
    assert [path.name for path in (tmp_path / "cache").iterdir()] != ["shuffle-left"]
    del running
    gc.collect()
    assert list((tmp_path / "cache").iterdir()) == []


def test_errors_name_file_and_column(table: pa.Table, tmp_path: Path) -> None:
    """A damaged column is named with its file, after the batches before it were given out whole."""
    slices = written(table, tmp_path, (ROWS,))
    path = tmp_path / "0.parquet"
    chunk = pq.read_metadata(path).row_group(10).column(1)
    content = bytearray(path.read_bytes())
    start = chunk.dictionary_page_offset or chunk.data_page_offset
    content[start : start + 400] = os.urandom(400)
    path.write_bytes(content)
    running = iter(dataset(slices, table.schema))
    whole = [len(next(running)[1]) for _ in range(10 * GROUP // 1024)]
    assert set(whole) == {1024}
    with pytest.raises(DataError, match=r"Column 'a' in row group 10 of .*0\.parquet") as caught:
        next(running)
    assert caught.value.column == "a"


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"batch_size": 0}, "batch_size=0"),
        ({"shuffle": "strong"}, "shuffle='strong'"),
        ({"feature_cols": ["a", "nothing"]}, "no column 'nothing'"),
        ({"feature_cols": ["a", "name"]}, "'name' is of type string"),
        ({"feature_cols": []}, "names no column"),
        ({"dtype": "int32"}, "not a floating type"),
        ({"window": 0}, "window=0"),
    ],
)
def test_arguments_are_checked_first(
    table: pa.Table, slices: list[RowSlice], options: dict[str, Any], message: str
) -> None:
    """What cannot be used is refused when the data set is made."""
    with pytest.raises((ConfigurationError, DataError), match=message):
        dataset(slices, table.schema, **options)


def test_no_rows_and_missing_values(tmp_path: Path) -> None:
    """An empty source is refused; a null is NaN among floats and refused among integers."""
    with pytest.raises(DataError, match="no rows"):
        dataset([], pa.schema({"a": pa.float32()}))
    table = pa.table({"x": [1.0, None], "y": pa.array([1, None], pa.int64()), "t": [True, None]})
    slices = written(table, tmp_path, (2,))
    for decoder in ("pyarrow", "polars"):
        os.environ["HELIOSTAT_DECODER"] = decoder
        try:
            recipe = make_recipe(
                slices, table.schema, batch_size=2, feature_cols=["x", "y", "t"], drop_last=False
            )
            matrix = next(iter(torch_dataset(recipe))).numpy()
            assert np.array_equal(matrix, np.array([[1.0] * 3, [np.nan] * 3]), equal_nan=True)
            labelled = make_recipe(slices, table.schema, batch_size=2, feature_cols=["x"], label_col="y")
            with pytest.raises(DataError, match="label column 'y' has nulls"):
                next(iter(torch_dataset(labelled)))
        finally:
            del os.environ["HELIOSTAT_DECODER"]
    with pytest.raises(DataError, match="Column 'y'"):
        next(iter(torch_dataset(make_recipe(slices, table.schema, batch_size=2))))


def test_plan_is_exact() -> None:
    """Spans cover every row once; small groups are joined."""
    rng = np.random.default_rng(0)
    for _ in range(50):
        rows = rng.integers(1, 50, rng.integers(1, 9)).tolist()
        total, size, count = sum(rows), int(rng.integers(1, 40)), int(rng.integers(1, 6))
        spans = [span(total, size, index, count, drop_last=False) for index in range(count)]
        assert [row for part in spans for row in part] == list(range(total))
        assert all(len(part) % size == 0 for part in spans[:-1])
        whole = [span(total, size, index, count, drop_last=True) for index in range(count)]
        assert sum(map(len, whole)) == total // size * size
        assert sum(window.rows for window in windows(rows, 2, (1,))) == total
        runs = coalesced(rows, 30)
        assert [unit for run in runs for unit in run] == list(range(len(rows)))
        assert all(sum(rows[unit] for unit in run) >= 30 for run in runs[:-1])
