"""``%connect``, ``%connections`` and ``%dataset`` in a plain shell."""

from __future__ import annotations

import sqlite3
from typing import TYPE_CHECKING

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from IPython.core.error import UsageError

from heliostat.exceptions import ConfigurationError, HeliostatError

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from tests.magics.support import Cells


@pytest.fixture(autouse=True)
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """Warehouse, datasets, connections and files of its own."""
    monkeypatch.setenv("HELIOSTAT_WAREHOUSE", str(tmp_path / "w.duckdb"))
    monkeypatch.setenv("HELIOSTAT_DATASETS", str(tmp_path / "datasets"))
    monkeypatch.setenv("HELIOSTAT_CONNECTIONS", str(tmp_path / "connections.json"))
    monkeypatch.chdir(tmp_path)
    pq.write_table(pa.table({"a": [1, 2, 3], "b": ["x", "y", "z"]}), "some.parquet")
    with sqlite3.connect("sales.db") as made:
        made.execute("CREATE TABLE orders (id INT)")
        made.execute("INSERT INTO orders VALUES (7)")
    made.close()
    yield tmp_path
    from heliostat.context import get_active_session

    get_active_session().close()


def rows(cells: Cells, name: str) -> object:
    """The rows of a connector in a variable."""
    return cells.shell.user_ns[name].to_arrow().to_pylist()


def test_connects_whatever_has_rows(cells: Cells) -> None:
    """Variables, files, tables, queries and databases become connectors by one verb."""
    cells.run("import pandas as pd; df = pd.DataFrame({'a': [5]})")
    cells.run("%sql CREATE SCHEMA raw; CREATE TABLE raw.t AS SELECT 6 AS a")
    cells.run("import os; os.mkdir('folder'); pd.DataFrame({'a': [9]}).to_parquet('folder/part.parquet')")
    cells.run(f"%connections add sales sqlite://{cells.run('%pwd').result}/sales.db")
    for source, expected in (
        ("df", [{"a": 5}]),
        ("some.parquet", [{"a": 1, "b": "x"}, {"a": 2, "b": "y"}, {"a": 3, "b": "z"}]),
        ("folder", [{"a": 9}]),
        ("raw.t", [{"a": 6}]),
        ('--query "SELECT 8 AS a"', [{"a": 8}]),
        ("orders --connection sales", [{"id": 7}]),
    ):
        ran = cells.run(f"%connect c {source}")
        assert ran.error is None, ran.error
        assert ran.stdout.startswith("c: ")
        assert rows(cells, "c") == expected
    assert "x" in repr(cells.run("%connect c some.parquet --show").result)
    assert cells.complete("%connect c so") == ["some.parquet"]
    assert cells.complete("%connect c d") == ["df"]
    assert cells.complete("%connect c orders --connection ") == ["sales"]


def test_passwords_stay_out_of_cells_and_outputs(cells: Cells, monkeypatch: pytest.MonkeyPatch) -> None:
    """A password on the line is refused; one that is asked for is kept and never shown."""
    refused = cells.run("%connections add db postgresql://me:hunter2@host/db")
    assert isinstance(refused.error, UsageError)
    assert "hunter2" not in str(refused.error) + refused.stdout
    monkeypatch.setattr("getpass.getpass", lambda _: "postgresql://me:hunter2@host/db")
    assert cells.run("%connections add db").stdout == "db: postgresql://me@host/db\n"
    variable = cells.run("%connections add other 'postgresql://me:${PW}@host/db'")
    assert variable.error is None, variable.error
    cells.run("%connect few some.parquet")
    listed = cells.run("%connections").result
    assert "hunter2" not in repr(listed) + listed._repr_html_()
    assert "postgresql://me@host/db" in repr(listed)
    assert "few" in repr(listed)
    assert isinstance(cells.run("%connections add db").error, ConfigurationError)
    assert cells.run("%connections remove db").error is None
    assert isinstance(cells.run("%connections test db").error, ConfigurationError)


def test_a_dataset_from_its_first_version_to_its_end(cells: Cells) -> None:
    """Versions are made from a variable and from SQL, shown, compared, read, and deleted with --yes."""
    cells.run("import pyarrow as pa; n = 1; df = pa.table({'id': [1, 2, 3], 'a': [1.0, 2.0, 3.0]})")
    assert "no datasets" in repr(cells.run("%dataset").result)
    made = cells.run("%dataset create flights v1 --from df --label a --comment 'the first'")
    assert made.error is None, made.error
    assert made.stdout.startswith("flights v1: 3 rows")
    made = cells.run(
        "%%dataset create flights v2\nSELECT id, a + (id > :n)::int AS a, 'n' AS c FROM df WHERE id < 3"
    )
    assert made.error is None, made.error
    assert "main.flights  " in repr(cells.run("%dataset list").result)
    assert "the first" in repr(cells.run("%dataset list flights").result)
    shown = repr(cells.run("%dataset show flights v1").result)
    assert "labels: a" in shown
    assert "3 rows." in shown
    compared = cells.run("%dataset compare flights v1 v2 --key id").result
    found = {row[0]: tuple(row[1:]) for row in compared.rows}
    assert found["column c"][2] == "added"
    assert found["rows"] == (3, 2, -1)
    assert found["rows only here"][:2] == (2, 1)
    assert found["keys only here"] == (1, 0, "1 changed")
    cells.run("%connect second flights@v2")
    assert rows(cells, "second") == [{"id": 1, "a": 1.0, "c": "n"}, {"id": 2, "a": 3.0, "c": "n"}]
    assert cells.complete("%dataset show fl") == ["flights"]
    assert cells.complete("%dataset show flights ") == ["v1", "v2"]
    assert cells.complete("%dataset create x y --from df --label ") == ["a", "id"]
    assert "add --yes" in cells.run("%dataset delete flights v1").stdout
    assert cells.run("%dataset delete flights v1 --yes").stdout == "Deleted v1 of flights.\n"
    assert isinstance(cells.run("%dataset show flights v1").error, HeliostatError)
    assert cells.run("%dataset delete flights --yes").error is None
    assert "no datasets" in repr(cells.run("%dataset").result)


@pytest.mark.parametrize(
    ("line", "said"),
    [
        ("%connect", "required: name"),
        ("%connect c", "needs a source"),
        ("%connect 3c df", "cannot be the name"),
        ("%connect c nope", "There is no table|does not exist|nope"),
        ("%connect c nope.parquet", "nope.parquet"),
        ("%connections add", "needs the name"),
        ("%connections list x", "takes no a name|takes no"),
        ("%dataset create", "needs NAME VERSION"),
        ("%dataset create a b", "rows from one place"),
        ("%dataset create a b --from nope", "no table in a variable 'nope'"),
        ("%dataset compare a b", "needs NAME VERSION OTHER"),
        ("%dataset list a --yes", "list takes no --yes; %dataset delete does"),
        ("%dataset shw", "invalid choice: 'shw'"),
        ("%dataset show nope", "no dataset"),
    ],
)
def test_refuses_by_name(cells: Cells, line: str, said: str) -> None:
    """What is wrong is said, and nothing is made."""
    ran = cells.run(line)
    assert isinstance(ran.error, UsageError | HeliostatError), ran.error
    assert any(each in str(ran.error) for each in said.split("|")), str(ran.error)
    assert "c" not in cells.shell.user_ns
