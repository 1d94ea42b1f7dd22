"""Versioned datasets, on a real catalog and real files."""

from __future__ import annotations

import math
import os
import pickle
import subprocess
import sys
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from pathlib import Path
from typing import TYPE_CHECKING, Any

import duckdb
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from pyiceberg.catalog import load_catalog

from heliostat._session import Session
from heliostat.data import DataConnector
from heliostat.data.data_source import DatasetInfo
from heliostat.dataset import (
    Dataset,
    DatasetCannotDeleteError,
    DatasetExistError,
    DatasetNotExistError,
    DatasetReader,
    create_from_dataframe,
    load_dataset,
)
from heliostat.dataset._resolve import data_files
from heliostat.exceptions import ConfigurationError, DataError, DatasetError, RefusedCallError

if TYPE_CHECKING:
    from collections.abc import Iterator

NOW = timedelta(0)
FOREIGN_PYTHON = Path(__file__).resolve().parents[2] / ".venv-snowflake" / "bin" / "python"
"""Its DuckDB is the latest whose Iceberg extension comes as a package."""


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The user's data directory."""
    return tmp_path_factory.mktemp("data dir")


@pytest.fixture(scope="module")
def session(root: Path) -> Iterator[Session]:
    """A session of a warehouse of its own."""
    with Session(root / "warehouse.duckdb") as session:
        yield session


@pytest.fixture(autouse=True)
def _place(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_DATA_HOME", str(root))
    monkeypatch.delenv("HELIOSTAT_CATALOG", raising=False)
    monkeypatch.delenv("HELIOSTAT_DATASETS", raising=False)


def files_on_disk(dataset: Dataset) -> set[str]:
    """All files below the dataset's directory."""
    table = (
        Path(os.environ["XDG_DATA_HOME"])
        / "heliostat/datasets"
        / Path(*dataset.fully_qualified_name.split(".")[1:])
    )
    return {str(path) for path in table.rglob("*") if path.is_file()}


def rows_of(dataset: Dataset, version: str) -> list[dict[str, Any]]:
    """Rows of a version, in order."""
    found = data_files(DatasetInfo(dataset.fully_qualified_name, version))
    tables = [pq.read_table(path, filesystem=found.filesystem) for path in found.files]
    return [row for table in tables for row in table.to_pylist()]


def test_versions_are_listed_selected_and_never_change(session: Session) -> None:
    """Each version keeps its rows, columns and notes, whatever comes after it."""
    first = create_from_dataframe(
        session,
        "Flights",
        "v1",
        session.sql("SELECT range AS id, range * 0.5::DOUBLE AS late FROM range(5)"),
        label_cols=["late"],
        exclude_cols=["id"],
        properties={"source": "test"},
        comment="the first",
    )
    assert repr(first) == "Dataset('warehouse.main.flights', version='v1')"
    second = first.create_version("v2/ü", {"id": ["x"], "other": [b"1"]})
    assert second.list_versions() == ["v1", "v2/ü"]
    assert first.selected_version is not None
    assert second.selected_version is not None
    assert first.selected_version.label_cols == ["late"]
    assert first.selected_version.exclude_cols == ["id"]
    assert first.selected_version.properties == {"source": "test"}
    assert first.selected_version.comment == "the first"
    assert "range" in (first.selected_version.query or "")
    assert second.selected_version.query is None
    assert timedelta(0) <= datetime.now(UTC) - first.selected_version.created_on < timedelta(minutes=5)
    assert rows_of(first, "v1") == [{"id": n, "late": n * 0.5} for n in range(5)]
    assert rows_of(first, "v2/ü") == [{"id": "x", "other": b"1"}]
    rows = first.list_versions(detailed=True)
    assert [(row["version"], row.rows, row.files) for row in rows] == [("v1", 5, 1), ("v2/ü", 1, 1)]  # type: ignore[union-attr, index]
    assert load_dataset(session, "main.FLIGHTS", "v1").selected_version is not None


def test_what_is_there_or_missing_is_told(session: Session) -> None:
    """Errors have Snowflake's names, say what is there, and change nothing."""
    dataset = Dataset.create(session, "told")
    with pytest.raises(DatasetExistError, match=r"warehouse\.main\.told") as refused:
        Dataset.create(session, "TOLD")
    assert refused.value.error_code == "OBJECT_ALREADY_EXISTS"
    assert Dataset.create(session, "told", exist_ok=True).list_versions() == []
    dataset.create_version("v1", {"a": [1]})
    with pytest.raises(DatasetExistError, match="has a version 'v1' already"):
        dataset.create_version("v1", {"a": [2]})
    for call in (
        lambda: Dataset.load(session, "no_such"),
        lambda: load_dataset(session, "told", "v9"),
        lambda: dataset.select_version("v9"),
        lambda: dataset.delete_version("v9"),
        lambda: data_files(DatasetInfo("warehouse.main.told", "main")),
    ):
        with pytest.raises(DatasetNotExistError) as missing:
            call()
        assert missing.value.error_code == "NOT_FOUND"
    assert "Versions: v1." in str(missing.value)
    with pytest.raises(RefusedCallError, match="No Dataset version selected"):
        _ = dataset.read
    with pytest.raises(RuntimeError, match="not supported"):
        DatasetReader.from_dataframe({"a": [1]})
    assert rows_of(dataset, "v1") == [{"a": 1}]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"version": "main"}, "'main' is not the name of a version"),
        ({"version": " "}, "is not the name of a version"),
        ({"label_cols": ["b"]}, "no column 'b'"),
        ({"exclude_cols": "a"}, r"Write exclude_cols=\['a'\]"),
        ({"partition_by": "nope + 1"}, "nope"),
        ({"partition_by": "1), (2"}, "partition expression"),
        ({"partition_by": "a) FROM rows; SELECT (a"}, "partition expression"),
        ({"partition_by": " "}, "not one expression"),
        ({"input_dataframe": {"a": [1], "A": [2]}}, "cannot tell the columns 'a' and 'A' apart"),
        ({"input_dataframe": {"__heliostat_partition": [1]}}, "do not begin with '__heliostat_'"),
        ({"input_dataframe": {"n": pa.nulls(2)}}, "The column 'n' is of type null"),
        ({"input_dataframe": pa.table({"u": pa.array([2**64 - 1], pa.uint64())})}, "The column 'u'"),
        ({"input_dataframe": pa.table([[1], [2]], names=["a", "a"])}, "more than one column 'a'"),
        ({"input_dataframe": 3}, "cannot be read as rows"),
    ],
)
def test_bad_input_is_refused(session: Session, arguments: dict[str, Any], message: str) -> None:
    """Whatever is wrong is named, and there is neither a version nor a dataset afterwards, nor a file."""
    given = {"version": "v1", "input_dataframe": {"a": [1, 2]}, **arguments}
    with pytest.raises((DataError, ConfigurationError), match=message):
        create_from_dataframe(session, "bad", **given)
    with pytest.raises(DatasetNotExistError):
        Dataset.load(session, "bad")
    folder = Path(os.environ["XDG_DATA_HOME"]) / "heliostat/datasets/main/bad"
    assert [path for path in folder.rglob("*") if path.is_file()] == []
    with pytest.raises(ConfigurationError, match="is not the name of a dataset"):
        Dataset.create(session, "../bad")


def test_a_refused_relation_leaves_the_session_free(session: Session) -> None:
    """Whoever keeps the error, as a notebook does, can go on with other queries."""
    rows = session.sql("SELECT range AS a FROM range(1_000_000)")
    with pytest.raises(DataError, match="no column 'b'") as kept:
        create_from_dataframe(session, "bad", "v1", rows, label_cols=["b"])
    assert kept.value.missing == ["b"]
    assert "bad" not in session.tables()


def test_types_are_kept_or_made_fit_for_models(session: Session, root: Path) -> None:
    """Numbers become what models read, labels and excluded columns stay, and every reader sees the same."""
    table = pa.table(
        {
            "whole": pa.array([Decimal(7), None], pa.decimal128(18, 0)),
            "price": pa.array([Decimal("1.25"), None], pa.decimal128(10, 2)),
            "label": pa.array([Decimal("1.25"), None], pa.decimal128(10, 2)),
            "tiny": pa.array([1, None], pa.int8()),
            "half": pa.array([np.float16(0.5), None], pa.float16()),
            "text": pa.array(["ü", None]).dictionary_encode(),
            "at": pa.array([datetime(2013, 3, 10, 2, 30, 0, 5), None], pa.timestamp("ns")),  # noqa: DTZ001
            "zoned": pa.array([datetime(2013, 3, 10, tzinfo=UTC), None], pa.timestamp("s", "Europe/Zurich")),
            "day": pa.array([date(2013, 3, 10), None]),
            "pair": pa.array([[1.0, 2.0], None], pa.list_(pa.float32(), 2)),
            "many": pa.array([["a", None], None], pa.large_list(pa.string())),
            "part": pa.array([{"x": 1, "y": ["z"]}, None]),
            "map": pa.array([[("k", 1)], None], pa.map_(pa.string(), pa.int64())),
            "flag": [True, None],
            "raw": [b"\x00", None],
            'with.dot and "quote': [1, None],
        }
    )
    dataset = create_from_dataframe(session, "types", "v1", table, label_cols=["label"])
    found = data_files(DatasetInfo("warehouse.main.types", "v1"))
    types = {field.name: str(field.type) for field in found.schema}
    assert types["whole"] == "int64"
    assert types["price"] == "double"
    assert types["label"] == "decimal128(10, 2)"
    assert types["tiny"] == "int32"
    assert types["zoned"] == "timestamp[us, tz=UTC]"
    assert found.schema.field("pair").type == pa.list_(pa.float32(), 2)
    expected = table.to_pylist()
    expected[0].update(whole=7, price=1.25)
    assert rows_of(dataset, "v1") == expected
    code = (
        "import sys\nfrom pyiceberg.catalog import load_catalog\n"
        "catalog = load_catalog('heliostat', type='sql', uri='sqlite:///' + sys.argv[1])\n"
        "table = catalog.load_table('main.types')\n"
        "rows = table.scan(snapshot_id=table.refs()['v1'].snapshot_id).to_arrow()\n"
        "assert rows.equals(table.scan().to_arrow())\n"
        "print(repr(rows.to_pylist()))\n"
    )
    catalog = root / "heliostat/datasets/catalog.db"
    clean = subprocess.run(
        [sys.executable, "-c", code, str(catalog)], capture_output=True, text=True, check=True, timeout=60
    )
    space = {"datetime": __import__("datetime"), "Decimal": Decimal, "zoneinfo": __import__("zoneinfo")}
    assert eval(clean.stdout, space) == expected
    with duckdb.connect() as connection:
        relation = connection.read_parquet(list(found.files))
        assert relation.count("*").fetchall() == [(2,)]
        assert relation.columns == found.columns


_DUCKDB = """
import sys, duckdb
from duckdb_extensions import import_extension
table, snapshot = sys.argv[1], int(sys.argv[2])
with duckdb.connect() as connection:
    for name in ("avro", "iceberg"):
        import_extension(name, con=connection)
    scan = f"FROM iceberg_scan('{table}', snapshot_from_id = {snapshot}) ORDER BY i"
    print(connection.sql(scan).fetchall())
"""


def test_duckdb_reads_a_version_by_its_own_reader(session: Session, root: Path, tmp_path: Path) -> None:
    """The Iceberg extension of DuckDB, in an environment without ours, finds the rows of each version."""
    create_from_dataframe(session, "foreign", "v1", {"i": [1, 2, 3], "t": ["a", None, "c"]})
    other = pa.table(
        {
            "i": pa.array([4, 5], pa.int8()),
            "day": [date(2013, 3, 10), None],
            "pair": pa.array([[1.0, 2.0], None], pa.list_(pa.float32(), 2)),
            "part": pa.array([{"x": 1, "y": ["z"]}, None]),
            "price": pa.array([Decimal("1.25"), None]),
        }
    )
    create_from_dataframe(
        session, "foreign", "v2", other, partition_by="i % 2", shuffle=True, label_cols=["price"]
    )
    create_from_dataframe(session, "foreign", "v3", other.slice(0, 0))
    catalog = load_catalog("heliostat", type="sql", uri=f"sqlite:///{root}/heliostat/datasets/catalog.db")
    table = catalog.load_table("main.foreign")

    def read(version: str) -> str:
        arguments = [table.metadata_location, str(table.refs()[version].snapshot_id)]
        done = subprocess.run(
            [FOREIGN_PYTHON, "-c", _DUCKDB, *arguments],
            env={"HOME": str(tmp_path)},
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )
        return done.stdout.strip() or done.stderr

    assert read("v1") == "[(1, 'a'), (2, None), (3, 'c')]"
    assert read("v2") == (
        "[(4, datetime.date(2013, 3, 10), [1.0, 2.0], {'x': 1, 'y': ['z']}, Decimal('1.25')),"
        " (5, None, None, None, None)]"
    )
    assert read("v3") == "[]"


def test_a_shuffle_is_global_and_loses_nothing(session: Session) -> None:
    """Every row is there once, and its place says nothing about where it was."""
    count = 200_000
    dataset = create_from_dataframe(
        session, "shuffled", "v1", session.sql(f"SELECT range AS i FROM range({count})"), shuffle=True
    )
    places = np.array([row["i"] for row in rows_of(dataset, "v1")])
    assert np.array_equal(np.sort(places), np.arange(count))
    assert abs(np.corrcoef(places, np.arange(count))[0, 1]) < 5 / math.sqrt(count)
    assert np.mean(places[: count // 10] < count // 10) == pytest.approx(0.1, abs=0.02)
    assert list((Path(os.environ["XDG_DATA_HOME"]) / "heliostat/spill").iterdir()) == []


def test_partitions_have_directories_of_their_own(session: Session) -> None:
    """Rows of equal value lie together, in order, and no value leads out of the directory."""
    values = ["a", None, "../../x", ".", "", "b/c", "a"]
    dataset = create_from_dataframe(
        session, "parts", "v1", {"i": list(range(7)), "key": values}, partition_by="key"
    )
    version = dataset.selected_version
    assert version is not None
    home = version.url().removeprefix("file://")
    assert all(os.path.realpath(path).startswith(home + "/") for path in version.list_files())
    assert len(version.list_files()) == 6
    (only,) = version.list_files("a")
    assert pq.read_table(only).column("i").to_pylist() == [0, 6]
    assert version.list_files("no") == []
    assert sorted(row["i"] for row in rows_of(dataset, "v1")) == list(range(7))


def test_a_version_is_read_in_the_session_and_as_files(session: Session) -> None:
    """The relation has all columns or the features alone; the files open through fsspec."""
    dataset = create_from_dataframe(
        session,
        "read",
        "v1",
        {"id": [1, 2], "x": [0.5, 1.5], "y": [0, 1]},
        label_cols=["y"],
        exclude_cols=["id"],
    )
    reader = dataset.read
    assert reader.to_snowpark_dataframe().filter("y = 1").fetchall() == [(2, 1.5, 1)]
    assert reader.to_snowpark_dataframe(only_feature_cols=True).columns == ["x"]
    (path,) = reader.files()
    with reader.filesystem().open(path) as file:
        assert pq.read_table(file).num_rows == 2
    assert reader.columns == ["id", "x", "y"]
    assert reader.count() == 2
    assert DataConnector.from_dataset(dataset).to_pandas()["x"].tolist() == [0.5, 1.5]
    assert reader.to_pandas(limit=1).to_dict("list") == {"id": [1], "x": [0.5], "y": [0]}
    (info,) = reader.data_sources
    assert isinstance(info, DatasetInfo)
    assert info.exclude_cols == ["y", "id"]
    assert [field.name for field in pickle.loads(pickle.dumps(reader)).schema] == ["id", "x", "y"]
    dataset.delete_version("v1")
    with pytest.raises(DatasetNotExistError, match="no version 'v1'"):
        dataset.read.to_pandas()


def test_deleting_removes_the_files_and_nothing_else(session: Session) -> None:
    """A deleted version is gone with its files; the latest of the others is what plain readers see."""
    from heliostat.dataset._catalog import load_table

    dataset = create_from_dataframe(session, "gone", "v1", {"a": [1]})
    dataset.create_version("v2", {"a": [2]})
    dataset.create_version("v3", {"b": [3]})
    dataset.delete_version("v3")
    table = load_table(("warehouse", "main", "gone"))
    assert table.scan().to_arrow().to_pylist() == [{"a": 2}]
    assert dataset.list_versions() == ["v1", "v2"]
    dataset.collect_garbage(NOW)
    assert len([path for path in files_on_disk(dataset) if path.endswith(".parquet")]) == 2
    dataset.delete_version("v2")
    dataset.delete_version("v1")
    assert dataset.list_versions() == []
    assert dataset.create_version("v1", {"c": [4]}).list_versions() == ["v1"]
    assert rows_of(dataset, "v1") == [{"c": 4}]
    dataset.delete()
    assert files_on_disk(dataset) == set()
    with pytest.raises(DatasetNotExistError):
        dataset.delete()
    assert issubclass(DatasetCannotDeleteError, DatasetError)


def test_a_deletion_and_a_new_version_do_not_undo_each_other(
    session: Session, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Who deletes while a version is made is told to call again, and both are there as they were."""
    from heliostat.dataset._removal import remove_version

    dataset = create_from_dataframe(session, "both", "v1", {"a": [1]})

    def after_a_new_one(*arguments: Any) -> bool:
        dataset.create_version("v2", {"a": [2]})
        return remove_version(*arguments)

    with monkeypatch.context() as patch:
        patch.setattr("heliostat.dataset.dataset.remove_version", after_a_new_one)
        with pytest.raises(DatasetCannotDeleteError, match=r"'v1' could not be deleted.* Call it again"):
            dataset.delete_version("v1")
    assert [rows_of(dataset, version) for version in ("v1", "v2")] == [[{"a": 1}], [{"a": 2}]]
    dataset.delete_version("v1")
    assert dataset.list_versions() == ["v2"]


def test_a_version_without_rows_is_a_version(session: Session) -> None:
    """It has its columns in every way of reading, and a version of nothing but labels has no features."""
    empty = pa.table({"i": pa.array([], pa.int64()), "t": pa.array([], pa.string())})
    dataset = create_from_dataframe(session, "empty", "v1", empty)
    assert dataset.read.to_arrow() == empty
    assert dataset.read.to_snowpark_dataframe().fetchall() == []
    assert len(dataset.read.files()) == 1
    labels = dataset.create_version("labels", {"y": [1]}, label_cols=["y"])
    with pytest.raises(DataError, match="All columns of the version 'labels' are labels or excluded"):
        labels.read.to_snowpark_dataframe(only_feature_cols=True)


def test_readers_see_the_old_state_while_a_writer_runs(session: Session) -> None:
    """Until the writer is through there is no sign of its version, and who reads another goes on reading."""
    dataset = create_from_dataframe(session, "busy", "v1", {"i": list(range(200_000))})
    open_reader = dataset.read.to_reader()
    first = open_reader.read_next_batch().num_rows
    seen = []

    def batches() -> Iterator[Any]:
        for number in range(5):
            yield pa.record_batch({"i": pa.array(range(100_000), pa.int64())})
            other = Dataset.load(session, "busy")
            seen.append((number, other.list_versions(), other.collect_garbage()))
            assert load_dataset(session, "busy", "v1").read.count() == 200_000
            with pytest.raises(DatasetNotExistError, match="Versions: v1"):
                other.select_version("v2")

    rows = pa.RecordBatchReader.from_batches(pa.schema([("i", pa.int64())]), batches())
    written = dataset.create_version("v2", rows)
    assert seen == [(number, ["v1"], []) for number in range(5)]
    assert written.read.count() == 500_000
    assert first + sum(batch.num_rows for batch in open_reader) == 200_000


def test_a_dataset_that_is_made_anew_while_the_old_is_deleted_is_whole(
    session: Session, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Files are removed when the catalog has forgotten the old one, and none of a new one of that name."""
    from heliostat.dataset import dataset as module

    old = create_from_dataframe(session, "again", "v1", {"i": [1]})
    remove = module._remove_files

    def after_a_new_one(*arguments: Any) -> None:
        create_from_dataframe(session, "again", "v1", {"i": [2]})
        remove(*arguments)

    monkeypatch.setattr(module, "_remove_files", after_a_new_one)
    old.delete()
    new = load_dataset(session, "again", "v1")
    assert rows_of(new, "v1") == [{"i": 2}]
    assert len([path for path in files_on_disk(new) if path.endswith(".parquet")]) == 1


def test_the_query_is_noted_unless_it_is_too_long(session: Session) -> None:
    """SQL of more than 10,000 characters is left out, with a warning; the rows are stored all the same."""
    padding = " " * 10_000
    with pytest.warns(UserWarning, match="more than 10,000 characters"):
        long = create_from_dataframe(session, "long", "v1", session.sql(f"SELECT '{padding}' AS i"))
    assert long.selected_version is not None
    assert long.selected_version.query is None
    assert rows_of(long, "v1") == [{"i": padding}]


def test_a_source_that_fails_leaves_nothing(session: Session) -> None:
    """An error in the middle of the rows comes through, and there is no version and no file of it."""
    dataset = create_from_dataframe(session, "failing", "v1", {"a": [1]})
    before = files_on_disk(dataset)
    bad = session.sql(
        "SELECT CASE WHEN range < 400000 THEN range ELSE error('stop') END AS a FROM range(500000)"
    )
    with pytest.raises(DataError, match=r"rows for the dataset cannot be read: .*stop"):
        dataset.create_version("v2", bad)
    assert dataset.list_versions() == ["v1"]
    assert files_on_disk(dataset) == before
