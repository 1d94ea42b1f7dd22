"""``DataConnector`` over every kind of source."""

from __future__ import annotations

import subprocess
import sys
from typing import TYPE_CHECKING, Any

import pandas as pd
import pyarrow as pa
import pytest

from heliostat._session import Session
from heliostat.data import DataConnector, DataFrameInfo
from heliostat.data._shards import sharded
from heliostat.exceptions import ConfigurationError, DataError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

TABLE = pa.table({"n": [1, 2, None, 4, 5], "s": ["a", None, "c", "d", "e"], "x": [0.5, 1.5, 2.5, None, 4.5]})


class Stream:
    """Something of another library: all that is known of it is the Arrow stream protocol."""

    def __arrow_c_stream__(self, requested_schema: object = None) -> object:
        return TABLE.__arrow_c_stream__(requested_schema)


@pytest.fixture(scope="module")
def session(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Session]:
    """A warehouse with the table ``t``."""
    with Session(tmp_path_factory.mktemp("warehouse") / "warehouse.duckdb") as session:
        session.save_as_table(TABLE, "t")
        yield session


SOURCES: dict[str, Callable[[Session], Any]] = {
    "relation": lambda session: session.table("t"),
    "pandas": lambda _: TABLE.to_pandas(types_mapper=pd.ArrowDtype),
    "table": lambda _: TABLE,
    "batch": lambda _: TABLE.to_batches()[0],
    "stream": lambda _: Stream(),
}


@pytest.mark.parametrize("kind", SOURCES)
def test_every_source_gives_the_same_rows_again_and_again(session: Session, kind: str) -> None:
    """Columns, count, Arrow, pandas and limit agree for each kind of source, and can be repeated."""
    connector = DataConnector.from_dataframe(SOURCES[kind](session))
    assert connector.columns == ["n", "s", "x"]
    assert connector.count() == 5
    for _ in range(2):
        assert connector.to_arrow().to_pydict() == TABLE.to_pydict()
        assert connector.to_pandas().shape == (5, 3)
    assert connector.to_pandas(limit=2)["n"].tolist() == [1, 2]
    assert len(connector.to_pandas(limit=0)) == 0
    assert len(connector.to_pandas(limit=99)) == 5
    assert connector.to_reader(["x", "n"]).read_all().column_names == ["x", "n"]


def test_a_reader_is_read_once(session: Session) -> None:
    """A RecordBatchReader gives its rows; counting or reading it twice says why it cannot."""
    connector = DataConnector.from_dataframe(TABLE.to_reader(max_chunksize=2))
    with pytest.raises(DataError, match="counted"):
        connector.count()
    assert connector.columns == ["n", "s", "x"]
    assert connector.to_pandas(limit=3)["x"].tolist() == [0.5, 1.5, 2.5]
    with pytest.raises(DataError, match="read already"):
        connector.to_arrow()


def test_a_query_is_checked_at_once_and_run_when_asked(session: Session) -> None:
    """from_sql refuses a wrong query, and reads rows as they are when to_... is called."""
    with pytest.raises(DataError, match="nope"):
        DataConnector.from_sql("SELECT nope FROM t", session=session)
    connector = DataConnector.from_sql("SELECT n FROM t WHERE n > 1 ORDER BY n", session=session)
    assert connector.data_sources == [DataFrameInfo("SELECT n FROM t WHERE n > 1 ORDER BY n")]
    session.save_as_table({"n": [9], "s": [None], "x": [None]}, "t", mode="append")
    try:
        assert connector.to_pandas()["n"].tolist() == [2, 4, 5, 9]
    finally:
        session.sql("DELETE FROM t WHERE n = 9")


def test_from_sql_takes_the_active_session(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Without a session the query runs on the one of this process."""
    from heliostat.context import get_active_session

    monkeypatch.setenv("HELIOSTAT_WAREHOUSE", str(tmp_path / "warehouse.duckdb"))
    with get_active_session() as active:
        active.save_as_table({"a": [7]}, "t")
        assert DataConnector.from_sql("FROM t").to_arrow().to_pydict() == {"a": [7]}


def test_only_what_was_asked_for_reaches_the_process(session: Session) -> None:
    """Schema and count of 10,000 million rows, and a few of them, come at once: the rest is never made."""
    connector = DataConnector.from_sql(
        "SELECT range AS i, 'x' AS s FROM range(10_000_000_000)", session=session
    )
    assert connector.columns == ["i", "s"]
    assert connector.count() == 10_000_000_000
    assert connector.to_pandas(limit=3)["i"].tolist() == [0, 1, 2]


def test_a_frame_keeps_its_types(session: Session) -> None:
    """Categories, time zones and nulls survive the way through the connector; the index is left out."""
    frame = pd.DataFrame(
        {
            "category": pd.Categorical(["a", "b", None]),
            "zoned": pd.Series(pd.to_datetime(["2013-01-01", "2013-02-01", "2013-06-01"], utc=True)),
            "whole": pd.array([1, None, 3], dtype="Int64"),
        }
    ).set_index(pd.Index([10, 20, 30]))
    back = DataConnector.from_dataframe(frame).to_pandas()
    pd.testing.assert_frame_equal(back, frame.reset_index(drop=True), check_dtype=True)
    assert DataConnector.from_dataframe(frame).data_sources == []


def test_what_cannot_be_read_is_refused(session: Session) -> None:
    """Objects without rows, columns of mixed types and negative limits each get an error that says so."""
    with pytest.raises(DataError, match=r"builtins\.int"):
        DataConnector.from_dataframe(3)
    with pytest.raises(DataError, match="mixed"):
        DataConnector.from_dataframe(pd.DataFrame({"mixed": [1, "a"]}, dtype=object)).to_arrow()
    with pytest.raises(ConfigurationError, match="-1"):
        DataConnector.from_dataframe(TABLE).to_pandas(limit=-1)
    with pytest.raises(ConfigurationError, match="session"):
        DataConnector.DEFAULT_INGESTOR_CLASS.from_sources(None, [DataFrameInfo("SELECT 1")])


def test_without_pandas_the_error_has_the_line_that_installs_it() -> None:
    """to_pandas() without pandas says what to install; Arrow works without it."""
    code = """
import sys
class Absent:
    def find_spec(self, name, path=None, target=None):
        if name == "pandas":
            raise ModuleNotFoundError("No module named 'pandas'", name="pandas")
sys.meta_path.insert(0, Absent())
import pyarrow as pa
from heliostat.data import DataConnector
from heliostat.exceptions import MissingDependencyError
connector = DataConnector.from_dataframe(pa.table({"a": [1]}))
assert connector.to_arrow().num_rows == 1
try:
    connector.to_pandas()
except MissingDependencyError as error:
    print(error)
"""
    told = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
    assert "pip install 'heliostat[pandas]'" in told


def test_importing_the_data_package_is_light() -> None:
    """Neither pandas nor DuckDB, pyarrow or Ray are imported before they are used."""
    code = """
import sys
import heliostat.context, heliostat.data, heliostat.modeling.distributors.xgboost
print(*sys.modules)
"""
    told = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True
    ).stdout.split()
    assert not {"pandas", "duckdb", "pyarrow", "ray", "xgboost", "numpy"} & set(told)


def test_the_directory_of_a_spill_is_private(session: Session, tmp_path: Path) -> None:
    """Rows that are written for workers can be read by their user alone, and are gone afterwards."""
    connector = DataConnector.from_sql("SELECT range AS i FROM range(200_003)", session=session)
    with sharded(connector, 2, directory=str(tmp_path)) as shards:
        (directory,) = tmp_path.iterdir()
        assert directory.stat().st_mode & 0o777 == 0o700
        assert sum(shard.rows for shard in shards) == 200_003
    assert list(tmp_path.iterdir()) == []


def test_a_spill_that_cannot_be_written_says_where_to_go(monkeypatch: pytest.MonkeyPatch) -> None:
    """The error names the directory and the setting."""
    monkeypatch.setenv("HELIOSTAT_SPILL_DIR", "/proc/nowhere")
    with (
        pytest.raises(ConfigurationError, match=r"/proc/nowhere.*HELIOSTAT_SPILL_DIR"),
        sharded(DataConnector.from_dataframe(TABLE), 2),
    ):
        pytest.fail("nothing can be written there")
