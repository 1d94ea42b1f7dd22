"""The embedded warehouse, on real files."""

from __future__ import annotations

from datetime import UTC, date, datetime
from decimal import Decimal
from typing import TYPE_CHECKING, Any

import duckdb
import pyarrow as pa
import pytest

from heliostat._session import Session
from heliostat._warehouse import warehouse_path
from heliostat.context import get_active_session
from heliostat.exceptions import ConfigurationError, DataError

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

ROWS: list[dict[str, Any]] = [
    {
        "name": "Zürich ✈",
        "price": Decimal("1234567.89"),
        "at": datetime(2013, 3, 10, 2, 30, 0, 123456),  # noqa: DTZ001 - a timestamp without zone is the case
        "zoned": datetime(2013, 3, 10, 2, 30, tzinfo=UTC),
        "day": date(2013, 3, 10),
        "count": 2**62,
        "share": 0.1,
        "late": True,
        "raw": b"\x00\xff",
    },
    dict.fromkeys(("name", "price", "at", "zoned", "day", "count", "share", "late", "raw")),
]


@pytest.fixture
def session(tmp_path: Path) -> Iterator[Session]:
    """A session of a warehouse of its own."""
    with Session(tmp_path / "warehouse.duckdb") as session:
        yield session


def test_a_table_gives_back_every_type_and_null(tmp_path: Path) -> None:
    """What was saved is read the same after the file was closed and opened again."""
    path = tmp_path / "warehouse.duckdb"
    with Session(path) as session:
        session.save_as_table(ROWS, "rows")
    with Session(path) as session:
        table = session.table("rows").to_arrow_table()
    assert table.to_pylist() == ROWS
    assert table.schema.field("price").type == pa.decimal128(9, 2)
    assert table.schema.field("at").type == pa.timestamp("us")


def test_the_default_warehouse_is_made_private(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The first use makes the file in the user's data directory, for the user alone."""
    monkeypatch.delenv("HELIOSTAT_WAREHOUSE", raising=False)
    monkeypatch.setenv("XDG_DATA_HOME", str(tmp_path / "data"))
    session = get_active_session()
    try:
        assert session.path == tmp_path / "data/heliostat/warehouse.duckdb"
        assert session.path.is_file()
        assert session.path.parent.stat().st_mode & 0o777 == 0o700
        assert get_active_session() is session
    finally:
        session.close()


def test_a_closed_session_is_opened_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """After close() the old object says that it is closed, and the next call gives an open one."""
    monkeypatch.setenv("HELIOSTAT_WAREHOUSE", str(tmp_path / "other.duckdb"))
    first = get_active_session()
    first.save_as_table({"a": [1]}, "kept")
    first.close()
    with pytest.raises(ConfigurationError, match="closed"):
        first.tables()
    second = get_active_session()
    try:
        assert second.path == warehouse_path()
        assert second.tables() == ["kept"]
    finally:
        second.close()


@pytest.mark.parametrize("path", ["/proc/nowhere/warehouse.duckdb", "{file}/warehouse.duckdb", "{folder}"])
def test_a_path_that_cannot_be_written_is_refused(tmp_path: Path, path: str) -> None:
    """The error names the place and the setting that changes it."""
    (tmp_path / "file").write_text("")
    with pytest.raises(ConfigurationError, match="HELIOSTAT_WAREHOUSE"):
        Session(path.format(file=tmp_path / "file", folder=tmp_path))


def test_modes_of_saving(session: Session) -> None:
    """A table is not replaced unless asked; append matches columns by name."""
    session.save_as_table({"a": [1], "b": ["x"]}, "t")
    with pytest.raises(DataError, match="there already"):
        session.save_as_table({"a": [2]}, "T")
    session.save_as_table({"b": ["y"], "a": [2]}, "t", mode="append")
    assert session.table("t").fetchall() == [(1, "x"), (2, "y")]
    session.save_as_table(session.table("t").filter("a = 2"), "t", mode="overwrite")
    assert session.table("t").fetchall() == [(2, "y")]
    with pytest.raises(ConfigurationError, match="replace"):
        session.save_as_table({"a": [1]}, "t", mode="replace")  # type: ignore[arg-type]


def test_a_failed_save_changes_nothing(session: Session) -> None:
    """Data that does not fit leaves the table as it was."""
    session.save_as_table({"a": [1]}, "t")
    with pytest.raises(DataError, match="'t'"):
        session.save_as_table({"other": [1]}, "t", mode="append")
    bad = session.sql("SELECT CASE WHEN i < 99999 THEN i ELSE error('stop') END AS a FROM range(100000) r(i)")
    with pytest.raises(DataError, match="stop"):
        session.save_as_table(bad, "t", mode="overwrite")
    assert session.table("t").fetchall() == [(1,)]


def test_a_relation_of_another_connection_can_be_saved(session: Session, tmp_path: Path) -> None:
    """Rows come from the connection that the relation belongs to, not from a table of the same name here."""
    session.save_as_table({"a": ["ours"]}, "t")
    with duckdb.connect(str(tmp_path / "foreign.duckdb")) as foreign:
        foreign.execute("CREATE TABLE t AS SELECT 'theirs' AS a")
        session.save_as_table(foreign.table("t"), "t", mode="append")
    assert session.table("t").fetchall() == [("ours",), ("theirs",)]


def test_names_are_names_and_not_sql(session: Session) -> None:
    """Quotes and semicolons in a table name do no harm; a missing table is listed against those there."""
    session.save_as_table({"a": [1]}, 'odd"; DROP TABLE t; --')
    session.sql("CREATE SCHEMA raw")
    session.save_as_table({"a": [1]}, "raw.t")
    assert session.tables() == ['odd"; DROP TABLE t; --', "raw.t"]
    session.drop_table('odd"; DROP TABLE t; --')
    with pytest.raises(DataError, match=r"raw\.t"):
        session.table("nope")
    with pytest.raises(DataError, match="nope"):
        session.drop_table("nope")
    for name in ("", "a..b"):
        with pytest.raises(DataError, match="not a table name"):
            session.save_as_table({"a": [1]}, name)


def test_queries_take_values_and_see_no_python_variables(session: Session) -> None:
    """Values are bound, never pasted, and a table name is never looked up among our own variables."""
    session.save_as_table({"a": ["x'; DROP TABLE t; --", "y"]}, "t")
    by_position = session.sql("SELECT * FROM t WHERE a = ?", ["x'; DROP TABLE t; --"])
    by_name = session.sql("SELECT count(*) FROM t WHERE a <> $a", {"a": "y"})
    assert by_position is not None
    assert by_name is not None
    assert by_position.fetchall() == [("x'; DROP TABLE t; --",)]
    assert by_name.fetchall() == [(1,)]
    with pytest.raises(DataError, match="query does not exist"):
        session.sql("SELECT * FROM query")


def test_data_in_memory_becomes_a_relation(session: Session) -> None:
    """Frames can be queried, under a name also in SQL."""
    import pandas as pd

    frame = pd.DataFrame({"a": [1, 2, 3]}, index=["x", "y", "z"])
    assert session.create_dataframe(frame).filter("a > 1").fetchall() == [(2,), (3,)]
    session.create_dataframe(pa.table({"b": [4.5]}), name="named")
    answer = session.sql("SELECT b + 1 FROM named")
    assert answer is not None
    assert answer.fetchall() == [(5.5,)]
    assert session.tables() == []
