"""Processes that fill one directory side by side, one of which is killed while it writes."""

from __future__ import annotations

import pickle
import signal
import subprocess
import sys
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from tests.support.owner import wait_for

from heliostat.data import DataConnector
from heliostat.data._loading import make_recipe
from heliostat.data._loading._reader import batches

if TYPE_CHECKING:
    from pathlib import Path

ROWS, GROUPS = 6000, 6
COLUMNS = ["row", "a", "b"]

_READER = """
import os, pickle, signal, sys, time
from pathlib import Path
import numpy as np
from heliostat.data._loading import _buckets, _cache
from heliostat.data._loading._reader import batches

name, directory = sys.argv[1], Path(sys.argv[2])

def stay_until_killed():
    (directory / "stays").touch()
    time.sleep(300)

calls = []

def half(file, view):
    calls.append(view.nbytes)
    if len(calls) == 4:
        file.write(view.cast("B")[: view.nbytes // 2])
        stay_until_killed()
    return whole(file, view)

def scatter(self, number):
    if number == 2:
        (self._directory / "2").write_bytes(b"half")
        stay_until_killed()
    return whole(self, number)

recipe = pickle.loads((directory / "recipe").read_bytes())
if name == "killed" and recipe.shuffle == "global":
    whole, _buckets.Buckets._scatter = _buckets.Buckets._scatter, scatter
elif name == "killed":
    whole, _cache._write_all = _cache._write_all, half
(directory / f"{name} begins").touch()
found = [labels for _, labels in batches(recipe, (7,), recipe.place(0, 1), 0, 1)]
np.save(directory / name, np.concatenate(found))
"""


def _cached(directory: Path) -> dict[str, bytes]:
    """What a reader finds in a cache."""
    return {path.name: path.read_bytes() for path in directory.glob("??/*") if not path.name.startswith(".")}


@pytest.mark.parametrize("shuffle", [False, "window", "global"])
def test_one_of_several_is_killed_while_it_writes(
    tmp_path: Path, shuffle: bool | str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The others get all rows, in the one order, and what is left in the directory is whole."""
    monkeypatch.setattr("heliostat.data._loading._recipes.UNIT_ROWS", 1)
    rows = np.arange(ROWS, dtype=np.int64)
    path = tmp_path / "rows.parquet"
    pq.write_table(pa.table({"row": rows, "a": rows / 2, "b": rows / 4}), path, row_group_size=ROWS // GROUPS)
    connector = DataConnector.from_sources(None, [str(path)])
    slices = connector.source.slices()
    assert slices is not None

    def recipe(cache: Path) -> Any:
        return make_recipe(
            slices,
            connector.schema,
            batch_size=64,
            drop_last=False,
            shuffle=shuffle,
            feature_cols=["a", "b"],
            label_col="row",
            cache=cache,
        )

    shared = tmp_path / "shared"
    (tmp_path / "recipe").write_bytes(pickle.dumps(recipe(shared)))

    def start(name: str) -> subprocess.Popen[bytes]:
        return subprocess.Popen([sys.executable, "-c", _READER, name, str(tmp_path)])

    running = [start("killed")]
    try:
        wait_for((tmp_path / "stays").exists, 60)
        running += [start("one"), start("two")]
        wait_for(lambda: all((tmp_path / f"{name} begins").exists() for name in ("one", "two")), 60)
        running[0].send_signal(signal.SIGKILL)
        assert [process.wait(60) for process in running] == [-signal.SIGKILL, 0, 0]
    finally:
        for process in running:
            process.kill()
            process.wait()
    orders = [np.load(tmp_path / f"{name}.npy") for name in ("one", "two")]
    alone = recipe(tmp_path / "alone")
    expected = np.concatenate([labels for _, labels in batches(alone, (7,), alone.place(0, 1), 0, 1)])
    assert np.array_equal(np.sort(expected), rows)
    for order in orders:
        assert np.array_equal(order, expected)
    assert _cached(shared) == _cached(tmp_path / "alone")
    assert len(_cached(shared)) == GROUPS
    assert list(shared.glob("shuffle-*")) == []
