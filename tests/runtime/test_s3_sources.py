"""Connectors over files on a real S3 server: pushdown, vanished objects, wrong keys, the cache."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from heliostat._stages import open_location
from heliostat.data import DataConnector
from heliostat.exceptions import DataError

if TYPE_CHECKING:
    from pathlib import Path

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


def test_an_object_that_vanished_is_named(place: str) -> None:
    """An object that was there and is gone is an error with its address."""
    connector = DataConnector.from_sources(None, [f"{place}/wide.parquet"])
    assert connector.columns[0] == "c0"
    open_location(place).join("wide.parquet").delete()
    with pytest.raises(DataError, match=r"wide\.parquet"):
        connector.to_arrow()


def test_a_key_that_is_refused_is_told(s3: S3Server, place: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """A server that refuses the key makes an error with the address and without the secret."""
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "wr0ngsecret")
    with s3.asking_for_credentials(), pytest.raises(DataError, match=r"s3://") as refused:
        DataConnector.from_sources(None, [place]).to_arrow()
    assert "wr0ngsecret" not in str(refused.value)


def test_a_connector_uses_the_cache_when_asked(s3: S3Server, place: str, tmp_path: Path) -> None:
    """The second epoch of a cached connector fetches nothing but versions; a changed file is seen."""
    settings = {"cache_dir": str(tmp_path)}
    connector = DataConnector.from_sources(None, [place], use_file_cache=True, file_cache_config=settings)
    first = connector.to_reader(["c1", "c2"]).read_all()
    before = s3.bytes_sent()
    assert connector.to_reader(["c1", "c2"]).read_all() == first
    assert s3.bytes_sent() - before < 10_000
    with open_location(place).join("wide.parquet").open_output() as file:
        pq.write_table(pa.table({"c1": [1.0], "c2": [2.0]}), file)
    assert connector.to_reader(["c1"]).read_all()["c1"].to_pylist() == [1.0]
