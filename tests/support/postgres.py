"""A real PostgreSQL server, private to a test run: on a socket in its own directory and on loopback."""

from __future__ import annotations

import os
import pwd
import shutil
import signal
import socket
import subprocess
import tempfile
from pathlib import Path
from typing import Any

import adbc_driver_postgresql.dbapi as adbc

PASSWORD = "p@ss/word:1"
QUOTED = "p%40ss%2Fword%3A1"


def _programs() -> Path:
    found = sorted(Path("/usr/lib/postgresql").glob("*/bin/initdb"), key=lambda p: int(p.parts[-3]))
    program = str(found[-1]) if found else shutil.which("initdb")
    assert program is not None, "PostgreSQL is not installed; scripts/setup.sh test does that"
    return Path(program).parent


class PostgresServer:
    """A server with one user, ``tester``, whose password is ``PASSWORD``."""

    def __init__(self) -> None:
        # Not below pytest's directory: the server refuses root, and its user must get there.
        self.directory = Path(tempfile.mkdtemp(prefix="heliostat-pg-"))
        self._as_server: list[str] = []
        if os.getuid() == 0:
            user = pwd.getpwnam("nobody")
            os.chown(self.directory, user.pw_uid, user.pw_gid)
            self._as_server = [
                "setpriv",
                f"--reuid={user.pw_uid}",
                f"--regid={user.pw_gid}",
                "--clear-groups",
            ]
        self.port = _free_port()
        password = self.directory / "password"
        password.write_text(PASSWORD)
        password.chmod(0o644)
        programs, data = _programs(), self.directory / "data"
        self._run(programs / "initdb", "-D", data, "-U", "tester", "-A", "scram-sha-256", "--no-sync",
                  "--no-instructions", "--locale=C", "--encoding=UTF8", f"--pwfile={password}")  # fmt: skip
        settings = {"fsync": "off", "listen_addresses": "127.0.0.1", "port": self.port,
                    "unix_socket_directories": self.directory, "shared_buffers": "16MB"}  # fmt: skip
        options = [word for name, value in settings.items() for word in ("-c", f"{name}={value}")]
        self._log = (self.directory / "log").open("wb")
        self._process = subprocess.Popen(
            [*self._as_server, programs / "postgres", "-D", data, *options],
            stdout=self._log, stderr=self._log, cwd=self.directory,
        )  # fmt: skip
        self.uri = f"postgresql://tester:{QUOTED}@127.0.0.1:{self.port}/postgres"
        self.socket_uri = f"postgresql://tester:{QUOTED}@/postgres?host={self.directory}&port={self.port}"

    def _run(self, *command: Any) -> None:
        done = subprocess.run(
            [*self._as_server, *map(str, command)],
            capture_output=True, text=True, cwd=self.directory, check=False,
        )  # fmt: skip
        assert done.returncode == 0, done.stderr

    def is_up(self) -> bool:
        """Whether it takes connections; fails when it ended."""
        assert self._process.poll() is None, (self.directory / "log").read_text()
        try:
            adbc.connect(self.uri).close()
        except adbc.OperationalError:
            return False
        return True

    def run(self, statement: str) -> list[tuple[Any, ...]]:
        """Run one statement as ``tester`` and return its rows."""
        with adbc.connect(self.uri, autocommit=True) as connection, connection.cursor() as cursor:
            cursor.execute(statement)
            return list(cursor.fetchall()) if cursor.description else []

    def running(self, marker: str) -> int:
        """How many queries that hold ``marker`` are being run for others."""
        found = self.run(
            "SELECT count(*) FROM pg_stat_activity WHERE state = 'active'"
            f" AND pid <> pg_backend_pid() AND query LIKE '%{marker}%'"
        )
        return int(found[0][0])

    def stop(self) -> None:
        """End the server and remove its files."""
        self._process.send_signal(signal.SIGINT)
        self._process.wait(10)
        self._log.close()
        shutil.rmtree(self.directory)


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])
