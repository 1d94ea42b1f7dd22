"""One warehouse and several real processes, some of which are killed."""

from __future__ import annotations

import os
import pickle
import shutil
import signal
import subprocess
import sys
import time
from contextlib import contextmanager
from typing import TYPE_CHECKING

import duckdb
import pytest

from heliostat import _lease
from heliostat._cluster import driver
from heliostat._session import Session
from heliostat.context import get_active_session
from heliostat.data import DataConnector
from heliostat.exceptions import ConfigurationError, WarehouseBusyError

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

PRELUDE = """
import os, sys, time
from heliostat._session import Session
session = Session(sys.argv[1])
def say(text):
    print(text, flush=True)
    input()
"""


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """The file of a warehouse with the table ``t`` of 100,000 rows."""
    path = tmp_path / "warehouse.duckdb"
    with Session(path) as session:
        session.sql("CREATE TABLE t AS SELECT range AS i FROM range(100000)")
    return path


@contextmanager
def other(path: Path, code: str) -> Iterator[subprocess.Popen[str]]:
    """Another process that ran ``code`` up to its ``say``; killed at the end if it is still there."""
    with subprocess.Popen(
        [sys.executable, "-c", PRELUDE + code, str(path)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    ) as process:
        try:
            assert process.stdout is not None
            assert process.stdout.readline() == "here\n"
            yield process
        finally:
            process.kill()


def count(session: Session) -> int:
    """Rows of the table ``t``."""
    found = session.sql("SELECT count(*) FROM t")
    assert found is not None
    return int(found.fetchall()[0][0])


def test_an_open_session_is_in_nobody_s_way(path: Path) -> None:
    """While a process has a session, a relation and a finished result, others read and write."""
    with (
        other(
            path,
            "r = session.table('t').filter('i < 5'); r.fetchall(); say('here'); say(r.count('*').fetchall())",
        ) as first,
        Session(path) as session,
    ):
        assert count(session) == 100_000
        session.save_as_table({"i": [-1, -2]}, "t", mode="append")
        assert count(session) == 100_002
        assert first.stdin is not None
        assert first.stdout is not None
        first.stdin.write("\n")
        first.stdin.flush()
        assert first.stdout.readline() == "[(7,)]\n"  # the relation was asked again and saw what was added


def test_many_writers_lose_nothing(path: Path) -> None:
    """Processes that append and read at the same time take turns; every row arrives once."""
    code = PRELUDE + (
        "for n in range(5):\n"
        "    session.save_as_table({'i': [1]}, 't', mode='append')\n"
        "    assert session.table('t').count('*').fetchall()[0][0] > 100_000\n"
    )
    writers = [subprocess.Popen([sys.executable, "-c", code, str(path)]) for _ in range(3)]
    with Session(path) as session:
        for _ in range(5):
            session.save_as_table({"i": [1]}, "t", mode="append")
        assert [writer.wait(timeout=60) for writer in writers] == [0, 0, 0]
        assert count(session) == 100_020


@pytest.mark.parametrize(
    ("code", "purpose"),
    [
        ("session.sql('BEGIN'); session.sql('INSERT INTO t VALUES (1)'); say('here')", "read"),
        ("r = session.table('t').to_arrow_reader(1000); r.read_next_batch(); say('here')", "write"),
    ],
)
def test_who_waits_is_told_for_whom(
    path: Path, monkeypatch: pytest.MonkeyPatch, code: str, purpose: str
) -> None:
    """An open transaction or stream makes others wait, then raise with its pid; its death sets them free."""
    monkeypatch.setenv("JPY_SESSION_NAME", "/ada/flights.ipynb")
    with Session(path) as session, other(path, code) as holder:
        # What is set counts at once, for a session that is open too.
        monkeypatch.setenv("HELIOSTAT_WAREHOUSE_WAIT", "0.3")
        told = rf"to {purpose}: .* process {holder.pid} \(flights.ipynb: "
        ask = (
            session.tables if purpose == "read" else lambda: session.save_as_table({"i": [1]}, "t", "append")
        )
        with pytest.raises(WarehouseBusyError, match=told) as refused:
            ask()
        assert refused.value.pids == [holder.pid]
        if purpose == "write":
            assert count(session) == 100_000
        os.kill(holder.pid, signal.SIGKILL)
        holder.wait()
        assert count(session) == 100_000  # what was not committed is gone
        session.save_as_table({"i": [1]}, "t", mode="append")


def test_a_program_without_sessions_is_waited_for_too(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """DuckDB's own program locks the file by itself; a session waits and names it."""
    monkeypatch.setenv("HELIOSTAT_WAREHOUSE_WAIT", "0.2")
    code = f"import duckdb; c = duckdb.connect({str(path)!r}); print('here', flush=True); input()"
    with subprocess.Popen(
        [sys.executable, "-c", code], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as program:
        assert program.stdout is not None
        assert program.stdout.readline() == "here\n"
        with pytest.raises(WarehouseBusyError, match=str(program.pid)):
            Session(path)
        program.communicate("\n")
    Session(path).close()


@pytest.mark.parametrize("moment", [0.0, 0.02, 0.1])
def test_a_killed_writer_leaves_whole_statements(path: Path, moment: float) -> None:
    """However a process that writes is killed, what it had committed is there and nothing is half."""
    code = (
        "session.sql('CREATE TABLE log(n INTEGER)')\nprint('here', flush=True)\n"
        "for n in range(1, 10**6):\n"
        "    session.sql(f'INSERT INTO t SELECT -{n} FROM range(50000)')\n"
        "    session.sql(f'INSERT INTO log VALUES ({n})')\n"
    )
    with other(path, code) as writer:
        time.sleep(moment)  # the moment of death is the case
        os.kill(writer.pid, signal.SIGKILL)
        writer.wait()
    with Session(path) as session:
        logged = session.sql("SELECT coalesce(max(n), 0) FROM log")
        written = session.sql("SELECT count(*) FROM t WHERE i < 0")
        assert logged is not None
        assert written is not None
        statements, rest = divmod(written.fetchall()[0][0], 50_000)
        assert rest == 0
        assert statements - logged.fetchall()[0][0] in (0, 1)


def test_a_result_that_is_read_keeps_the_file(path: Path) -> None:
    """A stream stays whole while the session is idle, and the file is let go when it is read or dropped."""
    with Session(path) as session:
        for read in (False, True):
            reader = session.table("t").to_arrow_reader(1000)
            rows = reader.read_next_batch().num_rows
            time.sleep(_lease._IDLE_SECONDS * 1.5)  # idle for longer than the file is kept
            if read:
                assert rows + sum(batch.num_rows for batch in reader) == 100_000
            del reader
            deadline = time.monotonic() + 10
            while session._asker.lease._locked is not None:
                assert time.monotonic() < deadline
                time.sleep(0.02)
            duckdb.connect(str(path)).close()


def test_writing_under_an_unread_result_is_refused(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A session that would wait for its own stream says so."""
    monkeypatch.setenv("HELIOSTAT_WAREHOUSE_WAIT", "0.2")
    with Session(path) as session:
        session.table("t").count("*").fetchall()
        session._asker.lease.rest()
        reader = session.table("t").to_arrow_reader(1000)
        with pytest.raises(WarehouseBusyError, match="of this process is still being read"):
            session.sql("DELETE FROM t")
        del reader
        session.sql("DELETE FROM t")
        assert count(session) == 0


def test_a_half_read_stream_is_named_and_dropping_it_frees_the_session(path: Path) -> None:
    """A query beside a stream says what is in its way; reading or dropping that frees it, for writes too."""
    with Session(path) as session:
        connector = DataConnector.from_dataframe(session.table("t"))
        reader = connector.to_reader()
        first = reader.read_next_batch().num_rows
        with pytest.raises(WarehouseBusyError, match="earlier result of it is still being read"):
            session.table("t")
        assert first + sum(batch.num_rows for batch in reader) == 100_000
        reader = connector.to_reader()
        reader.read_next_batch()
        del reader
        session.sql("DELETE FROM t")
        assert count(session) == 0


def test_a_forked_process_and_a_pickle_get_a_session_of_their_own(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A session that travels to another process, by fork or pickle, opens the same warehouse there.

    Of one that is closed a forked child closes nothing: its numbers of files are used again.
    """
    monkeypatch.setenv("HELIOSTAT_WAREHOUSE", str(path))
    code = (
        "import os, pickle, sys\nfrom heliostat.context import get_active_session\n"
        "session = get_active_session()\nassert pickle.loads(pickle.dumps(session)) is session\n"
        "child = os.fork()\n"
        "if child == 0:\n"
        "    assert session.closed\n"
        "    get_active_session().save_as_table({'i': [1]}, 't', mode='append')\n"
        "    os._exit(0)\n"
        "assert os.waitpid(child, 0)[1] == 0\n"
        "print(session.table('t').count('*').fetchall())\n"
        "session.close()\n"
        "ends = [end for _ in range(8) for end in os.pipe()]\n"
        "child = os.fork()\n"
        "if child == 0:\n"
        "    [os.fstat(end) for end in ends]\n"
        "    os._exit(0)\n"
        "assert os.waitpid(child, 0)[1] == 0\n"
    )
    found = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=False, timeout=60
    )
    assert (found.stdout, found.returncode) == ("[(100001,)]\n", 0), found.stderr
    with Session(path) as session, pickle.loads(pickle.dumps(session)) as copy:
        assert copy.path == path


def test_two_sessions_in_one_process(path: Path) -> None:
    """Sessions of one warehouse in one process read together and write in turn."""
    with Session(path) as first, Session(path) as second:
        assert count(first) == count(second) == 100_000
        first.save_as_table({"i": [1]}, "t", mode="append")
        assert count(second) == 100_001


def test_tasks_of_the_runtime_have_a_session(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Tasks and actors, on each node, have the driver's session as it is now, and settings made since."""
    import ray
    from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

    from heliostat import _handle

    runtime = _handle.init(cpus=2)
    try:
        assert driver.connection() is not None
        runtime.resize(nodes=2)
        # The workers were started with another warehouse.
        monkeypatch.setenv("HELIOSTAT_WAREHOUSE", str(path))
        monkeypatch.setenv("HELIOSTAT_STAGES", f"late={path.parent}")

        def work(number: int, given: Session | None = None) -> tuple[int, str, str]:
            from heliostat._stages import open_location
            from heliostat.context import get_active_session

            session = get_active_session()
            assert given is None or given is session
            session.save_as_table({"i": [-number]}, "t", mode="append")
            found: int = session.table("t").filter(f"i = -{number}").count("*").fetchall()[0][0]
            return found, open_location("@late").path, ray.get_runtime_context().get_node_id()

        class Keeper:
            def path(self) -> str:
                from heliostat.context import get_active_session

                return str(get_active_session().path)

        task, keeper = ray.remote(num_cpus=0)(work), ray.remote(num_cpus=0)(Keeper).remote()
        with get_active_session() as session:
            below = session.table("t").filter("i < 0")
            nodes = [node.node_id for node in runtime.nodes()]
            assert len(nodes) == 2
            on_each = [
                task.options(scheduling_strategy=NodeAffinitySchedulingStrategy(node, soft=False)).remote(n)
                for n, node in enumerate(nodes, start=1)
            ]
            found = ray.get([*on_each, task.remote(3, session)], timeout=60)
            assert [each[:2] for each in found] == [(1, str(path.parent))] * 3
            assert {node for _, _, node in found[:2]} == set(nodes)
            assert sorted(below.fetchall()) == [(-3,), (-2,), (-1,)]
            assert ray.get(keeper.path.remote(), timeout=60) == str(path)
        # Changed once more: an actor that is there follows, and what one is given alone goes before.
        monkeypatch.setenv("HELIOSTAT_WAREHOUSE", str(path.with_name("other.duckdb")))
        with get_active_session() as other:
            assert ray.get(keeper.path.remote(), timeout=60) == str(other.path) != str(path)
            own = {"env_vars": {"HELIOSTAT_WAREHOUSE": str(path.with_name("own.duckdb"))}}
            third = ray.remote(num_cpus=0, runtime_env=own)(Keeper).remote()
            assert ray.get(third.path.remote(), timeout=60) == str(path.with_name("own.duckdb"))
    finally:
        _handle.shutdown()
    assert driver.connection() is None


_UNPICKLE = """
import pickle, sys
for content in pickle.load(sys.stdin.buffer):
    try:
        print(pickle.loads(content).count())
    except Exception as error:
        print(f"{type(error).__name__}: {error}")
"""


def test_another_machine_opens_no_warehouse_of_its_own(path: Path) -> None:
    """What was pickled here is refused where the same path leads elsewhere, and read where it does not."""
    apart = ["unshare", "-rm", "sh", "-c"]
    if shutil.which("unshare") is None or subprocess.run([*apart, "true"], check=False).returncode:
        pytest.skip("this machine lets nobody have mounts of their own")
    with Session(path) as session:
        few = session.table("t").filter("i < 3")
        pickled = pickle.dumps([pickle.dumps(DataConnector.from_dataframe(few)), pickle.dumps(session)])
        for mount, says in (
            (f"mount -t tmpfs tmpfs {path.parent}", f"ConfigurationError: The warehouse {path} is on "),
            ("true", "3\n"),
        ):
            told = subprocess.run(
                [*apart, f'{mount} && exec "$0" -c "$1"', sys.executable, _UNPICKLE],
                input=pickled,
                capture_output=True,
                check=True,
            ).stdout.decode()
            assert told.startswith(says)
            assert (told.count("not on this machine") == 2) == (says != "3\n")


def test_waiting_time_is_checked(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A waiting time that is no number is refused by name."""
    monkeypatch.setenv("HELIOSTAT_WAREHOUSE_WAIT", "soon")
    with pytest.raises(ConfigurationError, match="HELIOSTAT_WAREHOUSE_WAIT is 'soon'"):
        Session(path)


def test_what_is_used_of_duckdb_is_there() -> None:
    """Relations ask their connection through ``_submit``, and it may be made of a class of ours."""
    asked = []

    class Mine(duckdb.DuckDBPyConnection):
        __slots__ = ()

        def __getattribute__(self, name: str) -> object:
            asked.append(name)
            return super().__getattribute__(name)

    connection = duckdb.connect()
    connection.__class__ = Mine
    relation = connection.sql("SELECT 1 AS a").filter("a = 1")
    asked.clear()
    assert relation.fetchall() == [(1,)]
    assert relation.to_arrow_reader(10).read_all().num_rows == 1
    assert asked.count("_submit") == 2
    connection.close()
