"""Databases by name: where connections are kept, who can read them, and that no password is shown."""

from __future__ import annotations

import pickle
import sqlite3
import stat
import subprocess
import sys
import traceback
from typing import TYPE_CHECKING

import pytest
from tests.support.postgres import PASSWORD, QUOTED

from heliostat.connections import add, connect, connections, remove
from heliostat.exceptions import ConfigurationError

if TYPE_CHECKING:
    from pathlib import Path

    from tests.support.postgres import PostgresServer


@pytest.fixture(autouse=True)
def store(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Keep connections in a file of this test alone."""
    path = tmp_path / "private" / "connections.json"
    monkeypatch.setenv("HELIOSTAT_CONNECTIONS", str(path))
    return path


def test_a_kept_connection_is_private_and_shows_no_password(store: Path) -> None:
    """The file is its owner's alone, and no text about a connection holds the password."""
    added = add("Sales", "postgresql://ann:tops3cret@db.example/sales?sslpassword=hid")
    assert stat.S_IMODE(store.stat().st_mode) == 0o600
    found = connections()["sales"]
    assert found.shown == "postgresql://ann@db.example/sales"
    assert found.kind == "postgresql"
    for text in (repr(found), repr(added), str(connections()), found.shown):
        assert "tops3cret" not in text
        assert "hid" not in text
    assert pickle.loads(pickle.dumps(found)) == found
    remove("sales")
    assert connections() == {}


def test_connections_of_the_environment_go_first(monkeypatch: pytest.MonkeyPatch) -> None:
    """A variable names a connection, and goes before one that is kept."""
    add("sales", "sqlite:///kept.db")
    monkeypatch.setenv("HELIOSTAT_CONNECTION_SALES", "sqlite:///elsewhere.db")
    found = connections()["sales"]
    assert (found.shown, found.origin) == ("sqlite:///elsewhere.db", "HELIOSTAT_CONNECTION_SALES")


@pytest.mark.parametrize(
    ("name", "uri", "says"),
    [
        ("9lives", "sqlite:a.db", "cannot be the name"),
        ("a b", "sqlite:a.db", "cannot be the name"),
        ("db", "mysql://root:tops3cret@h/d", "mysql:"),
        ("db", "postgresql://u:tops3cret/x@h/d", "Percent-encode"),
        ("db", "sqlite:", "names no SQLite file"),
        ("db", "tops3cret", "without a scheme"),
    ],
)
def test_what_cannot_be_a_connection_is_refused(store: Path, name: str, uri: str, says: str) -> None:
    """A bad name or URI is refused before anything is kept, and the URI is not quoted."""
    with pytest.raises(ConfigurationError) as refused:
        add(name, uri)
    assert says in str(refused.value)
    assert "tops3cret" not in str(refused.value)
    assert not store.exists()


def test_a_name_is_not_taken_twice() -> None:
    """A second connection of a name is refused unless it is to replace the first."""
    add("db", "sqlite:one.db")
    with pytest.raises(ConfigurationError, match="already"):
        add("DB", "sqlite:two.db")
    add("db", "sqlite:///two.db", replace=True)
    assert connections()["db"].shown == "sqlite:///two.db"
    with pytest.raises(ConfigurationError, match=r"no connection 'other'.*Connections: db"):
        connect("other")


@pytest.mark.parametrize("content", ["{", "[1]", '{"a": 1}'])
def test_a_file_that_is_not_ours_is_refused(store: Path, content: str) -> None:
    """A file that others can read, or that holds something else, is refused and left alone."""
    store.parent.mkdir()
    store.write_text(content)
    store.chmod(0o644)
    with pytest.raises(ConfigurationError, match="chmod 600"):
        connections()
    store.chmod(0o600)
    with pytest.raises(ConfigurationError, match="Repair or remove"):
        add("db", "sqlite:a.db")
    assert store.read_text() == content


def test_two_processes_that_add_lose_nothing(store: Path) -> None:
    """Connections added by several processes at once are all kept."""
    program = "import sys; from heliostat.connections import add; add('c' + sys.argv[1], 'sqlite:a.db')"
    started = [subprocess.Popen([sys.executable, "-c", program, str(index)]) for index in range(4)]
    assert [process.wait(60) for process in started] == [0] * 4
    assert store.exists()
    assert list(connections()) == ["c0", "c1", "c2", "c3"]


def test_sqlite_opens_what_is_there(tmp_path: Path) -> None:
    """A file that is there is opened; one that is not is an error, and is not made."""
    path = tmp_path / "a.db"
    with pytest.raises(ConfigurationError, match="no such file"):
        connect(f"sqlite://{path}")
    assert not path.exists()
    with sqlite3.connect(path) as made:
        made.execute("CREATE TABLE t AS SELECT 7 AS x")
    made.close()
    with connect(f"sqlite://{path}") as opened, opened.cursor() as cursor:
        cursor.execute("SELECT x FROM t")
        assert cursor.fetchall() == [(7,)]


def test_postgresql_opens_over_socket_and_loopback(
    postgres: PostgresServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A connection opens by name, with its password from the environment, by TCP and by socket."""
    monkeypatch.setenv("PG_WORD", PASSWORD)
    for uri in (postgres.uri, postgres.socket_uri):
        add("db", uri.replace(QUOTED, "${PG_WORD}"), replace=True)
        with connect("db") as opened, opened.cursor() as cursor:
            cursor.execute("SELECT current_user")
            assert cursor.fetchall() == [("tester",)]
    monkeypatch.delenv("PG_WORD")
    with pytest.raises(ConfigurationError, match="PG_WORD"):
        connect("db")


def test_a_wrong_password_is_told_and_not_shown(postgres: PostgresServer) -> None:
    """The error says that the password is wrong, and neither it nor its traceback holds it."""
    uri = postgres.uri.replace(QUOTED, "tops3cret%2F1")
    with pytest.raises(ConfigurationError, match="password authentication failed") as refused:
        connect(uri)
    shown = "".join(traceback.format_exception(refused.value)) + repr(refused.value.fields)
    for secret in ("tops3cret/1", "tops3cret%2F1"):
        assert secret not in shown
    assert "127.0.0.1" in str(refused.value)
