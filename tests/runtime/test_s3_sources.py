"""Connectors over files on a real S3 server: pushdown, vanished objects, wrong keys, the cache."""

from __future__ import annotations

import pickle
import shutil
import subprocess
import sys
import tempfile
from typing import TYPE_CHECKING

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from pyarrow import feather

from heliostat._file_cache import FileCacheConfig
from heliostat._stages import open_location
from heliostat.data import DataConnector, ShardedDataConnector
from heliostat.data._sources._files import FilesSource
from heliostat.data.arrow_ingestor import ArrowIngestor
from heliostat.exceptions import ConfigurationError, DataError

if TYPE_CHECKING:
    from pathlib import Path

    from tests.runtime.conftest import AsRank
    from tests.support.s3 import S3Server

SIZE = 20_000 * 20 * 8
"""Bytes of the table: 20 columns of random numbers, which cannot be compressed."""


@pytest.fixture
def place(s3: S3Server, monkeypatch: pytest.MonkeyPatch, request: pytest.FixtureRequest) -> str:
    """A wide Parquet file on S3, in a directory of this test."""
    for name, value in s3.environment.items():
        monkeypatch.setenv(name, value)
    url = f"s3://{s3.bucket}/sources/{request.node.name}"
    columns = {f"c{index}": np.random.default_rng(index).random(20_000) for index in range(20)}
    with open_location(url).join("wide.parquet").open_output() as file:
        pq.write_table(pa.table(columns), file, row_group_size=5000)
    return url


def test_columns_and_limits_reach_the_object(s3: S3Server, place: str) -> None:
    """Of a wide file a narrow read fetches a small part, and a count only its footer."""
    connector = DataConnector.from_sources(None, [place])
    before = s3.bytes_sent()
    assert connector.count() == 20_000
    assert s3.bytes_sent() - before < SIZE / 10
    table = connector.to_reader(["c7"]).read_all()
    np.testing.assert_array_equal(table["c7"], np.random.default_rng(7).random(20_000))
    assert s3.bytes_sent() - before < SIZE / 3


def test_a_part_of_the_rows_reaches_the_object(s3: S3Server, place: str, as_rank: AsRank) -> None:
    """A rank fetches the rows that are its own, and of them the columns that it asks for."""
    connector = ShardedDataConnector.from_sources([place], use_file_cache=False)
    as_rank(2, 4)
    before = s3.bytes_sent()
    (batch,) = connector.get_shard().to_torch_dataset(batch_size=5000, columns=["c7"])
    assert s3.bytes_sent() - before < SIZE / 10
    np.testing.assert_array_equal(batch["c7"].ravel(), np.random.default_rng(7).random(20_000)[10_000:15_000])
    assert connector.get_shard().to_arrow().num_rows == 5000
    assert s3.bytes_sent() - before < SIZE / 2


def test_an_object_that_vanished_is_named(place: str) -> None:
    """An object that was there and is gone is an error with its address."""
    connector = DataConnector.from_sources(None, [f"{place}/wide.parquet"])
    assert connector.columns[0] == "c0"
    open_location(place).join("wide.parquet").delete()
    with pytest.raises(DataError, match=r"wide\.parquet"):
        connector.to_arrow()


@pytest.mark.parametrize("kind", ["csv", "json", "arrow"])
def test_an_object_of_another_format_that_vanished_is_named(place: str, kind: str) -> None:
    """One that goes after it was listed is an error with its address, and its rows are not left out."""
    content = {"csv": b"a\n1\n", "json": b'{"a": 1}\n'}
    for number in range(2):
        with open_location(place).join(kind, f"{number}.{kind}").open_output() as file:
            if kind == "arrow":
                feather.write_feather(pa.table({"a": [1]}), file)
            else:
                file.write(content[kind])
    source = DataConnector.from_sources(None, [f"{place}/{kind}"], use_file_cache=False).source
    assert isinstance(source, FilesSource)
    connector = DataConnector(ArrowIngestor.from_source(source._found()))
    assert connector.count() == 2
    open_location(place).join(kind, f"1.{kind}").delete()
    for verb in (connector.count, connector.to_arrow, connector.to_pandas):
        with pytest.raises(DataError, match=rf"{kind}/1\.{kind}"):
            verb()


def test_a_key_that_is_refused_is_told(s3: S3Server, place: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """A server that refuses the key makes an error with the address and without the secret."""
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "wr0ngsecret")
    with s3.asking_for_credentials(), pytest.raises(DataError, match=r"s3://") as refused:
        DataConnector.from_sources(None, [place]).to_arrow()
    assert "wr0ngsecret" not in str(refused.value)


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Where the file cache of this test's processes is, with its settings left as they are."""
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    return FileCacheConfig().directory


_READ = """
import pickle, sys
connector = pickle.load(sys.stdin.buffer)
print(connector.to_reader(["c1"]).read_all()["c1"][0].as_py())
"""


def test_what_is_read_again_is_not_fetched_again(s3: S3Server, place: str, cache: Path) -> None:
    """Without any setting a second read fetches no content, here and in another process; changes are seen."""
    connector = DataConnector.from_sources(None, [place])
    first = connector.to_reader(["c1", "c2"]).read_all()
    assert first.num_rows == 20_000
    narrow = connector.to_reader(["c1"]).read_all()
    before = s3.objects_fetched()
    assert DataConnector.from_sources(None, [place]).to_reader(["c1", "c2"]).read_all() == first
    (batch, *_) = connector.to_torch_dataset(batch_size=5_000, columns=["c1", "c2"], cache=False)
    told = subprocess.run(
        [sys.executable, "-c", _READ], input=pickle.dumps(connector), capture_output=True, check=True
    )
    assert float(told.stdout) == narrow["c1"][0].as_py()
    assert s3.objects_fetched() == before
    assert batch["c1"].shape[0] == 5_000
    with open_location(place).join("wide.parquet").open_output() as file:
        pq.write_table(pa.table({"c1": [1.0], "c2": [2.0]}), file)
    assert connector.to_reader(["c1"]).read_all()["c1"].to_pylist() == [1.0]
    assert s3.objects_fetched() > before
    entries = list(cache.glob("??/*"))
    assert DataConnector.from_sources(None, [place], use_file_cache=False).count() == 1
    assert list(cache.glob("??/*")) == entries


@pytest.mark.parametrize("kind", ["csv", "json", "arrow"])
def test_every_format_is_cached(s3: S3Server, place: str, cache: Path, kind: str) -> None:
    """Files that are streamed are cached like those that are read by parts, and as whole as they were."""
    table = pa.table({"n": range(1000), "s": [f"s{i}" for i in range(1000)]})
    text = {
        "csv": "n,s\n" + "".join(f"{i},s{i}\n" for i in range(1000)),
        "json": "".join(f'{{"n": {i}, "s": "s{i}"}}\n' for i in range(1000)),
    }
    with open_location(place).join(f"other/rows.{kind}").open_output() as file:
        if kind == "arrow":
            feather.write_feather(table, file)
        else:
            file.write(text[kind].encode())
    connector = DataConnector.from_sources(None, [f"{place}/other"])
    assert connector.to_arrow() == table
    before = s3.objects_fetched()
    assert connector.to_arrow() == table
    assert connector.count() == 1000
    assert s3.objects_fetched() == before


def test_a_reader_whom_the_source_refuses_gets_nothing(
    s3: S3Server, place: str, cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of several users of one cache, each is served what the source would give it, and nothing else."""
    directory = place.removeprefix(f"s3://{s3.bucket}")
    finding = (("s3:ListBucket", "*"), ("s3:GetObject", directory))
    users = {
        "first": s3.identity(*finding, ("s3:GetObject", f"{directory}/*")),
        "also": s3.identity(*finding, ("s3:GetObject", f"{directory}/*")),
        "not": s3.identity(*finding),
    }
    answers = {}
    with s3.asking_for_credentials():
        for name, variables in users.items():
            for variable, value in variables.items():
                monkeypatch.setenv(variable, value)
            connector = DataConnector.from_sources(None, [place])
            fetched = s3.objects_fetched()
            if name == "not":
                with pytest.raises(DataError, match=r"wide\.parquet .*ACCESS_DENIED") as refused:
                    connector.to_reader(["c1"]).read_all()
                assert variables["AWS_SECRET_ACCESS_KEY"] not in str(refused.value)
            else:
                assert connector.to_reader(["c1"]).read_all().num_rows == 20_000
            answers[name] = s3.objects_fetched() > fetched
    assert answers == {"first": True, "also": False, "not": False}
    assert list(cache.glob("??/*"))


def test_the_cache_stays_below_its_share(s3: S3Server, place: str, cache: Path) -> None:
    """Of more than the cache may hold, all is read, and what was used last is what is kept."""
    small = 100 * 500_000 / shutil.disk_usage(cache.parent.parent).total
    settings = {"max_disk_pct": small, "evict_interval_sec": 0}
    connector = DataConnector.from_sources(None, [place], file_cache_config=settings)
    assert connector.to_arrow().num_rows == 20_000
    held = {path: path.stat().st_size for path in cache.glob("??/*")}
    assert 0 < sum(held.values()) <= 500_000 < SIZE
    last = connector.to_reader(["c19"]).read_all()
    before = s3.objects_fetched()
    assert connector.to_reader(["c19"]).read_all() == last
    assert s3.objects_fetched() == before


def test_without_a_directory_files_are_read_uncached(
    s3: S3Server, place: str, cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A disk that cannot have the cache is no reason not to read; a cache that was asked for is one."""
    cache.parent.mkdir()
    cache.symlink_to("/nowhere")
    assert DataConnector.from_sources(None, [place]).to_reader(["c1"]).read_all().num_rows == 20_000
    with pytest.raises(ConfigurationError, match="cache_dir"):
        DataConnector.from_sources(None, [place], use_file_cache=True).count()


def test_versions_of_datasets_are_cached(
    s3: S3Server, place: str, cache: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A version whose files are on S3 is fetched once; its options are checked like those of files."""
    from heliostat.dataset import create_from_dataframe

    monkeypatch.setenv("XDG_DATA_HOME", str(tmp_path / "data"))
    monkeypatch.setenv("HELIOSTAT_DATASETS", f"{place}/datasets")
    dataset = create_from_dataframe(None, "rows", "v1", pa.table({"n": range(50_000)}))
    assert dataset.read.to_arrow().num_rows == 50_000
    before = s3.objects_fetched(below="/data/")
    assert before
    assert DataConnector.from_dataset(dataset).to_arrow().num_rows == 50_000
    assert s3.objects_fetched(below="/data/") == before
    with pytest.raises(ConfigurationError, match="'max_disk'"):
        DataConnector.from_dataset(dataset, file_cache_config={"max_disk": 1})
    with pytest.raises(ConfigurationError, match="'nope'"):
        DataConnector.from_dataset(dataset, nope=1)
