"""Every kind of source in every form: what a connector promises, on the real thing."""

from __future__ import annotations

import json
import pickle
import sqlite3
from functools import partial
from typing import TYPE_CHECKING, Any

import pyarrow as pa
import pyarrow.csv as pa_csv
import pyarrow.dataset as pads
import pyarrow.parquet as pq
import pytest
from pyarrow import feather
from tests.runtime.test_data_types import COLUMNS, SHAPES, TIMES, _plain

import heliostat
from heliostat._stages import open_location
from heliostat.data import DataConnector
from heliostat.exceptions import DataError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from tests.support.postgres import PostgresServer
    from tests.support.s3 import S3Server

pytestmark = pytest.mark.filterwarnings("ignore")  # those of TensorFlow, Ray Data and Snowpark

TABLE = pa.table({"n": range(10), "s": [f"ü{i}" for i in range(10)], "x": [i / 4 for i in range(10)]})
ROWS = [(row["n"], row["s"], row["x"]) for row in TABLE.to_pylist()]
FORMATS = ("parquet", "csv", "tsv", "json", "arrow")


def _write(place: str) -> None:
    """Put the rows into two files of each format, in order."""
    for kind in FORMATS:
        for number, part in enumerate((TABLE.slice(0, 4), TABLE.slice(4))):
            with open_location(place).join(kind, f"{number}.{kind}").open_output() as file:
                if kind == "parquet":
                    pq.write_table(part, file)
                elif kind == "arrow":
                    feather.write_feather(part, file)
                elif kind == "json":
                    file.write("".join(f"{json.dumps(row)}\n" for row in part.to_pylist()).encode())
                else:
                    options = pa_csv.WriteOptions(delimiter="\t" if kind == "tsv" else ",")
                    pa_csv.write_csv(part, file, options)


class World:
    """A runtime, and the rows wherever rows can be."""

    def __init__(self, place: Path, s3: S3Server, postgres: PostgresServer) -> None:
        self.local, self.cloud, self.postgres = str(place), f"s3://{s3.bucket}/matrix", postgres.uri
        self.sqlite = f"sqlite://{place}/rows.db"
        for where in (self.local, self.cloud):
            _write(where)
        with sqlite3.connect(place / "rows.db") as made:
            made.execute("CREATE TABLE t (n INT, s TEXT, x REAL)")
            made.executemany("INSERT INTO t VALUES (?, ?, ?)", ROWS)
        made.close()
        self.session = heliostat.get_active_session()
        self.session.save_as_table(TABLE, "t")

    def iceberg(self) -> Any:
        """An Iceberg table."""
        from pyiceberg.catalog.sql import SqlCatalog

        catalog = SqlCatalog("c", uri=f"sqlite:///{self.local}/ice.db", warehouse=f"file://{self.local}/ice")
        catalog.create_namespace_if_not_exists("n")
        if catalog.table_exists("n.t"):
            return catalog.load_table("n.t")
        table = catalog.create_table("n.t", TABLE.schema)
        table.append(TABLE)
        return table

    def dataset(self) -> Any:
        """A dataset with the rows as its selected version."""
        from heliostat.dataset import Dataset, create_from_dataframe

        if not hasattr(self, "_dataset"):
            self._dataset: Dataset = create_from_dataframe(self.session, "matrix", "v1", TABLE)
        return self._dataset

    def snowpark(self) -> Any:
        """A DataFrame of the real package, which runs without Snowflake."""
        from snowflake.snowpark import Session as Snowpark
        from snowflake.snowpark.types import DoubleType, LongType, StringType, StructField, StructType

        kinds = {'"n"': LongType(), '"s"': StringType(), '"x"': DoubleType()}
        schema = StructType([StructField(name, kind) for name, kind in kinds.items()])
        session = Snowpark.builder.config("local_testing", True).create()
        return session.create_dataframe([list(row) for row in ROWS], schema=schema)


class Stream:
    """Something of another library: all that is known of it is the Arrow stream protocol."""

    def __arrow_c_stream__(self, requested_schema: object = None) -> object:
        return TABLE.__arrow_c_stream__(requested_schema)


@pytest.fixture(scope="module")
def world(
    tmp_path_factory: pytest.TempPathFactory, s3: S3Server, postgres: PostgresServer
) -> Iterator[World]:
    """A runtime of two CPUs, beside real servers with the same rows."""
    place = tmp_path_factory.mktemp("matrix")
    with pytest.MonkeyPatch.context() as patch:
        for name, value in (s3.environment | {"XDG_DATA_HOME": str(place)}).items():
            patch.setenv(name, value)
        patch.setenv("HELIOSTAT_WAREHOUSE", str(place / "warehouse.duckdb"))
        heliostat.init(cpus=2).wait()
        import ray

        ray.data.DataContext.get_current().enable_progress_bars = False
        ray.data.DataContext.get_current().execution_options.preserve_order = True
        yield World(place, s3, postgres)
        heliostat.get_active_session().close()
        heliostat.shutdown()


def _ray(_: World) -> Any:
    import ray

    return ray.data.from_arrow(TABLE)


def _files(world: World, kind: str, where: str) -> DataConnector:
    return DataConnector.from_sources(None, [f"{getattr(world, where)}/{kind}"])


_of = DataConnector.from_dataframe
SOURCES: dict[str, Callable[[World], DataConnector]] = {
    "DuckDB relation": lambda world: _of(world.session.table("t")),
    "query on the session": lambda world: DataConnector.from_sql("SELECT * FROM t", world.session),
    "pandas": lambda _: _of(TABLE.to_pandas()),
    "Polars": lambda _: _of(__import__("polars").from_arrow(TABLE)),
    "Polars lazy": lambda _: _of(__import__("polars").from_arrow(TABLE).lazy()),
    "Arrow table": lambda _: _of(TABLE),
    "Arrow dataset": lambda world: _of(pads.dataset(f"{world.local}/parquet")),
    "Arrow reader": lambda _: _of(TABLE.to_reader(max_chunksize=3)),
    "Arrow stream": lambda _: _of(Stream()),
    "Snowpark": lambda world: _of(world.snowpark()),
    "Ray Dataset": lambda world: DataConnector.from_ray_dataset(_ray(world)),
    "Hugging Face": lambda _: _of(__import__("datasets").Dataset(TABLE)),
    "Iceberg": lambda world: _of(world.iceberg()),
    "version of a dataset": lambda world: DataConnector.from_dataset(world.dataset()),
    "PostgreSQL": lambda world: DataConnector.from_sql(
        "SELECT n::bigint AS n, 'ü' || n AS s, n / 4.0::float8 AS x FROM generate_series(0, 9) n",
        world.postgres,
    ),
    "SQLite": lambda world: DataConnector.from_sql("SELECT * FROM t", world.sqlite),
    **{
        f"{kind} {where}": partial(_files, kind=kind, where=where)
        for where in ("local", "cloud")
        for kind in FORMATS
    },
}


def _batched(batches: Any) -> list[tuple[Any, ...]]:
    """Rows of batches by column, whatever the arrays are of."""
    found: list[tuple[Any, ...]] = []
    for batch in batches:
        columns = {name.strip('"'): values for name, values in batch.items()}
        lists = [
            columns[name].tolist() if hasattr(columns[name], "tolist") else columns[name] for name in "nsx"
        ]
        texts = [text.decode() if isinstance(text, bytes) else text for text in lists[1]]
        numbers = [[v[0] if isinstance(v, list) else v for v in values] for values in (lists[0], lists[2])]
        found += zip(numbers[0], texts, numbers[1], strict=True)
    return found


def _rows(rows: Any) -> list[tuple[Any, ...]]:
    return [tuple({k.strip('"'): v for k, v in row.items()}[name] for name in "nsx") for row in rows]


OUTPUTS: dict[str, Callable[[DataConnector], list[tuple[Any, ...]]]] = {
    "to_arrow": lambda c: _rows(c.to_arrow().to_pylist()),
    "to_pandas": lambda c: _rows(c.to_pandas().to_dict("records")),
    "to_torch_dataset": lambda c: _batched(c.to_torch_dataset(batch_size=4, drop_last_batch=False)),
    "to_torch_datapipe": lambda c: _batched(c.to_torch_datapipe(batch_size=4, drop_last_batch=False)),
    "to_tf_dataset": lambda c: _batched(
        c.to_tf_dataset(batch_size=4, drop_last_batch=False).as_numpy_iterator()
    ),
    "to_ray_dataset": lambda c: _rows(c.to_ray_dataset().take_all()),
    "to_huggingface_dataset": lambda c: _rows(c.to_huggingface_dataset()),
    "to_huggingface_dataset, streaming": lambda c: _rows(c.to_huggingface_dataset(streaming=True)),
}


@pytest.mark.parametrize("kind", SOURCES)
def test_every_source_in_every_form(world: World, kind: str) -> None:
    """The rows are the same, in order, in each output; schema, columns and count agree with them."""
    found = {name: output(SOURCES[kind](world)) for name, output in OUTPUTS.items()}
    assert found == dict.fromkeys(OUTPUTS, ROWS)
    connector = SOURCES[kind](world)
    assert [name.strip('"') for name in connector.columns] == ["n", "s", "x"]
    assert [field.name for field in connector.schema] == connector.columns
    if kind == "Arrow reader":
        with pytest.raises(DataError, match="cannot be counted"):
            connector.count()
    else:
        assert connector.count() == 10


@pytest.mark.parametrize("kind", SOURCES)
def test_workers_read_every_source(world: World, kind: str) -> None:
    """A connector of each kind is executed in a worker of Ray, to which it was sent."""
    import ray

    if kind == "Arrow reader":
        with pytest.raises(DataError, match="in this process only"):
            pickle.dumps(SOURCES[kind](world))
        return

    def work(connector: DataConnector) -> tuple[int, list[tuple[Any, ...]], list[str]]:
        rows = [tuple(row.values()) for row in connector.to_arrow().to_pylist()]
        (batch,) = connector.to_torch_dataset(batch_size=10)
        return connector.count(), rows, [str(value) for value in list(batch.values())[1]]

    found = ray.get(ray.remote(num_cpus=0)(work).remote(SOURCES[kind](world)), timeout=60)
    assert found == (10, ROWS, [text for _, text, _ in ROWS])


def _tensor(name: str) -> tuple[Any, ...] | str:
    """What a column is in TensorFlow, or why it is not."""
    connector = _of(pa.table({name: COLUMNS[name]}))
    try:
        (batch,) = connector.to_tf_dataset(batch_size=2).as_numpy_iterator()
    except Exception as error:
        return str(error)
    return str(batch[name].dtype), batch[name].shape


def test_types_in_tensorflow(world: World) -> None:
    """Each type is the array that is documented, or the column is refused by name."""
    found = {name: _tensor(name) for name in COLUMNS}
    arrays = {name: shape for name, shape in SHAPES.items() if name not in TIMES}
    assert {name: found[name] for name in arrays} == arrays
    refused = {name: text for name, text in found.items() if isinstance(text, str)}
    assert [name for name, text in refused.items() if f"'{name}'" not in text] == []
    assert {*TIMES, "time", "struct", "map", "list ragged", "decimal huge"} <= set(refused)


def test_types_in_ray(world: World) -> None:
    """Ray Data has each value as Arrow has it."""
    for name, column in COLUMNS.items():
        rows = [row[name] for row in _of(pa.table({name: column})).to_ray_dataset().take_all()]
        expected = column.to_numpy_ndarray() if name == "tensor" else column.to_pylist()
        assert _plain(rows) == _plain(list(expected)), name
