"""Queries on a real PostgreSQL server and on SQLite: types, pushdown, streaming, errors, cancelling."""

from __future__ import annotations

import os
import pickle
import signal
import sqlite3
import subprocess
import sys
import threading
from decimal import Decimal
from typing import TYPE_CHECKING, Any

import psutil
import pyarrow as pa
import pytest
from tests.support.owner import wait_for
from tests.support.postgres import QUOTED

from heliostat.data import DataConnector
from heliostat.data._sources._sql import SqlSource
from heliostat.exceptions import ConfigurationError, DataError

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from tests.support.postgres import PostgresServer

    Ask = Callable[..., SqlSource]


@pytest.fixture
def ask(postgres: PostgresServer) -> Ask:
    """Describe a query on the PostgreSQL server."""
    return lambda query, *params: SqlSource.of(query, postgres.uri, params)


@pytest.fixture
def ask_sqlite(tmp_path: Path) -> Ask:
    """Describe a query on an SQLite file with a table ``t`` of 200,000 rows."""
    path = tmp_path / "a.db"
    with sqlite3.connect(path) as made:
        made.execute("CREATE TABLE t (a INT, b TEXT, c REAL)")
        rows = ((index, f"row {index}", index / 2) for index in range(200_000))
        made.executemany("INSERT INTO t VALUES (?, ?, ?)", rows)
    made.close()
    return lambda query, *params: SqlSource.of(query, f"sqlite://{path}", params)


@pytest.mark.parametrize(
    ("sql", "kind", "value"),
    [
        ("2.50::numeric(10, 2)", pa.decimal128(10, 2), Decimal("2.50")),
        ("12345678901234567890123456789012345678.5::numeric(45, 3)", pa.decimal256(45, 3), None),
        ("(SELECT sum(g::bigint) FROM generate_series(1, 4) g)", pa.float64(), 10.0),
        ("'NaN'::numeric", pa.float64(), None),
        ("DATE '2026-02-03'", pa.date32(), None),
        ("TIMESTAMPTZ '2026-02-03 04:05+02'", pa.timestamp("us", "UTC"), None),
        ("TIMESTAMP '2026-02-03 04:05'", pa.timestamp("us"), None),
        ("'00000000-0000-0000-0000-00000000000a'::uuid", pa.string(), "00000000-0000-0000-0000-00000000000a"),
        ("""'{"a": 1}'::jsonb""", pa.string(), '{"a": 1}'),
        ("'{1,2}'::int[]", pa.list_(pa.int32()), [1, 2]),
        ("'ab'::bytea", pa.binary(), b"ab"),
        ("true", pa.bool_(), True),
        ("NULL::int", pa.int32(), None),
    ],
)
def test_types_of_postgresql_become_plain_arrow(ask: Ask, sql: str, kind: Any, value: Any) -> None:
    """Each type arrives as the Arrow type that means the same, with its value."""
    source = ask(f"SELECT {sql} AS x")
    table = source.reader().read_all()
    assert table.schema.field("x").type == kind == source.schema().field("x").type
    if value is not None:
        assert table["x"].to_pylist() == [value]


@pytest.mark.parametrize(
    "sql", ["'1.2.3.4'::inet", "'NaN'::numeric(10, 2)", "90071992547409930::numeric", "ARRAY[1.5]"]
)
def test_what_cannot_be_converted_is_refused_by_name(ask: Ask, sql: str) -> None:
    """A value that would be changed on the way is refused with its column and a cast to use."""
    with pytest.raises(DataError, match=r"'bad'.*Cast it") as refused:
        ask(f"SELECT 1 AS good, {sql} AS bad").reader().read_all()
    assert refused.value.column == "bad"


def test_columns_limit_and_count_reach_the_database(ask: Ask, ask_sqlite: Ask) -> None:
    """Projection, limit and count are run by the database, with parameters bound."""
    for source in (
        ask("SELECT g AS a, g::text AS b FROM generate_series(0, 99999) g WHERE g >= $1 ORDER BY g;", 7),
        ask_sqlite("SELECT a, b FROM t WHERE a >= ? AND a < 100000 ORDER BY a -- all", 7),
    ):
        assert source.count() == 99_993
        table = source.reader(["b"], 2).read_all()
        assert table.column_names == ["b"]
        assert table["b"].to_pylist()[0].endswith("7")
        assert table.num_rows == 2


def test_parameters_are_values_and_never_sql(ask: Ask, ask_sqlite: Ask) -> None:
    """A parameter with quotes and SQL in it is text."""
    text = "x'; DROP TABLE t; --"
    assert ask("SELECT $1::text AS x", text).reader().read_all()["x"].to_pylist() == [text]
    assert ask_sqlite("SELECT ? AS x", text).reader().read_all()["x"].to_pylist() == [text]
    assert ask_sqlite("SELECT a FROM t").count() == 200_000
    with pytest.raises(ConfigurationError, match="not a list"):
        SqlSource.of("SELECT 1", "sqlite:a.db", "text")


@pytest.mark.parametrize("params", [(), (0,)])
def test_a_query_is_streamed(ask: Ask, params: tuple[int, ...]) -> None:
    """Batches come before the query has ended, and reading them holds a few batches only."""
    where = "WHERE g > $1" if params else ""
    query = f"SELECT g, repeat('x', 200) AS wide FROM generate_series(1, 600000) g {where}"
    reader = ask(query, *params).reader()
    process = psutil.Process()
    reader.read_next_batch()
    before, peak, rows = process.memory_info().rss, 0, 0
    for batch in reader:
        rows += batch.num_rows
        peak = max(peak, process.memory_info().rss)
    assert 0 < rows < 600_000
    assert peak - before < 100 << 20  # all of it is 120 MB and more


def test_a_read_changes_nothing(ask: Ask, ask_sqlite: Ask, postgres: PostgresServer) -> None:
    """A statement that writes is refused by the database."""
    postgres.run("CREATE TABLE kept AS SELECT 1 AS x")
    for source in (
        ask("WITH d AS (DELETE FROM kept RETURNING x) SELECT * FROM d"),
        ask_sqlite("DELETE FROM t RETURNING a"),
        ask("DROP TABLE kept"),
    ):
        with pytest.raises(DataError):
            source.reader().read_all()
    assert postgres.run("SELECT x FROM kept") == [(1,)]
    assert ask_sqlite("SELECT a FROM t").count() == 200_000


def test_a_worker_runs_the_query_on_a_connection_of_its_own(ask: Ask) -> None:
    """A pickled query is small and reads in another process, which has no connections kept."""
    pickled = pickle.dumps(ask("SELECT g FROM generate_series(1, 10) g"))
    assert len(pickled) < 1000
    program = "import pickle, sys; s = pickle.load(sys.stdin.buffer); print(s.reader().read_all().num_rows)"
    environment = {**os.environ, "HELIOSTAT_CONNECTIONS": "/nowhere/at/all.json"}
    command = [sys.executable, "-c", program]
    done = subprocess.run(command, input=pickled, capture_output=True, check=True, env=environment)
    assert done.stdout == b"10\n"


@pytest.mark.parametrize(
    ("query", "says"),
    [
        ("SELECT nope", "nope"),
        ("SELECT 1/(70000 - g) AS x FROM generate_series(1, 90000) g", "division by zero"),
        ("SELECT $1::int", "no parameter"),
    ],
)
def test_what_the_database_says_is_told(ask: Ask, query: str, says: str) -> None:
    """A query that fails, before its rows or among them, is an error and never a shorter result."""
    with pytest.raises(DataError, match=says):
        ask(query).reader().read_all()


def test_a_connection_that_is_lost_is_an_error(ask: Ask, postgres: PostgresServer) -> None:
    """Rows that stop because the server ended the connection are not passed on as all rows."""
    reader = ask(
        "SELECT g, 'lost one' AS x FROM generate_series(1, 20000) g, generate_series(1, 20000) h"
    ).reader()
    reader.read_next_batch()
    postgres.run(
        "SELECT pg_terminate_backend(pid) FROM pg_stat_activity"
        " WHERE query LIKE '%lost one%' AND pid <> pg_backend_pid()"
    )
    with pytest.raises(DataError, match=r"terminat|connection"):
        reader.read_all()


def test_sqlite_with_mixed_types_names_the_column(ask_sqlite: Ask) -> None:
    """A column whose type changes after the first rows is refused by name."""
    source = ask_sqlite("SELECT a, CASE WHEN a < 150000 THEN a ELSE 'text' END AS mixed FROM t ORDER BY a")
    with pytest.raises(DataError, match=r"'mixed'.*CAST"):
        source.reader().read_all()


def test_a_connector_reads_a_named_connection(
    postgres: PostgresServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    """``from_sql`` takes the name of a connection as its session, and parameters."""
    monkeypatch.setenv("HELIOSTAT_CONNECTION_SHOP", postgres.uri)
    connector = DataConnector.from_sql(
        "SELECT g AS x FROM generate_series(1, 9) g WHERE g > $1", "shop", params=[4]
    )
    assert connector.count() == 5
    assert connector.columns == ["x"]
    assert pickle.loads(pickle.dumps(connector)).to_pandas()["x"].tolist() == [5, 6, 7, 8, 9]
    assert "ss/word" not in repr(connector.source)
    with pytest.raises(DataError, match="'nope'"):
        connector.to_reader(["nope"])
    with pytest.raises(ConfigurationError, match="no connection 'shup'"):
        DataConnector.from_sql("SELECT 1", "shup")


def test_a_wrong_password_ends_every_verb(postgres: PostgresServer) -> None:
    """Making a connector asks nobody; whatever reads says that the password is wrong, and not what it is."""
    connector = DataConnector.from_sql("SELECT 1 AS x", postgres.uri.replace(QUOTED, "tops3cret%2F1"))
    verbs: tuple[Callable[[], Any], ...] = (
        connector.count,
        connector.to_arrow,
        connector.to_pandas,
        lambda: connector.schema,
        lambda: connector.to_torch_dataset(batch_size=1),
        lambda: list(connector.to_huggingface_dataset(streaming=True)),
    )
    for verb in verbs:
        with pytest.raises(ConfigurationError, match="password authentication failed") as refused:
            verb()
        assert "tops3cret" not in str(refused.value)


def test_wide_rows_of_a_query_with_parameters_come_a_few_at_a_time(ask: Ask) -> None:
    """Batches from a cursor of the server are bounded in bytes: as many rows as fit, none lost."""
    query = "SELECT n, repeat('x', 60000) AS text FROM generate_series(1, $1) n"
    batches = list(ask(query, 2500).reader())
    assert [row for batch in batches for row in batch["n"].to_pylist()] == list(range(1, 2501))
    assert max(batch.nbytes for batch in batches) < 80 << 20


_SLOW = "SELECT pg_sleep(60)::text, '{}' AS x"


def test_an_interrupted_read_ends_in_the_database(ask: Ask, postgres: PostgresServer) -> None:
    """Ctrl-C while waiting for rows ends the wait, and the query on the server."""

    def interrupt() -> None:
        wait_for(lambda: postgres.running("interrupt me"), 20)
        os.kill(os.getpid(), signal.SIGINT)

    threading.Thread(target=interrupt).start()
    with pytest.raises(KeyboardInterrupt):
        ask(_SLOW.format("interrupt me")).reader()
    wait_for(lambda: not postgres.running("interrupt me"), 10)


def test_an_interrupted_read_of_sqlite_ends_at_once(ask_sqlite: Ask) -> None:
    """Ctrl-C ends the wait; the query, which SQLite's driver cannot end, goes on beside to its next rows."""

    def running() -> bool:
        return any(thread.name == "heliostat-sql" for thread in threading.enumerate())

    def interrupt() -> None:
        wait_for(running, 20)
        os.kill(os.getpid(), signal.SIGINT)

    threading.Thread(target=interrupt).start()
    numbers = "WITH RECURSIVE r(n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM r WHERE n < 10000000)"
    with pytest.raises(KeyboardInterrupt):
        ask_sqlite(f"{numbers} SELECT count(*) AS n FROM r").reader()
    assert running()
    wait_for(lambda: not running(), 60)


def test_a_closed_and_a_forgotten_reader_end_in_the_database(ask: Ask, postgres: PostgresServer) -> None:
    """A reader that is closed or dropped before its end does not leave its query running."""
    query = "SELECT g, 'forget me' AS x FROM generate_series(1, 20000) g, generate_series(1, 20000) h"
    reader = ask(query).reader()
    reader.read_next_batch()
    assert postgres.running("forget me")
    reader.close()
    del reader
    wait_for(lambda: not postgres.running("forget me"), 10)


def test_a_killed_process_leaves_no_query(ask: Ask, postgres: PostgresServer) -> None:
    """The query of a process that was killed with ``kill -9`` ends on the server."""
    pickled = pickle.dumps(ask(_SLOW.format("kill me")))
    program = "import pickle, sys; pickle.load(sys.stdin.buffer).reader()"
    process = subprocess.Popen([sys.executable, "-c", program], stdin=subprocess.PIPE)
    assert process.stdin is not None
    process.stdin.write(pickled)
    process.stdin.close()
    wait_for(lambda: postgres.running("kill me"), 20)
    process.send_signal(signal.SIGKILL)
    process.wait()
    wait_for(lambda: not postgres.running("kill me"), 10)
