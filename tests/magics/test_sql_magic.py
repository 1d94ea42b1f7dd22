"""``%%sql`` on the session, on variables, and on databases by name."""

from __future__ import annotations

import os
import pickle
import signal
import sqlite3
import threading
import time
from typing import TYPE_CHECKING

import pyarrow as pa
import pytest
from IPython.core.error import UsageError
from tests.support.postgres import QUOTED

from heliostat import _progress as progress
from heliostat.data import DataConnector
from heliostat.exceptions import ConfigurationError, DataError, TaskCancelledError
from heliostat_magics._sql_text import bind, divide

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from tests.magics.support import Cells
    from tests.support.postgres import PostgresServer

LONG = "SELECT count(*) FROM range(20000000000) t(i) WHERE i % 7 = 3"
"""Takes many seconds, and ends: a test that fails shall not hang."""


@pytest.fixture(autouse=True)
def warehouse(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A warehouse and connections of its own."""
    monkeypatch.setenv("HELIOSTAT_WAREHOUSE", str(tmp_path / "w.duckdb"))
    monkeypatch.setenv("HELIOSTAT_CONNECTIONS", str(tmp_path / "connections.json"))
    with sqlite3.connect(tmp_path / "sales.db") as made:
        made.execute("CREATE TABLE orders (id INT, what TEXT)")
        made.executemany("INSERT INTO orders VALUES (?, ?)", [(i, f"thing {i}") for i in range(30)])
    made.close()
    monkeypatch.setenv("HELIOSTAT_CONNECTION_SALES", f"sqlite://{tmp_path}/sales.db")
    yield tmp_path
    from heliostat.context import get_active_session

    get_active_session().close()


def test_reads_variables_by_name_and_shows_the_first_rows(cells: Cells) -> None:
    """Frames of all kinds can be joined; the result is a connector that shows ten rows."""
    cells.run("import pandas as pd, polars as pl, pyarrow as pa; n = 3")
    cells.run("df = pd.DataFrame({'a': range(20)}); p = pl.DataFrame({'a': [3, 4, 19]}); t = pa.table(df)")
    ran = cells.run("%%sql\nSELECT a, df.a + :n AS b FROM df JOIN p USING (a) JOIN t USING (a) ORDER BY a")
    assert ran.error is None, ran.error
    assert isinstance(ran.result, DataConnector)
    assert ran.result.to_arrow().to_pylist() == [{"a": 3, "b": 6}, {"a": 4, "b": 7}, {"a": 19, "b": 22}]
    shown = cells.run("%sql SELECT * FROM df ORDER BY a").result._repr_mimebundle_()
    assert shown["text/plain"].splitlines()[-1] == "The first 10 rows; there are more."
    assert shown["text/html"].count("<tr>") == 11


def test_a_later_variable_of_the_same_name_changes_nothing(cells: Cells) -> None:
    """A result stays bound to the table that it was made of, and can be queried itself."""
    cells.run("import pyarrow as pa; df = pa.table({'a': [1, 2]})")
    assert cells.run("%%sql first <<\nSELECT sum(a) AS s FROM df").stdout == ""
    cells.run("df = pa.table({'a': [10]})")
    both = cells.run("%sql SELECT x.s + y.s AS z, d.a FROM first x JOIN first y USING (s), df d").result
    assert both.to_arrow().to_pylist() == [{"z": 6, "a": 10}]
    assert pickle.loads(pickle.dumps(cells.shell.user_ns["first"])).to_arrow().to_pylist() == [{"s": 3}]


def test_results_are_kept_and_shown_as_asked(cells: Cells) -> None:
    """``<<`` and ``-o`` keep and hide, ``--show`` does both, ``--type`` and ``--limit`` shape."""
    assert cells.run("%%sql -o one\nSELECT 1 AS a").result is None
    assert cells.run("%%sql two << --show --type arrow\nSELECT 2 AS a").result == pa.table(
        {"a": pa.array([2], pa.int32())}
    )
    assert cells.run("one.to_arrow().to_pylist()").result == [{"a": 1}]
    assert cells.run("%sql -n 2 --type df SELECT * FROM range(9) t(i)").result["i"].tolist() == [0, 1]
    assert cells.run("%sql -n 2 SELECT * FROM range(9) t(i)").result.count() == 2


def test_statements_change_the_session(cells: Cells) -> None:
    """Tables are made from variables, several statements run in order, temporary tables are seen."""
    cells.run("import pyarrow as pa; df = pa.table({'a': [1, 2]})")
    ran = cells.run(
        "%%sql\nCREATE TABLE q AS FROM df; CREATE TEMP TABLE tt AS SELECT 2 AS a;\nINSERT INTO q FROM df"
    )
    assert ran.stdout == "Done: 2 rows.\n"
    assert cells.run(
        "%sql SELECT count(*) AS n FROM q JOIN tt USING (a) JOIN df USING (a)"
    ).result.to_arrow()["n"].to_pylist() == [2]
    assert cells.run("%sql INSERT INTO q VALUES (7) RETURNING a").result.to_arrow()["a"].to_pylist() == [7]
    assert cells.run("%sql SELECT count(*) AS n FROM q").result.to_arrow()["n"].to_pylist() == [5]
    assert isinstance(cells.run("%sql SELECT * FROM df2").error, DataError)
    plan = cells.run("%%sql --explain\nSELECT * FROM q WHERE a = 1").stdout
    assert "Filters: a = 1" in plan


def test_values_are_bound_and_names_are_filled_in(cells: Cells) -> None:
    """``:name`` is a value whatever it holds, ``{{name}}`` is text; ``--params`` goes before variables."""
    cells.run("evil = \"x'; DROP TABLE q\"; table = 'range(4)'; p = {'evil': 'y'}")
    run = "%%sql {}\nSELECT :evil AS a, 'a:b' AS b, [1, 2][1:1] AS c, 1::int AS d FROM {{{{table}}}} -- :no"
    assert cells.run(run.format("")).result.to_arrow()["a"][0].as_py() == "x'; DROP TABLE q"
    assert cells.run(run.format("--params $p")).result.to_arrow()["a"][0].as_py() == "y"
    assert cells.run(run.format('-p {"evil": 3}')).result.count() == 4


@pytest.mark.parametrize(
    ("cell", "error", "said"),
    [
        ("%%sql nope\nSELECT 1", ConfigurationError, "no connection 'nope'"),
        ("%%sql --limt 5\nSELECT 1", UsageError, "did you mean --limit?"),
        ("%%sql -n -5\nSELECT 1", UsageError, "--limit"),
        ("%%sql\nSELECT :nope", UsageError, ":nope has no value"),
        ("%%sql\nSELECT {{nope}}", UsageError, "'nope' is undefined"),
        ("%%sql\nselct 1", DataError, "syntax error"),
        ("%%sql -p [1]\nSELECT 1", UsageError, "names and values"),
        ("%%sql -p {x}\nSELECT 1", UsageError, "not JSON"),
        ("%%sql 3x <<\nSELECT 1", UsageError, "'3x' cannot be the name"),
        ("%sql", UsageError, "needs a query"),
        ("%%sql -o a.b\nSELECT 1", UsageError, "cannot be the name of a variable"),
        ("%%sql -t pandas\nSELECT 1", UsageError, "invalid choice: 'pandas'"),
        ("%%sql --max-bytes 5\nSELECT 1", UsageError, "limits what --type loads"),
        ("%%sql --max-bytes lots -t df\nSELECT 1", UsageError, "is not an amount of memory"),
        ("%%sql -t df --max-bytes 1KiB\nSELECT * FROM range(9000)", DataError, "more than --max-bytes 1 KiB"),
        ("%%sql sales -t pl --max-bytes 10\nSELECT * FROM orders", DataError, "more than --max-bytes 10 B"),
        ("%%sql postgresql://ada:hunter2@h/db\nSELECT 1", UsageError, "password in the cell"),
        ("%connect x t --connection postgresql://ada:hunter2@h/db", UsageError, "password in the cell"),
        ("%%sql sales\nSELECT nope FROM orders", DataError, "no such column: nope"),
    ],
)
def test_refuses_by_name(cells: Cells, cell: str, error: type[Exception], said: str) -> None:
    """What is wrong is named, with what to do."""
    ran = cells.run(cell)
    assert isinstance(ran.error, error)
    assert said in str(ran.error)
    assert "hunter2" not in f"{ran.error}{ran.stdout}{ran.stderr}"


def test_the_last_query_is_kept_whatever_became_of_it(cells: Cells) -> None:
    """``_last_query`` has the SQL as it was written, where it went, how it ended, and its id in ``%jobs``."""
    cells.run("%%sql sales\nSELECT nope FROM orders")
    last = cells.shell.user_ns["_last_query"]
    assert (last.sql, last.connection, last.state) == ("SELECT nope FROM orders", "sales", "failed")
    assert "no such column: nope" in last.error
    assert last.task_id in repr(cells.run("%jobs").result)
    cells.run("n = 3")
    cells.run("%sql SELECT :n AS a")
    last = cells.shell.user_ns["_last_query"]
    assert (last.sql, last.connection, last.state, last.error) == ("SELECT :n AS a", "session", "done", "")


def test_a_dry_run_says_how_much_would_come(cells: Cells) -> None:
    """Rows, bytes and columns are estimated where the database can, and nothing is run."""
    cells.run("import pyarrow as pa; df = pa.table({'a': range(1000), 's': ['x'] * 1000}); n = 5")
    said = cells.run("%%sql --dry-run\nSELECT * FROM df WHERE a >= :n").stdout
    assert "rows of 24 bytes" in said
    assert "Columns: a int64, s string. Nothing was run." in said
    assert "does not estimate rows" in cells.run("%sql sales --dry-run SELECT * FROM orders").stdout
    assert cells.run("%sql -t df --max-bytes 1MiB SELECT * FROM df").result.shape == (1000, 2)


def test_asks_a_database_by_name(cells: Cells) -> None:
    """Values are bound there, rows come when asked for, statements change it, its plan can be seen."""
    cells.run("low = 27; names = ['x']")
    ran = cells.run("%%sql sales late <<\nSELECT * FROM orders WHERE id > :low AND id < :low + 3")
    assert (ran.error, ran.result) == (None, None)
    assert cells.run("late.to_arrow().to_pylist()").result[0] == {"id": 28, "what": "thing 28"}
    assert cells.run("%sql sales -n 3 SELECT * FROM orders").result.count() == 3
    assert cells.run("%%sql sales\nDELETE FROM orders WHERE id < :low").stdout.startswith("Done")
    assert cells.run("%sql SELECT count(*) AS n FROM late").result.to_arrow()["n"].to_pylist() == [2]
    assert "orders" in cells.run("%sql sales --explain SELECT * FROM orders").stdout
    assert "more" not in cells.run("%sql sales SELECT * FROM orders").result._repr_mimebundle_()["text/plain"]


def test_interrupt_and_cancel_end_the_query_in_duckdb(cells: Cells) -> None:
    """An interrupt raises KeyboardInterrupt at once; a cancel from outside a TaskCancelledError."""

    def later(act: Callable[[], None]) -> None:
        deadline = time.monotonic() + 10
        while not any(not t.snapshot.state.finished for t in progress.tasks()):
            assert time.monotonic() < deadline
            time.sleep(0.01)
        act()

    def interrupt() -> None:
        os.kill(os.getpid(), signal.SIGINT)

    def cancel() -> None:
        progress.tasks()[-1].cancel()

    for act, error in ((interrupt, KeyboardInterrupt), (cancel, TaskCancelledError)):
        thread = threading.Thread(target=later, args=(act,))
        thread.start()
        ran = cells.run(f"%%sql\n{LONG}")
        thread.join()
        assert isinstance(ran.error, error), ran.error
    assert cells.run("%sql SELECT 42 AS a").result.to_arrow()["a"].to_pylist() == [42]


def test_completes_connections_tables_variables_and_columns(cells: Cells) -> None:
    """Tab knows what can be read, on the line and in the cell."""
    cells.run("import pyarrow as pa; flights = pa.table({'origin': ['JFK']})")
    cells.run("%sql CREATE TABLE fleet AS SELECT 1 AS a")
    assert cells.complete("%%sql sa") == ["sales"]
    assert cells.complete("%%sql --type ") == ["arrow", "connector", "df", "pl"]
    assert cells.complete("%%sql\nSELECT * FROM fl") == ["fleet", "flights"]
    assert cells.complete("%%sql\nSELECT flights.") == ["flights.origin"]
    assert cells.complete("%%sql\nFROM flights SELECT ori") == ["origin"]
    assert cells.complete("%sql SELECT * FROM fle") == ["fleet"]


def test_the_line_is_divided_into_words_and_sql() -> None:
    """Flags, names and a connection are taken off; what is left is SQL as it was written."""
    assert divide("c name << -n 3 SELECT 'a  b' -- x", ("-n",), {"c"}.__contains__) == (
        ["c", "--out", "name", "-n", "3"],
        "SELECT 'a  b' -- x",
    )
    text, used = bind(
        "SELECT :a, ':a', \"x:a\", a::b, c[1:a], :b/*:a*/", {"a": 1, "b": 2}, lambda n, _: f"${n}"
    )
    assert text == "SELECT $1, ':a', \"x:a\", a::b, c[1:a], $2/*:a*/"
    assert used == {"a": 1, "b": 2}


def test_an_interrupt_ends_the_query_on_postgresql(
    cells: Cells, postgres: PostgresServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Values are bound there, and what is interrupted does not go on in the server."""
    monkeypatch.setenv("HELIOSTAT_CONNECTION_PG", postgres.uri)
    cells.run("n = 40; seconds = 600")
    assert cells.run("%sql pg SELECT :n::int + 2 AS a").result.to_arrow()["a"].to_pylist() == [42]

    def cancel() -> None:
        progress.tasks()[-1].cancel()

    for statement in ("SELECT pg_sleep(600)::text AS a", "CREATE TABLE x AS SELECT pg_sleep(600)::text AS a"):
        timer = threading.Timer(0.7, os.kill, (os.getpid(), signal.SIGINT))
        timer.start()
        begun = time.monotonic()
        ran = cells.run(f"%%sql pg\n{statement}")
        timer.join()
        assert isinstance(ran.error, KeyboardInterrupt), ran.error
        assert time.monotonic() - begun < 5
        last = cells.shell.user_ns["_last_query"]
        assert (last.connection, last.state) == ("pg", "interrupted")
        timer = threading.Timer(0.7, cancel)
        timer.start()
        assert isinstance(
            cells.run(f"%%sql pg\n{statement.replace('x AS', 'y AS')}").error, TaskCancelledError
        )
        timer.join()
    running = (
        "SELECT count(*) AS n FROM pg_stat_activity WHERE state = 'active' AND query LIKE '%pg_sleep(600)%'"
    )
    deadline = time.monotonic() + 10
    while cells.run(f"%sql pg {running} AND pid <> pg_backend_pid()").result.to_arrow()["n"][0].as_py():
        assert time.monotonic() < deadline
    said = cells.run("%sql pg --dry-run SELECT i FROM generate_series(1, 1000) t(i)").stdout
    assert said.startswith("About 1,000 rows of 4 bytes, 3.9 KiB. Columns: i int32.")
    assert (
        "Function Scan" in cells.run("%sql pg --explain SELECT i FROM generate_series(1, 1000) t(i)").stdout
    )
    assert cells.run("%sql pg SHOW server_encoding").result.to_arrow().to_pylist() == [
        {"server_encoding": "UTF8"}
    ]
    monkeypatch.setenv("HELIOSTAT_CONNECTION_PG", postgres.uri.replace(QUOTED, "wr0ng-s3cret"))
    ran = cells.run("%sql pg SELECT 1")
    assert isinstance(ran.error, ConfigurationError)
    assert "'pg'" in str(ran.error)
    assert "password authentication failed" in str(ran.error)
    seen = (
        f"{ran.error}{ran.stdout}{ran.stderr}{cells.shell.user_ns['_last_query']}{cells.run('%connections')}"
    )
    assert "wr0ng" not in seen
