"""Nobody without the file permission or the token reads, runs or resizes anything."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Any

import psutil
import pytest
from tests.support.owner import Owner, wait_for

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.runtime.conftest import StartOwner

_NOBODY = 65534
needs_root = pytest.mark.skipif(os.getuid() != 0, reason="only root can become another user")

# What it needs is imported before it becomes another user, who may not be able to read it.
_STRANGER = f"""
import encodings.idna, http.client, json, os, sys
from pathlib import Path
from heliostat import _calls as calls
from heliostat._client import SupervisorClient
from heliostat._messages.resizing import ResizeRequest, ResizeTarget
from heliostat.exceptions import HeliostatError
from tests.support.raw_http import ask
directory, manifest = map(Path, sys.argv[1:3])
socket = directory / "supervisor.sock"
os.setgroups([])
os.setresgid({_NOBODY}, {_NOBODY}, {_NOBODY})
os.setresuid({_NOBODY}, {_NOBODY}, {_NOBODY})

def attempt(call):
    try:
        return ["done", repr(call())]
    except (HeliostatError, OSError) as error:
        return [type(error).__name__, str(error)]

client = SupervisorClient(socket)
target = ResizeTarget(cpus=1)
attempts = {{
    "connect": lambda: ask(socket, "GET", "/v1/runtime"),
    "status": lambda: client.ask(calls.status()),
    "resize": lambda: client.ask(calls.resize(ResizeRequest(target=target))),
    "stop": lambda: client.ask(calls.stop()),
    "token": (directory / "token").read_bytes,
    "config": (directory / "config.json").read_bytes,
    "log": (directory / "supervisor.log").read_bytes,
    "manifest": manifest.read_bytes,
    "copy": (directory / "manifest.json").read_bytes,
    "missing": lambda: ask(socket, "GET", "/v1/nothing"),
}}
print(json.dumps({{name: attempt(call) for name, call in attempts.items()}}))
"""


@pytest.fixture(scope="module")
def owner(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Owner]:
    """A runtime whose directory lies where every user can look for it."""
    base = Path(tempfile.mkdtemp(prefix="s", dir="/tmp"))
    base.chmod(0o755)
    directory = tmp_path_factory.mktemp("owner")
    owner = Owner(
        directory, "cpus=2", {"HELIOSTAT_TMPDIR": str(base), "JUPYTER_RUNTIME_DIR": str(base / "j")}
    )
    yield owner
    owner.end()
    shutil.rmtree(base)


def _manifest(owner: Owner) -> Path:
    return Path(owner.environment["JUPYTER_RUNTIME_DIR"]) / "heliostat" / f"{owner.runtime_id}.json"


def _as_stranger(owner: Owner) -> dict[str, list[str]]:
    """Try everything as another user; returns for each attempt the error's class and words."""
    command = [sys.executable, "-c", _STRANGER, str(owner.directory), str(_manifest(owner))]
    root = Path(__file__).resolve().parent.parent.parent
    done = subprocess.run(command, cwd=root, capture_output=True, text=True, check=True, timeout=60)
    found: dict[str, list[str]] = json.loads(done.stdout)
    return found


@needs_root
def test_another_user_is_kept_out(owner: Owner) -> None:
    """Another user can neither connect to the socket nor read a file, and is told why."""
    found = _as_stranger(owner)
    for name in ("status", "resize", "stop"):
        kind, words = found.pop(name)
        assert kind == "AuthenticationError"
        assert "belongs to another user" in words
    assert {kind for kind, _ in found.values()} == {"PermissionError"}
    assert owner.run("[str(runtime.status().state), runtime.status().resources.cpus]") == ["ready", 2.0]


@needs_root
def test_opened_directories_do_not_let_another_user_in(owner: Owner) -> None:
    """With directory and socket open to all, the peer's user still decides, and files stay private."""
    base = owner.directory.parent
    socket = owner.directory / "supervisor.sock"
    opened = {base: 0o755, owner.directory: 0o755, socket: 0o666, _manifest(owner).parent: 0o755}
    before = {path: path.stat().st_mode & 0o777 for path in opened}
    for path, mode in opened.items():
        path.chmod(mode)
    try:
        found = _as_stranger(owner)
    finally:
        for path, mode in before.items():
            path.chmod(mode)
    for name in ("connect", "missing"):
        kind, words = found.pop(name)
        assert kind == "done"
        assert "status=403" in words
        assert '"error":"AuthenticationError"' in words
        assert owner.runtime_id not in words
    for name in ("status", "resize", "stop"):
        assert found.pop(name) == ["AuthenticationError", "This runtime belongs to another user."]
    assert {kind for kind, _ in found.values()} == {"PermissionError"}
    assert owner.run("[str(runtime.status().state), runtime.status().resources.cpus]") == ["ready", 2.0]


_DRIVER = """
import sys
import ray
try:
    ray.init(address=sys.argv[1], log_to_driver=False)
except BaseException as error:
    print("REFUSED", type(error).__name__, error, flush=True)
else:
    print("JOINED", ray.get(ray.remote(lambda: 40 + 2).remote()), flush=True)
"""


def test_ray_refuses_drivers_without_the_token(owner: Owner, start_owner: StartOwner, tmp_path: Path) -> None:
    """A driver with no token, or with another runtime's, is refused by name; with the right one it joins."""
    wrong = start_owner("cpus=1").directory / "token"
    assert wrong.read_text() != (owner.directory / "token").read_text()
    cases = {
        "no mode, no token": {},
        "no mode, wrong token": {"RAY_AUTH_TOKEN_PATH": str(wrong)},
        "token mode, no token": {"RAY_AUTH_MODE": "token"},
        "token mode, wrong token": {"RAY_AUTH_MODE": "token", "RAY_AUTH_TOKEN_PATH": str(wrong)},
        "right token": {"RAY_AUTH_MODE": "token", "RAY_AUTH_TOKEN_PATH": str(owner.directory / "token")},
    }
    started = {name: _start_driver(owner, tmp_path, more) for name, more in cases.items()}
    said = {name: process.communicate(timeout=90)[0] for name, process in started.items()}
    assert "JOINED 42" in said.pop("right token")
    for name, words in said.items():
        assert "REFUSED" in words, name
        assert "JOINED" not in words, name
        assert re.search("InvalidAuthToken|authentication token|AuthenticationError", words), (name, words)
    assert owner.run("ray.get(ray.put(1))") == 1


def _start_driver(owner: Owner, home: Path, more: dict[str, str]) -> subprocess.Popen[str]:
    plain = {key: value for key, value in os.environ.items() if not key.startswith(("RAY_", "HELIOSTAT_"))}
    environment = {
        **plain,
        # Ray would find a token there.
        "HOME": str(home),
        "RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER": "0",
        # Seconds for which Ray's client tries again after a refusal.
        "RAY_NUM_REDIS_GET_RETRIES": "2",
        **more,
    }
    return subprocess.Popen(
        [sys.executable, "-c", _DRIVER, owner.address],
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )


def _tree(owner: Owner) -> list[psutil.Process]:
    return [psutil.Process(owner.process.pid), *(psutil.Process(p.pid) for p in owner.supervised())]


def _listening(owner: Owner) -> dict[str, list[str]]:
    found: dict[str, list[str]] = {}
    for process in _tree(owner):
        for connection in process.net_connections(kind="inet"):
            if connection.status == psutil.CONN_LISTEN:
                found.setdefault(process.name(), []).append(connection.laddr.ip)
    return found


def test_every_port_is_on_the_loopback_interface(owner: Owner) -> None:
    """With tasks, an actor and a second node at work, nothing listens beyond 127.0.0.1 and ::1."""
    owner.run("runtime.resize(make_target(nodes=2, cpus=3))")
    owner.run("class Holds:\n    def ok(self): return 1")
    owner.run("actor = ray.remote(num_cpus=1)(Holds).remote(); ray.get(actor.ok.remote())")
    owner.run("busy = [ray.remote(lambda: time.sleep(30)).remote() for _ in range(2)]")
    wait_for(lambda: owner.run("sum(n.cpus_used for n in runtime.nodes())") == 3, 30)
    found = _listening(owner)
    owner.run("[ray.cancel(task, force=True) for task in busy]; ray.kill(actor)")
    owner.run("runtime.resize(make_target(nodes=1, cpus=2))", seconds=60)
    assert {"gcs_server", "raylet"} <= set(found)
    assert any(name.startswith("ray::") for name in found), found
    # The last is 127.0.0.1 as a socket of both families spells it.
    loopback = {"127.0.0.1", "::1", "::ffff:127.0.0.1"}
    assert {address for addresses in found.values() for address in addresses} <= loopback


def test_the_token_is_where_it_belongs_and_nowhere_else(owner: Owner) -> None:
    """The token is 256 random bits, on no command line, in no message, and in no other file."""
    token = (owner.directory / "token").read_text()
    assert re.fullmatch("[0-9a-f]{64}", token)
    commands = [" ".join(process.cmdline()) for process in _tree(owner)]
    assert len(commands) >= 4
    assert not any(token in command for command in commands)
    assert token not in owner.run("import msgspec; msgspec.json.encode(runtime.status()).decode()")
    assert token not in owner.said()
    holders = [path.name for path in _files(owner) if token.encode() in path.read_bytes()]
    assert holders == ["token"]


def _files(owner: Owner) -> list[Path]:
    below = [path for path in owner.directory.rglob("*") if path.is_file() and not path.is_symlink()]
    assert any(path.name == "raylet.out" for path in below)
    return [*below, _manifest(owner)]


@pytest.mark.parametrize("trick", ["file", "symlink", "open"])
def test_a_directory_prepared_by_others(tmp_path_factory: pytest.TempPathFactory, trick: str) -> None:
    """A base that is no directory of ours is refused; one of ours that is too open is closed."""
    base = Path(tempfile.mkdtemp(prefix="t", dir="/tmp"))
    name = base / f"heliostat-{os.getuid()}"
    if trick == "file":
        name.write_text("")
    elif trick == "symlink":
        name.symlink_to(tmp_path_factory.mktemp("elsewhere"))
    else:
        name.mkdir(mode=0o777)
        name.chmod(0o777)
    code = (
        "from heliostat._paths import base_directory; import sys; print(oct(base_directory().stat().st_mode))"
    )
    environment: dict[str, Any] = {**os.environ, "HELIOSTAT_TMPDIR": str(base)}
    done = subprocess.run(
        [sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=False
    )
    shutil.rmtree(base)
    if trick == "open":
        assert done.stdout.strip() == "0o40700"
    else:
        assert "ConfigurationError" in done.stderr
        assert "Set HELIOSTAT_TMPDIR" in done.stderr
