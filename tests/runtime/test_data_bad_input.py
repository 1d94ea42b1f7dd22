"""Data that cannot be read: each error names the file or the column, and nothing passes for whole."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from heliostat.data import DataConnector, DataFrameInfo, ShardedDataConnector
from heliostat.data._shards import sharded
from heliostat.exceptions import ConfigurationError, DataError, UnsupportedSourceError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence
    from pathlib import Path

    from tests.runtime.conftest import AsRank

TABLE = pa.table({"a": range(1000), "b": ["x"] * 1000})


def _files(directory: Path, *tables: pa.Table) -> DataConnector:
    for number, table in enumerate(tables):
        pq.write_table(table, directory / f"{number}.parquet", row_group_size=100)
    return DataConnector.from_sources(None, [str(directory)])


DRIFTS: dict[str, tuple[pa.Table, str]] = {
    "lacks": (TABLE.drop_columns(["b"]), r"1\.parquet has no column 'b', which .*0\.parquet has"),
    "more": (TABLE.append_column("c", TABLE["a"]), r"0\.parquet has no column 'c', which .*1\.parquet has"),
    "type": (
        TABLE.set_column(0, "a", TABLE["b"]),
        r"column 'a' is of type string in .*1\.parquet and of type int64",
    ),
}


@pytest.mark.parametrize("drift", DRIFTS)
def test_files_with_other_columns(tmp_path: Path, drift: str) -> None:
    """A file that has others than the first is refused before any of its rows, in every way of reading."""
    other, told = DRIFTS[drift]
    connector = _files(tmp_path, TABLE, other)
    assert connector.columns == ["a", "b"]
    verbs: list[Callable[[], Any]] = [connector.count, connector.to_arrow, connector.to_pandas]
    for verb in verbs:
        with pytest.raises(DataError, match=told):
            verb()
    with pytest.raises(DataError, match=told), sharded(connector, 2):
        pytest.fail("no shards of these")
    rows: list[int] = []
    with pytest.raises(DataError, match=told):
        rows.extend(batch.num_rows for batch in connector.to_reader())
    assert sum(rows) == 1000


def test_a_schema_reads_files_that_differ(tmp_path: Path) -> None:
    """With schema= what a file lacks is missing, in shards too; columns may be in another order."""
    _files(tmp_path, TABLE.select(["b", "a"]), TABLE.drop_columns(["b"]))
    schema = pa.schema([("a", pa.float64()), ("b", pa.string())])
    connector = DataConnector.from_sources(None, [str(tmp_path)], schema=schema)
    assert connector.to_arrow().schema == schema
    assert connector.to_arrow()["b"].null_count == 1000
    with sharded(connector, 1) as (shard,):
        assert shard.rows == 2000


@pytest.mark.parametrize("damage", ["truncated", "garbage", "page", "gone", "empty"])
def test_a_damaged_file(tmp_path: Path, damage: str) -> None:
    """A file that is cut off, damaged inside, gone or empty is named, and the rows never just end."""
    connector = _files(tmp_path, TABLE, TABLE)
    path = tmp_path / "1.parquet"
    content = bytearray(path.read_bytes())
    if damage == "gone":
        from heliostat._location import Location
        from heliostat.data._sources._parquet import ParquetSource
        from heliostat.data.arrow_ingestor import ArrowIngestor

        found = connector.source._found()  # type: ignore[attr-defined]
        assert isinstance(found, ParquetSource)
        assert isinstance(found.files[1].location, Location)
        connector = DataConnector(ArrowIngestor.from_source(found))
        path.unlink()
    elif damage == "page":
        content[4:2000] = b"\xff" * 1996
        path.write_bytes(content)
    else:
        broken = {"truncated": bytes(content[: len(content) // 2]), "garbage": b"x" * 500, "empty": b""}
        path.write_bytes(broken[damage])
    rows: list[int] = []
    with pytest.raises(DataError, match=r"1\.parquet") as raised:
        rows.extend(batch.num_rows for batch in connector.to_reader())
    assert sum(rows) == 1000
    assert str(path) in raised.value.file
    for verb in (connector.to_arrow, connector.to_pandas):
        with pytest.raises(DataError, match=r"1\.parquet"):
            verb()


def test_nothing_there(tmp_path: Path) -> None:
    """Missing and empty places, and names without a format, are named."""
    with pytest.raises(DataError, match=r"no file or directory .*/nowhere"):
        DataConnector.from_sources(None, [str(tmp_path / "nowhere")]).to_arrow()
    with pytest.raises(DataError, match="no files in"):
        DataConnector.from_sources(None, [str(tmp_path)]).count()
    (tmp_path / "data").write_text("a,b\n1,2\n")
    with pytest.raises(UnsupportedSourceError, match="does not say its format"):
        DataConnector.from_sources(None, [str(tmp_path / "data")]).count()
    assert DataConnector.from_sources(None, [str(tmp_path / "data")], format="csv").count() == 1
    with pytest.raises(ConfigurationError, match="format='xml'"):
        DataConnector.from_sources(None, ["x"], format="xml")


def test_text_files(tmp_path: Path) -> None:
    """A CSV file without a line, one with other columns, and a value of another type are named."""
    (tmp_path / "0.csv").write_text("a,b\n1,2\n")
    connector = DataConnector.from_sources(None, [str(tmp_path)])
    for content, told in (("", "1.csv"), ("a,c\n1,2\n", "no column 'b'"), ("a,b\n1,text\n", "text")):
        (tmp_path / "1.csv").write_text(content)
        with pytest.raises(DataError, match=told) as raised:
            connector.to_arrow()
        assert raised.value.file.endswith("1.csv")
    (tmp_path / "1.csv").write_text("b,a\n3,4\n")
    assert connector.to_arrow().to_pydict() == {"a": [1, 4], "b": [2, 3]}


@pytest.mark.parametrize("size", [0, -1, True, 1.5])
def test_batch_sizes(size: Any) -> None:
    """What is no number of rows is refused at once, by every output that has batches."""
    connector = DataConnector.from_dataframe(TABLE)
    verbs: list[Callable[[], Any]] = [
        lambda: connector._ingestor.to_batches(size),
        lambda: connector.to_torch_dataset(batch_size=size),
        lambda: connector.to_tf_dataset(batch_size=size),
        lambda: connector.to_huggingface_dataset(batch_size=size),
    ]
    for verb in verbs:
        with pytest.raises(ConfigurationError, match="batch_size="):
            verb()


def test_two_columns_of_one_name() -> None:
    """A name that means two columns is refused with the name."""
    twice = pa.Table.from_arrays([TABLE["a"], TABLE["b"]], names=["a", "a"])
    with pytest.raises(DataError, match="more than one column 'a'"):
        DataConnector.from_dataframe(twice).to_arrow()


@pytest.mark.parametrize("drop", [True, False])
@pytest.mark.parametrize("shuffle", [True, False])
@pytest.mark.parametrize("size", [1, 300, 1000, 5000])
def test_batches_are_exact_across_files(tmp_path: Path, size: int, shuffle: bool, drop: bool) -> None:
    """All batches have just the size that was asked for; a last one that has not is there unless dropped."""
    connector = _files(tmp_path, TABLE, TABLE.slice(0, 777))
    np.random.seed(0)
    read = list(connector._ingestor.to_batches(size, shuffle=shuffle, drop_last_batch=drop))
    lengths = [len(batch["a"]) for batch in read]
    whole, rest = divmod(1777, size)
    assert lengths == [size] * whole + ([rest] if rest and not drop else [])
    if lengths and not drop:
        values = np.concatenate([batch["a"] for batch in read])
        expected = [*range(1000), *range(777)]
        assert sorted(values) == sorted(expected)
        assert (values.tolist() == expected) is not shuffle


class Counting:
    """An ingestor of the user's: it has the documented methods, and no other."""

    def __init__(self, sources: Sequence[Any]) -> None:
        self._sources = list(sources)

    @classmethod
    def from_sources(cls, session: Any, sources: Sequence[Any], **kwargs: Any) -> Counting:
        """Keep the names."""
        return cls(sources)

    @classmethod
    def from_ray_dataset(cls, ray_ds: Any, **kwargs: Any) -> Counting:
        """Refuse."""
        raise NotImplementedError

    @property
    def data_sources(self) -> list[Any]:
        """The names."""
        return self._sources

    def to_batches(
        self, batch_size: int, shuffle: bool = True, drop_last_batch: bool = True
    ) -> Iterator[dict[str, Any]]:
        """Yield 1000 rows."""
        for start in range(0, 1000, batch_size):
            rows = np.arange(start, min(start + batch_size, 1000))
            text = np.array([str(row) for row in rows], dtype=object)
            pair = np.stack([rows, rows], axis=1)
            yield {"n": rows, "text": text, "pair": pair, "cube": pair.reshape(-1, 1, 2).repeat(2, 1)}

    def to_pandas(self, limit: int | None = None) -> Any:
        """Load the numbers."""
        import pandas as pd

        return pd.DataFrame({"n": range(1000 if limit is None else limit)})


def test_an_ingestor_of_the_users_works_everywhere(tmp_path: Path) -> None:
    """With the documented methods alone: Arrow, pandas, columns, count, shards, torch, Hugging Face."""
    connector = DataConnector.from_sources(None, ["anything"], ingestor_class=Counting)
    assert connector.data_sources == ["anything"]
    assert connector.columns == ["n", "text", "pair", "cube"]
    assert connector.count() == 1000
    table = connector.to_arrow()
    assert table["n"].to_pylist() == list(range(1000))
    assert table["pair"][7].as_py() == [7, 7]
    assert len(connector.to_pandas(limit=3)) == 3
    with sharded(connector, 3, columns=["n", "cube"], directory=str(tmp_path)) as shards:
        assert sum(shard.rows for shard in shards) == 1000
        assert next(shards[2].tables())["cube"].chunk(0).to_numpy_ndarray()[0].tolist() == [[666, 666]] * 2
    assert connector.to_huggingface_dataset(limit=2)["text"][:] == ["0", "1"]
    batches = list(connector.to_torch_dataset(batch_size=300, drop_last_batch=False))
    assert [len(batch["text"]) for batch in batches] == [300, 300, 300, 100]
    assert tuple(batches[0]["cube"].shape) == (300, 2, 2)
    query = DataConnector.from_sql("SELECT 1", session="none", ingestor_class=Counting)
    assert query.data_sources == [DataFrameInfo("SELECT 1")]
    with pytest.raises(UnsupportedSourceError, match="Counting reads sources by name"):
        DataConnector.from_dataframe(TABLE, ingestor_class=Counting)


def test_ranks_get_their_own_rows(tmp_path: Path, as_rank: AsRank) -> None:
    """In a rank a sharded connector is that rank's rows: of files, of frames, and of what was laid out."""
    import duckdb

    files = ShardedDataConnector.from_sources([str(tmp_path)], equal=False)
    _files(tmp_path, TABLE.slice(0, 500), TABLE.slice(500, 1))
    frame = ShardedDataConnector.from_dataframe(TABLE.slice(0, 501).to_pandas(), None, equal=False)
    equal = ShardedDataConnector.from_dataframe(TABLE.slice(0, 501))
    query = ShardedDataConnector.from_dataframe(duckdb.connect().from_arrow(TABLE.slice(0, 501)), equal=False)
    with pytest.raises(ConfigurationError, match="outside of a training"):
        files.get_shard()
    as_rank(0, 3)
    with pytest.raises(DataError, match="no fixed order"):
        query.get_shard()
    with query.laid_out(3) as placed:
        for connector, whole in ((files, 501), (frame, 501), (placed, 501), (equal, 501)):
            assert connector.count() == whole
            read: list[int] = []
            sizes = []
            for rank in range(3):
                as_rank(rank, 3)
                part = connector.get_shard()
                assert part.columns == ["a", "b"]
                (batch,) = part.to_torch_dataset(batch_size=167)
                assert batch["a"].ravel().tolist() == part.to_arrow()["a"].to_pylist()
                sizes.append(part.count())
                read += part.to_arrow()["a"].to_pylist()
            assert sizes == [167, 167, 167]
            assert read == list(range(501))
        as_rank(0, 2)
        assert equal.get_shard().count() == 250
        assert files.get_shard().count() == 250
        with pytest.raises(ConfigurationError, match="laid out for 3 ranks; there are 2"):
            placed.get_shard()
    as_rank(1, 2)
    assert equal.get_shard().count() == 250
    assert files.get_shard().count() == 251


def test_ranks_are_found_in_the_environment(as_rank: AsRank) -> None:
    """Processes that torchrun started are ranks too; a rank that cannot be is refused."""
    as_rank(1, 4)
    shard = ShardedDataConnector.from_dataframe(TABLE).get_shard()
    assert shard.to_arrow()["a"].to_pylist() == list(range(250, 500))
    as_rank(2, 2)
    with pytest.raises(ConfigurationError, match="no rank 2 of 2"):
        ShardedDataConnector.from_dataframe(TABLE).get_shard()
