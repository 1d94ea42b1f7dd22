"""Datasets and real processes: killed at any point, and several at a time."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from datetime import timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from tests.support.rest_catalog import RestCatalogServer

from heliostat.data.data_source import DatasetInfo
from heliostat.dataset import Dataset, DatasetNotExistError, create_from_dataframe
from heliostat.dataset._catalog import place_of
from heliostat.dataset._resolve import data_files

if TYPE_CHECKING:
    from collections.abc import Iterator

PRELUDE = """
import faulthandler, inspect, json, os, signal, sys, time
faulthandler.dump_traceback_later(50, exit=True)
import pyarrow as pa
import pyiceberg.catalog.sql, pyiceberg.io.pyarrow
from heliostat.dataset import Dataset, create_from_dataframe, _commit
from heliostat.dataset import dataset as _dataset

def die():
    os.kill(os.getpid(), signal.SIGKILL)

def before(owner, name, act):
    found = getattr(owner, name)
    setattr(owner, name, lambda *args, **kwargs: (act(), found(*args, **kwargs))[1])

def after(owner, name, act):
    found = getattr(owner, name)
    changed = lambda *args, **kwargs: (found(*args, **kwargs), act())[0]
    static = isinstance(inspect.getattr_static(owner, name), staticmethod)
    setattr(owner, name, staticmethod(changed) if static else changed)

def meet(count):
    folder = os.path.join(os.environ["XDG_DATA_HOME"], "met")
    os.makedirs(folder, exist_ok=True)
    open(os.path.join(folder, str(os.getpid())), "w").close()
    while len(os.listdir(folder)) < count:
        time.sleep(0.01)

def rows(count=300_000, act=None, at=2):
    def batches():
        for number in range(count // 50_000):
            if act and number == at:
                act()
            yield pa.record_batch({"i": pa.array(range(number * 50_000, (number + 1) * 50_000))})
    return pa.RecordBatchReader.from_batches(pa.schema([("i", pa.int64())]), batches())

print("ready", flush=True)
input()
try:
    exec(sys.argv[1])
except Exception as error:
    print(json.dumps([type(error).__name__, str(error)]), flush=True)
"""


@pytest.fixture(autouse=True)
def _place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_DATA_HOME", str(tmp_path))
    monkeypatch.delenv("HELIOSTAT_CATALOG", raising=False)
    monkeypatch.delenv("HELIOSTAT_DATASETS", raising=False)


def run(codes: list[str]) -> list[tuple[int, str]]:
    """Run each piece of code in a process of its own, all at once; returns how and with what each ended."""
    processes = [
        subprocess.Popen(
            [sys.executable, "-c", PRELUDE, code], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )
        for code in codes
    ]
    try:
        for process in processes:
            assert process.stdout is not None
            assert process.stdout.readline() == "ready\n"
        for process in processes:
            assert process.stdin is not None
            process.stdin.write("\n")
            process.stdin.flush()
        return [(process.wait(timeout=60), process.communicate()[0]) for process in processes]
    finally:
        for process in processes:
            process.kill()


def column(name: str, version: str) -> list[Any]:
    """The values of ``i`` in a version."""
    found = data_files(DatasetInfo(name, version))
    return [v for path in found.files for v in pq.read_table(path).column("i").to_pylist()]


def files(name: str) -> Iterator[Path]:
    """Parquet files below the directory of a dataset."""
    return (Path(os.environ["XDG_DATA_HOME"]) / "heliostat/datasets/main" / name).rglob("*.parquet")


def test_a_killed_writer_leaves_the_old_state_or_the_new_one() -> None:
    """Killed while it writes, between the steps, or after: there is all of a version or nothing of it."""
    make = "create_from_dataframe(None, name, 'v2', rows({}){})"
    points = {
        "rows": make.format("act=die, at=4", ""),
        "shuffled": make.format("act=die", ", shuffle=True"),
        "files": "before(_commit, '_stage', die); " + make.format("", ""),
        "metadata": "after(pyiceberg.catalog.sql.SqlCatalog, '_write_metadata', die); " + make.format("", ""),
        "made": "after(_dataset.VersionWriter, 'write', die); " + make.format("", ""),
        "deleted": "before(_dataset, '_remove_directory', die);"
        " Dataset.load(None, name).delete_version('v1')",
    }
    for point in points:
        create_from_dataframe(None, f"old_{point}", "v1", {"i": [1]})
    works = [f"name = 'old_{point}'; {source}" for point, source in points.items()]
    works += [f"name = 'new_{point}'; {points[point]}" for point in ("metadata", "made")]
    create_from_dataframe(None, "dropped", "v1", {"i": [1]})
    works += ["before(_dataset, '_remove_files', die); Dataset.load(None, 'dropped').delete()"]
    assert run(works) == [(-signal.SIGKILL, "")] * len(works)
    for name in ("new_metadata", "dropped"):
        with pytest.raises(DatasetNotExistError):
            Dataset.load(None, name)
    assert column("warehouse.main.new_made", "v2") == list(range(300_000))
    for point in points:
        name = f"warehouse.main.old_{point}"
        versions = Dataset.load(None, name).list_versions()
        assert versions == {"made": ["v1", "v2"], "deleted": []}.get(point, ["v1"])
        if point != "deleted":
            assert column(name, "v1") == [1]
        if point == "made":
            assert column(name, "v2") == list(range(300_000))
            continue
        # The same again works, and what the dead left can be collected.
        dataset = create_from_dataframe(None, name, "v2", {"i": [2]})
        kept = 1 if point == "deleted" else 2
        assert len(list(files(f"old_{point}"))) == kept + (point != "shuffled")
        assert dataset.collect_garbage() == []  # too young
        assert dataset.collect_garbage(timedelta(0), dry_run=True) == dataset.collect_garbage(timedelta(0))
        assert len(list(files(f"old_{point}"))) == kept
        assert column(name, "v2") == [2]
        assert dataset.create_version("v3", {"i": [3]}).list_versions()[-1] == "v3"
    # So can what is left of a dataset that never came to be, or is no more, once there is one of that name.
    for name in ("new_metadata", "dropped"):
        assert len(list(files(name))) == 1
        create_from_dataframe(None, name, "v2", {"i": [2]}).collect_garbage(timedelta(0))
        assert len(list(files(name))) == 1
        assert column(f"warehouse.main.{name}", "v2") == [2]
    assert list((Path(os.environ["XDG_DATA_HOME"]) / "heliostat/spill").iterdir()) == []


def test_of_writers_of_one_version_one_wins() -> None:
    """Processes that make the same version of a new dataset: one makes it, the others are told."""
    # All find that there is nothing yet, not even a namespace.
    meeting = "after(pyiceberg.catalog.sql.SqlCatalog, 'namespace_exists', lambda: meet(3)); "
    told = run([meeting + "create_from_dataframe(None, 'race', 'v1', rows(100_000))"] * 3)
    assert sorted(json.loads(text)[0] for _, text in told if text) == ["DatasetExistError"] * 2
    assert column("warehouse.main.race", "v1") == list(range(100_000))
    assert len(list(files("race"))) == 1


def test_writers_of_different_versions_all_win() -> None:
    """Processes that make different versions do not stand in each other's way."""
    create_from_dataframe(None, "many", "old", {"i": [1]})
    make = "Dataset.load(None, 'many').create_version('v{0}', {{'i': [{0}]}})"
    assert run([make.format(number) for number in range(3)]) == [(0, "")] * 3
    dataset = Dataset.load(None, "many")
    assert sorted(map(str, dataset.list_versions())) == ["old", "v0", "v1", "v2"]
    for number in range(3):
        assert column("warehouse.main.many", f"v{number}") == [number]


def test_a_place_and_a_catalog_can_be_chosen(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """HELIOSTAT_DATASETS moves the files; HELIOSTAT_CATALOG names a catalog that PyIceberg knows."""
    monkeypatch.setenv("HELIOSTAT_DATASETS", str(tmp_path / "else where"))
    create_from_dataframe(None, "moved", "v1", {"i": [1]})
    assert column("warehouse.main.moved", "v1") == [1]
    assert (tmp_path / "else where/catalog.db").is_file()
    monkeypatch.setenv("HELIOSTAT_CATALOG", "company")
    monkeypatch.setenv("PYICEBERG_CATALOG__COMPANY__TYPE", "in-memory")
    monkeypatch.setenv("PYICEBERG_CATALOG__COMPANY__WAREHOUSE", f"file://{tmp_path}/company")
    _read_configuration_anew(monkeypatch)
    with pytest.raises(DatasetNotExistError):
        Dataset.load(None, "moved")
    create_from_dataframe(None, "db.sch.moved", "v1", {"i": [2]})
    assert column("db.sch.moved", "v1") == [2]
    assert (tmp_path / "company").is_dir()


def test_a_rest_catalog_can_be_chosen(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """On a REST catalog: versions, races, killed writers, garbage, deletion, plain readers, a wrong token."""
    from pyiceberg.catalog import load_catalog

    server = RestCatalogServer(tmp_path / "company")
    try:
        for name, value in server.environment.items():
            monkeypatch.setenv(name, value)
        _read_configuration_anew(monkeypatch)
        dataset = create_from_dataframe(
            None, "db.sch.far", "v1", {"i": [1, 2]}, comment="one", label_cols=["i"]
        )
        told = run(
            [
                "create_from_dataframe(None, 'db.sch.far', 'v2', rows(100_000))",
                "create_from_dataframe(None, 'db.sch.far', 'v2', rows(100_000))",
                "create_from_dataframe(None, 'db.sch.far', 'v3', rows(100_000))",
                "before(_commit, '_stage', die); create_from_dataframe(None, 'db.sch.far', 'v4', rows())",
                "create_from_dataframe(None, 'new', 'v1', rows(50_000))",
                *(
                    f"import pyiceberg.catalog.rest as rest; {when}(rest.RestCatalog, 'commit_table', die);"
                    f" create_from_dataframe(None, 'db.sch.far', '{version}', rows(50_000))"
                    for when, version in (("before", "v5"), ("after", "v6"))
                ),
            ]
        )
        assert sorted(json.loads(text)[0] for _, text in told if text) == ["DatasetExistError"]
        assert [code for code, _ in told] == [0] * 3 + [-signal.SIGKILL, 0] + [-signal.SIGKILL] * 2
        assert sorted(map(str, dataset.list_versions())) == ["v1", "v2", "v3", "v6"]
        assert column("db.sch.far", "v6") == list(range(50_000))
        assert column("db.sch.far", "v1") == [1, 2]
        assert column("db.sch.far", "v2") == column("db.sch.far", "v3") == list(range(100_000))
        assert column("warehouse.main.new", "v1") == list(range(50_000))
        again = Dataset.load(None, "db.sch.far").select_version("v1").selected_version
        assert again is not None
        assert (again.comment, again.label_cols) == ("one", ["i"])
        assert len([path for path in dataset.collect_garbage(timedelta(0)) if path.endswith(".parquet")]) == 2
        # A process that knows nothing of us reads a version by its tag.
        table = load_catalog("remote").load_table(("db.sch", "far"))
        assert table.scan(snapshot_id=table.refs()["v1"].snapshot_id).to_arrow()["i"].to_pylist() == [1, 2]
        dataset.delete_version("v2")
        assert sorted(map(str, dataset.list_versions())) == ["v1", "v3", "v6"]
        dataset.delete()
        with pytest.raises(DatasetNotExistError):
            Dataset.load(None, "db.sch.far")
        monkeypatch.setenv("PYICEBERG_CATALOG__REMOTE__TOKEN", "wr0ng")
        (answer,) = run(["Dataset.load(None, 'new')"])
        assert json.loads(answer[1])[0] == "ConfigurationError"
        assert "The token is not known" in answer[1]
    finally:
        server.stop()
    (answer,) = run(["Dataset.load(None, 'new')"])
    assert json.loads(answer[1])[0] == "ConfigurationError"


def test_datasets_live_on_an_object_store(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """With HELIOSTAT_DATASETS on S3, the files are there, and can be read, collected, deleted."""
    import pyarrow.fs as pa_fs
    from moto.server import ThreadedMotoServer

    server = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    server.start()
    try:
        host, port = server.get_host_and_port()
        keys = {"access_key": "key", "secret_key": "secret", "region": "us-east-1"}
        endpoint = f"http://{host}:{port}"
        store = pa_fs.S3FileSystem(endpoint_override=endpoint, allow_bucket_creation=True, **keys)
        store.create_dir("lake")
        monkeypatch.setenv("AWS_ENDPOINT_URL", endpoint)
        monkeypatch.setenv("AWS_REGION", "us-east-1")
        monkeypatch.setenv("AWS_ACCESS_KEY_ID", "key")
        monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "secret")
        monkeypatch.setenv("HELIOSTAT_DATASETS", "s3://lake/sets")
        dataset = create_from_dataframe(None, "far", "v1", pa.table({"i": [1, 2]}), partition_by="i")
        found = data_files(DatasetInfo("warehouse.main.far", "v1"))
        assert [found.filesystem.type_name, found.rows, len(found.files)] == ["s3", 2, 2]
        assert dataset.selected_version is not None
        assert len(dataset.selected_version.list_files("2")) == 1
        killed = "before(_commit, '_stage', die); Dataset.load(None, 'far').create_version('v9', rows())"
        assert run([killed]) == [(-signal.SIGKILL, "")]
        assert dataset.list_versions() == ["v1"]
        (left,) = dataset.collect_garbage(timedelta(0))
        assert left.endswith(".parquet")
        assert dataset.read.to_arrow()["i"].to_pylist() == [1, 2]
        assert dataset.create_version("v2", {"i": [3]}).list_versions() == ["v1", "v2"]
        dataset.delete()
        assert place_of("s3://lake/sets/main/far").list() == []
    finally:
        server.stop()


def _read_configuration_anew(monkeypatch: pytest.MonkeyPatch) -> None:
    """PyIceberg reads its variables when it is imported."""
    import pyiceberg.catalog
    from pyiceberg.utils.config import Config

    monkeypatch.setattr(pyiceberg.catalog, "_ENV_CONFIG", Config())
