"""Connectors and Ray: data sets in both directions, and workers that read by themselves."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

import heliostat
from heliostat._session import Session
from heliostat.data import DataConnector, ShardedDataConnector
from heliostat.data._shards import sharded
from heliostat.data.arrow_ingestor import ArrowIngestor

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

pytestmark = pytest.mark.filterwarnings("ignore")  # Ray Data's own

ROWS = 5_000
TABLE = pa.table({"i": range(ROWS), "s": [str(i % 7) for i in range(ROWS)]})


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two Parquet files and a CSV file of the same rows."""
    place = tmp_path_factory.mktemp("files")
    (place / "parquet").mkdir()
    pq.write_table(TABLE.slice(0, 3000), place / "parquet" / "0.parquet", row_group_size=1000)
    pq.write_table(TABLE.slice(3000), place / "parquet" / "1.parquet")
    (place / "rows.csv").write_text("i,s\n" + "".join(f"{i},{i % 7}\n" for i in range(ROWS)))
    return place


@pytest.fixture(scope="module")
def runtime(place: Path) -> Iterator[Any]:
    """A runtime of two CPUs, whose workers know the warehouse of the tests."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("HELIOSTAT_WAREHOUSE", str(place / "warehouse.duckdb"))
        with Session(place / "warehouse.duckdb") as session:
            session.save_as_table(TABLE, "t")
        heliostat.init(cpus=2).wait()
        import ray

        ray.data.DataContext.get_current().enable_progress_bars = False
        yield ray
        from heliostat.context import get_active_session

        get_active_session().close()
        heliostat.shutdown()


CONNECTORS: dict[str, Callable[[Path], DataConnector]] = {
    "files": lambda place: DataConnector.from_sources(None, [str(place / "parquet")]),
    "text": lambda place: DataConnector.from_sources(None, [str(place / "rows.csv")]),
    "query": lambda _: DataConnector.from_sql("SELECT * FROM t"),
    "memory": lambda _: DataConnector.from_dataframe(TABLE),
    "stream": lambda _: DataConnector.from_dataframe(TABLE.to_reader(1000)),
}


@pytest.mark.parametrize("kind", CONNECTORS)
def test_a_ray_dataset_has_all_rows(runtime: Any, place: Path, kind: str) -> None:
    """Files, queries and frames become Ray Datasets of the same rows."""
    dataset = CONNECTORS[kind](place).to_ray_dataset()
    rows = sorted((row["i"], str(row["s"])) for row in dataset.take_all())
    assert rows == [(i, str(i % 7)) for i in range(ROWS)]


@pytest.mark.parametrize("kind", ["files", "query", "memory"])
def test_workers_read_by_themselves(runtime: Any, place: Path, kind: str) -> None:
    """A connector that is sent to a worker reads there, wherever its rows are."""

    def work(connector: DataConnector) -> tuple[int, int]:
        return connector.count(), sum(connector.to_arrow()["i"].to_pylist())

    remote = runtime.remote(num_cpus=1)(work)
    assert runtime.get(remote.remote(CONNECTORS[kind](place))) == (ROWS, sum(range(ROWS)))


def test_a_ray_dataset_is_a_source(runtime: Any, tmp_path: Path) -> None:
    """A Ray Dataset is read, selected, limited, counted and sharded; tensors in it are tensors."""
    import numpy as np

    dataset = runtime.data.range_tensor(100, shape=(2, 2)).map_batches(
        lambda batch: {**batch, "n": np.arange(len(batch["data"]))}, batch_size=None
    )
    connector = DataConnector.from_ray_dataset(dataset)
    assert connector.columns == ["data", "n"]
    assert connector.count() == 100
    assert connector.to_reader(["n"]).read_all().column_names == ["n"]
    assert connector.to_arrow(limit=7).num_rows == 7
    (batch,) = connector._ingestor.to_batches(100, shuffle=False)
    assert batch["data"].shape == (100, 2, 2)
    assert connector.to_ray_dataset() is dataset
    with sharded(connector, 2, directory=str(tmp_path)) as shards:
        assert [shard.rows for shard in shards] == [50, 50]
    with ShardedDataConnector.from_ray_ds(dataset).laid_out(2, str(tmp_path)) as placed:
        assert placed.count() == 100


class Own(ArrowIngestor):
    """An ingestor that has the optional method."""

    def to_ray_dataset(self) -> Any:
        """Make another data set than the rows would."""
        import ray

        return ray.data.range(3)


def test_an_ingestor_may_make_the_ray_dataset(runtime: Any) -> None:
    """The optional method of an ingestor is what to_ray_dataset calls."""
    assert DataConnector.from_dataframe(TABLE, Own).to_ray_dataset().count() == 3
