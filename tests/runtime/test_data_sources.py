"""``DataConnector`` over every kind of source, each on the real thing."""

from __future__ import annotations

import pickle
import shutil
import subprocess
import sys
from typing import TYPE_CHECKING, Any

import pyarrow as pa
import pyarrow.csv as pa_csv
import pyarrow.dataset as pads
import pyarrow.parquet as pq
import pytest
from pyarrow import feather

from heliostat import context
from heliostat._session import Session
from heliostat.data import DataConnector, DataFrameInfo, ShardedDataConnector
from heliostat.data._shards import sharded
from heliostat.exceptions import ConfigurationError, DataError, UnsupportedSourceError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

TABLE = pa.table({"n": [1, 2, None, 4, 5], "s": ["a", None, "c", "d", "e"], "x": [0.5, 1.5, 2.5, None, 4.5]})


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A directory with ``TABLE`` in two files of each format, in order."""
    place = tmp_path_factory.mktemp("files")
    for folder in ("parquet", "csv", "tsv", "json", "arrow", "hive"):
        (place / folder).mkdir()
    for number, part in enumerate((TABLE.slice(0, 3), TABLE.slice(3))):
        pq.write_table(part, place / "parquet" / f"{number}.parquet", row_group_size=2)
        pa_csv.write_csv(part, place / "csv" / f"{number}.csv")
        tabs = pa_csv.WriteOptions(delimiter="\t")
        pa_csv.write_csv(part, place / "tsv" / f"{number}.tsv", tabs)
        lines = part.to_pandas(types_mapper=None).astype(object).where(lambda f: f.notna(), None)
        lines.astype({"n": "Int64"}).to_json(place / "json" / f"{number}.jsonl", orient="records", lines=True)
        feather.write_feather(part, place / "arrow" / f"{number}.arrow")
        (place / "hive" / f"part={number}").mkdir()
        pq.write_table(part, place / "hive" / f"part={number}" / "0.parquet")
    (place / "parquet" / "_SUCCESS").touch()
    return place


@pytest.fixture(scope="module")
def session(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Session]:
    """A warehouse with the table ``t``."""
    with Session(tmp_path_factory.mktemp("warehouse") / "warehouse.duckdb") as session:
        session.save_as_table(TABLE, "t")
        yield session
    if context._active is not None:  # what unpickled relations opened
        context._active.close()


def _iceberg(place: Path) -> Any:
    from pyiceberg.catalog.sql import SqlCatalog

    root = place / "iceberg"
    shutil.rmtree(root, ignore_errors=True)
    root.mkdir()
    catalog = SqlCatalog("c", uri=f"sqlite:///{root}/catalog.db", warehouse=root.as_uri())
    catalog.create_namespace("n")
    table = catalog.create_table("n.t", TABLE.schema)
    table.append(TABLE)
    return table


def _snowpark() -> Any:
    from snowflake.snowpark import Session as Snowpark
    from snowflake.snowpark.types import DoubleType, LongType, StringType, StructField, StructType

    schema = StructType(
        [StructField('"n"', LongType()), StructField('"s"', StringType()), StructField('"x"', DoubleType())]
    )
    rows = [list(row.values()) for row in TABLE.to_pylist()]
    session = Snowpark.builder.config("local_testing", True).create()
    return session.create_dataframe(rows, schema=schema)


def _polars() -> Any:
    return __import__("polars").from_arrow(TABLE)


def _datasets() -> Any:
    return __import__("datasets").Dataset(TABLE)


FRAMES: dict[str, Callable[[Path, Session], Any]] = {
    "relation": lambda _, session: session.table("t"),
    "pandas": lambda *_: TABLE.to_pandas(types_mapper=__import__("pandas").ArrowDtype),
    "polars": lambda *_: _polars(),
    "polars lazy": lambda *_: _polars().lazy(),
    "table": lambda *_: TABLE,
    "batch": lambda *_: TABLE.to_batches()[0],
    "dataset in memory": lambda *_: pads.dataset(TABLE),
    "dataset of files": lambda place, _: pads.dataset(place / "parquet", exclude_invalid_files=True),
    "hugging face": lambda *_: _datasets(),
    "hugging face iterable": lambda *_: _datasets().to_iterable_dataset(),
    "snowpark": lambda *_: _snowpark(),
    "iceberg": lambda place, _: _iceberg(place),
}
FILES = ("parquet", "csv", "tsv", "json", "arrow")


def _same(table: pa.Table) -> None:
    names = [name.strip('"') for name in table.column_names]  # Snowflake quotes names in lower case.
    rows = [{name: row[full] for name, full in zip(names, row, strict=True)} for row in table.to_pylist()]
    for row in rows:  # CSV says nothing and "" in the same way
        row["s"] = row["s"] or None
    assert rows == TABLE.to_pylist()


def _check(connector: DataConnector, tmp_path: Path) -> None:
    """Check all verbs, here and after a pickle, and that shards of it are exact."""
    names = connector.columns
    assert [name.strip('"') for name in names] == ["n", "s", "x"]
    for read in (connector, connector, pickle.loads(pickle.dumps(connector))):
        assert read.count() == 5
        _same(read.to_arrow())
        assert read.to_reader([names[2], names[0]]).read_all().column_names == [names[2], names[0]]
        assert len(read.to_pandas(limit=4)) == 4
        assert read.to_arrow(limit=0).num_rows == 0
    with pytest.raises(DataError, match="no column 'gone'"):
        connector.to_reader(["gone"])
    with sharded(connector, 2, directory=str(tmp_path)) as shards:
        assert [shard.rows for shard in shards] == [2, 3]
        _same(pa.concat_tables(table for shard in shards for table in shard.tables()))


@pytest.mark.parametrize("kind", FRAMES)
def test_every_frame_gives_the_same_rows_again_and_again(
    place: Path, session: Session, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, kind: str
) -> None:
    """Columns, count, Arrow, pandas, limit and shards agree for each kind, also after a pickle."""
    monkeypatch.setenv("HELIOSTAT_WAREHOUSE", str(session.path))
    _check(DataConnector.from_dataframe(FRAMES[kind](place, session)), tmp_path)


@pytest.mark.parametrize("kind", FILES)
@pytest.mark.parametrize("named", ["directory", "files", "url", "stage"])
def test_every_format_gives_the_same_rows(
    place: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, kind: str, named: str
) -> None:
    """Files are read by directory, one by one, by URL and on a stage, in the order of their names."""
    monkeypatch.setenv("HELIOSTAT_STAGES", f"data={place}")
    folder = place / kind
    sources = {
        "directory": [str(folder)],
        "files": sorted(str(path) for path in folder.glob(f"*.{kind}*")),
        "url": [folder.as_uri()],
        "stage": [f"@data/{kind}"],
    }[named]
    connector = DataConnector.from_sources(None, sources)
    assert connector.data_sources == sources
    _check(connector, tmp_path)


def test_parquet_is_sharded_where_it_lies(place: Path, tmp_path: Path) -> None:
    """Shards of files, of datasets over them and of Iceberg tables write nothing."""
    for data in (FRAMES["dataset of files"](place, None), _iceberg(place)):  # type: ignore[arg-type]
        with sharded(DataConnector.from_dataframe(data), 2, directory=str(tmp_path)):
            assert list(tmp_path.iterdir()) == []
    filtered = FRAMES["dataset of files"](place, None).filter(pads.field("n") > 1)  # type: ignore[arg-type]
    with sharded(DataConnector.from_dataframe(filtered), 1, directory=str(tmp_path)) as (shard,):
        assert next(shard.tables())["n"].to_pylist() == [2, 4, 5]


def test_directories_can_be_columns(place: Path, tmp_path: Path) -> None:
    """Directories name=value are a column, also in a selection of columns and in shards."""
    connector = DataConnector.from_sources(None, [str(place / "hive")])
    assert connector.columns == ["n", "s", "x", "part"]
    assert connector.to_arrow(["part", "n"]).to_pydict() == {
        "part": [0, 0, 0, 1, 1],
        "n": TABLE["n"].to_pylist(),
    }
    with sharded(connector, 1, columns=["part"], directory=str(tmp_path)) as (shard,):
        assert pa.concat_tables(shard.tables())["part"].to_pylist() == [0, 0, 0, 1, 1]


def test_iceberg_applies_deletes_and_new_columns(place: Path, tmp_path: Path) -> None:
    """Deleted rows are gone, renamed and added columns are there, and a connector stays as it was."""
    from pyiceberg.types import LongType

    table = _iceberg(place)
    before = DataConnector.from_dataframe(table)
    with table.update_schema() as update:
        update.rename_column("s", "text")
        update.add_column("more", LongType())
    table.delete("n = 2")
    after = DataConnector.from_dataframe(table)
    assert after.columns == ["n", "text", "x", "more"]
    assert after.count() == 4
    assert after.to_arrow().schema == after.schema
    assert after.to_arrow(["more", "n"]).to_pydict() == {"more": [None] * 4, "n": [1, None, 4, 5]}
    assert pickle.loads(pickle.dumps(before)).count() == 5
    with sharded(after, 2, directory=str(tmp_path)) as shards:
        assert [shard.rows for shard in shards] == [2, 2]


def test_several_queries_follow_each_other(session: Session) -> None:
    """Queries with the same columns are one data set; others are refused with the column's name."""
    queries = [DataFrameInfo("SELECT n FROM t WHERE n = 1"), DataFrameInfo("SELECT n FROM t WHERE n > 3")]
    connector = DataConnector.from_sources(session, queries)
    assert connector.to_arrow()["n"].to_pylist() == [1, 4, 5]
    assert connector.data_sources == queries
    assert connector.to_arrow(limit=2)["n"].to_pylist() == [1, 4]
    queries[1] = DataFrameInfo("SELECT s AS n FROM t")
    with pytest.raises(DataError, match=r"column 'n' is int64 .* string"):
        DataConnector.from_sources(session, queries).to_arrow()


def test_kinds_of_sources_are_not_mixed(session: Session, place: Path) -> None:
    """Mixed, unknown and missing sources are errors, of the families that callers of the API catch."""
    with pytest.raises(RuntimeError, match=r"expected query, found file"):
        DataConnector.from_sources(session, [DataFrameInfo("FROM t"), str(place)])
    with pytest.raises(RuntimeError, match="Unsupported data source type"):
        DataConnector.from_sources(session, [3])  # type: ignore[list-item]
    with pytest.raises(ValueError, match="session is required"):
        DataConnector.from_sources(None, [DataFrameInfo("FROM t")])
    with pytest.raises(DataError, match="no data sources"):
        DataConnector.from_sources(session, [])
    with pytest.raises(UnsupportedSourceError, match=r"several \(2 parquet, 2 csv\)"):
        DataConnector.from_sources(None, [str(place / "parquet"), str(place / "csv")]).count()
    with pytest.raises(ConfigurationError, match="'nope'"):
        DataConnector.from_sources(None, [str(place)], nope=1)


def test_snowpark_frames_of_several_queries_are_refused() -> None:
    """A DataFrame that takes several queries, or cleans up after itself, is a ValueError of the API."""

    class Frame:
        def __init__(self, queries: list[str], actions: list[str]) -> None:
            self.queries = {"queries": queries, "post_actions": actions}

    Frame.__module__ = "snowflake.snowpark.dataframe"
    for frame in (Frame(["a", "b"], []), Frame(["a"], ["DROP"])):
        with pytest.raises(ValueError, match="multiple queries and/or post-actions not supported"):
            DataConnector.from_dataframe(frame)


def test_a_relation_of_another_database_does_not_travel() -> None:
    """A relation that only this process can read is read here, and refused where it would be sent."""
    import duckdb

    connector = DataConnector.from_dataframe(duckdb.connect().sql("SELECT 1 AS a"))
    assert connector.to_arrow().to_pydict() == {"a": [1]}
    with pytest.raises(DataError, match="workers cannot read it"):
        pickle.dumps(connector)


def test_several_data_sets_at_once_are_refused() -> None:
    """A dictionary of Hugging Face data sets is refused with the names to choose from."""
    import datasets

    with pytest.raises(DataError, match=r"train, test.*dataset\['train'\]"):
        DataConnector.from_dataframe(datasets.DatasetDict({"train": _datasets(), "test": _datasets()}))


def test_memory_does_not_grow_with_the_rows(tmp_path: Path) -> None:
    """640 MB of rows pass three times through a process that grows by less than a fifth of them."""
    part = pa.table({name: pa.array(range(250_000), pa.float64()) for name in "abcdefgh"})
    path = tmp_path / "rows.parquet"
    with pq.ParquetWriter(path, part.schema, compression="none", use_dictionary=False) as writer:
        for _ in range(40):
            writer.write_table(part, row_group_size=125_000)
    code = """
import resource, sys
import pyarrow as pa, pyarrow.compute, pyarrow.dataset
from heliostat.data import DataConnector
from heliostat.data._shards import sharded
connector = DataConnector.from_sources(None, [sys.argv[1]])
connector.to_arrow(limit=100)
def peak():
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
before, rows = peak(), 0
for batch in connector.to_reader():
    rows += batch.num_rows
for batch in connector._ingestor.to_batches(8192, shuffle=False, drop_last_batch=False):
    rows += len(batch["a"])
streamed = DataConnector.from_dataframe(pa.dataset.dataset(sys.argv[1]).filter(pa.compute.field("a") >= 0))
with sharded(streamed, 2, directory=sys.argv[2]) as shards:
    rows += sum(shard.rows for shard in shards)
print(rows, peak() - before)
"""
    told = subprocess.run(
        [sys.executable, "-c", code, str(path), str(tmp_path)], capture_output=True, text=True, check=True
    ).stdout.split()
    assert int(told[0]) == 30_000_000
    assert int(told[1]) < 0.2 * path.stat().st_size // 1024


def test_from_dataset_reads_the_selected_version(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A version of a dataset is read with all its columns, sharded where it lies, and found by workers."""
    from heliostat.dataset import create_from_dataframe

    monkeypatch.setenv("XDG_DATA_HOME", str(tmp_path))
    with Session(tmp_path / "warehouse.duckdb") as session:
        dataset = create_from_dataframe(
            session, "rows", "v1", session.create_dataframe(TABLE), label_cols=["x"]
        )
        connector = DataConnector.from_dataset(dataset)
        _same(connector.to_arrow())
        (tmp_path / "spill").mkdir()
        _check(connector, tmp_path / "spill")
        assert ShardedDataConnector.from_dataset(dataset).count() == 5
        with pytest.raises(ValueError, match="No version"):
            DataConnector.from_dataset(type(dataset).load(session, "rows"))
