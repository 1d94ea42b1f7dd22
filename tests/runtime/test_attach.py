"""Attaching to a cluster that somebody else booted: used when it lets us, never ended.

The foreign cluster belongs to a process of its own, with a directory and a token of its own.
"""

from __future__ import annotations

import shutil
import socket
import tempfile
import threading
import time
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from tests.support.owner import Failed, Owner, wait_for

from heliostat._supervisor.processes import MARK, marked_with

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.runtime.conftest import StartOwner

_TOKEN = "f" * 64
_BOOT = """
from pathlib import Path
import ray
from heliostat._cluster import slim
slim.LOOPBACK = ray.util.get_node_ip_address()
node = slim.boot_head(slim.NodeShape(2, object_store_bytes=100 << 20), Path({directory!r}), "s", print)
ray.init(node.gcs_address, namespace="theirs", log_to_driver=False)
class Counter:
    def __init__(self):
        self.count = 0
    def add(self):
        self.count += 1
        return self.count
counter = ray.remote(num_cpus=0)(Counter).options(name="counter", lifetime="detached").remote()
ray.get(counter.add.remote())
"""
_USE = (
    "import ray\n"
    "theirs = ray.get_actor('counter', namespace='theirs')\n"
    "[ray.get(ray.remote(lambda: 40 + 2).remote()), ray.get(theirs.add.remote()) > 1]"
)


class Foreign:
    """A living cluster with an actor that counts, and files with a right and a wrong token."""

    def __init__(self, mode: str) -> None:
        # Short, since Ray's sockets lie below it.
        self.directory = Path(tempfile.mkdtemp(prefix="f", dir="/tmp"))
        self.token, self.wrong_token = self.directory / "token", self.directory / "wrong"
        self.token.write_text(_TOKEN)
        self.wrong_token.write_text("0" * 64)
        self._mark = self.directory.name
        environment = {"RAY_AUTH_MODE": mode, MARK: self._mark}
        if mode == "token":
            environment["RAY_AUTH_TOKEN_PATH"] = str(self.token)
        self._process = Owner(self.directory, "none", environment)
        self._process.run(_BOOT.format(directory=str(self.directory / "r")), seconds=90)
        self.address: str = self._process.run("node.gcs_address")

    def count(self) -> int:
        """Ask the foreign actor, which fails if it or the cluster is gone."""
        found: int = self._process.run("ray.get(counter.add.remote(), timeout=20)")
        return found

    def actors(self) -> int:
        """How many actors live there, of whomever."""
        found: int = self._process.run(
            "from ray._private.state import actors; sum(a['State'] == 'ALIVE' for a in actors().values())"
        )
        return found

    def end(self) -> None:
        """Take it down with all its processes and files."""
        self._process.run("ray.shutdown(); node.kill_all_processes(check_alive=False)")
        self._process.end()
        for process in marked_with([self._mark]):
            process.kill()
        # Its processes write logs as long as they live.
        wait_for(lambda: not marked_with([self._mark]), 10)
        shutil.rmtree(self.directory)


@pytest.fixture(scope="module")
def foreign() -> Iterator[Foreign]:
    """A cluster that asks for a token."""
    cluster = Foreign("token")
    yield cluster
    cluster.end()


@pytest.fixture(scope="module")
def open_cluster() -> Iterator[Foreign]:
    """A cluster that asks for none."""
    cluster = Foreign("disabled")
    yield cluster
    cluster.end()


def test_attach_with_the_token(foreign: Foreign, start_owner: StartOwner) -> None:
    """With the token the cluster is used as it is; it is not resized, and stop() leaves it running."""
    before = foreign.count()
    owner = start_owner(f"{foreign.address!r}", RAY_AUTH_TOKEN_PATH=str(foreign.token))
    assert owner.run(_USE) == [42, True]
    state, provider, address, cpus = owner.run(
        "s = runtime.status(); [s.state, s.provider, s.address, s.resources.cpus]"
    )
    assert (state, provider, address, cpus) == ("ready", "attached", foreign.address, 2.0)
    assert owner.run("len(runtime.nodes())") == 1
    for call in ("plan(make_target(cpus=1))", "resize(make_target(nodes=2))", "cancel_resize()"):
        with pytest.raises(
            Failed, match=r"Heliostat did not start\. Resize the cluster where it was"
        ) as failed:
            owner.run(f"runtime.{call}")
        assert failed.value.name == "ResizeError"
    left = owner.supervised()
    owner.run("runtime.stop()")
    wait_for(lambda: not any(process.alive() for process in left), 5)
    assert not owner.directory.exists()
    assert foreign.count() == before + 2
    assert foreign.actors() == 1


def test_the_address_may_come_from_the_environment(open_cluster: Foreign, start_owner: StartOwner) -> None:
    """HELIOSTAT_ADDRESS attaches without a line of code, here to a cluster without a token."""
    port = open_cluster.address.rpartition(":")[2]
    owner = start_owner("", HELIOSTAT_ADDRESS=f"127.0.0.1:{port}")
    assert owner.run("str(runtime.status().provider)") == "attached"
    assert owner.run(_USE) == [42, True]


def test_a_restart_attaches_again(open_cluster: Foreign, start_owner: StartOwner) -> None:
    """Restarting an attached runtime joins the same living cluster once more."""
    owner = start_owner(f"{open_cluster.address!r}")
    before = open_cluster.count()
    owner.run("runtime.restart()", seconds=90)
    assert owner.run(_USE) == [42, True]
    assert open_cluster.count() == before + 2


def test_killed_owner_leaves_the_cluster(foreign: Foreign, start_owner: StartOwner) -> None:
    """Kill -9 of the owner ends its own actor and its supervisor, and nothing of the cluster."""
    owner = start_owner(f"{foreign.address!r}", RAY_AUTH_TOKEN_PATH=str(foreign.token))
    owner.run("class Own:\n    def ok(self): return 1")
    owner.run("import ray; own = ray.remote(num_cpus=0)(Own).remote(); ray.get(own.ok.remote())")
    assert foreign.actors() == 2
    before = foreign.count()
    left = owner.supervised()
    owner.kill()
    wait_for(lambda: not any(process.alive() for process in left), 10)
    wait_for(lambda: foreign.actors() == 1, 10)
    assert foreign.count() == before + 1


@pytest.mark.parametrize(
    ("given", "says"),
    [
        (None, "asks for a token and none is given. Set RAY_AUTH_TOKEN_PATH"),
        ("wrong", "refuses our token. Set RAY_AUTH_TOKEN_PATH"),
        ("missing", "is not there or cannot be read. Set RAY_AUTH_TOKEN_PATH"),
    ],
)
def test_without_the_token_the_cluster_refuses(
    foreign: Foreign, start_owner: StartOwner, tmp_path: Path, given: str | None, says: str
) -> None:
    """No token, a wrong one or a missing file: an AuthenticationError that says what to set, at once."""
    # Ray would find a token in the home directory.
    environment = {"HOME": str(tmp_path)}
    if given is not None:
        environment["RAY_AUTH_TOKEN_PATH"] = str(foreign.directory / given)
    owner = start_owner("none", **environment)
    began = time.monotonic()
    with pytest.raises(Failed) as failed:
        owner.run(f"_handle.init({foreign.address!r})")
    assert time.monotonic() - began < 10
    assert failed.value.name == "AuthenticationError"
    assert says in failed.value.message
    assert foreign.count() > 0


def test_the_token_may_be_in_the_environment(foreign: Foreign, start_owner: StartOwner) -> None:
    """A token in RAY_AUTH_TOKEN itself serves as well as one in a file."""
    owner = start_owner(f"{foreign.address!r}", RAY_AUTH_TOKEN=_TOKEN)
    assert owner.run(_USE) == [42, True]


def test_attach_after_a_local_runtime(open_cluster: Foreign, start_owner: StartOwner) -> None:
    """A process that had a local runtime attaches as if it never had one, and can go back."""
    owner = start_owner("cpus=1")
    owner.run("_handle.shutdown()")
    owner.run(f"runtime = _handle.init({open_cluster.address!r})", seconds=60)
    assert owner.run(_USE) == [42, True]
    owner.run("_handle.shutdown()")
    assert owner.run("runtime = _handle.init(cpus=1); ray.get(ray.remote(lambda: 1).remote())") == 1
    assert owner.run("str(runtime.status().provider)") == "local"


def test_a_loopback_cluster_says_that_it_cannot_be_joined(start_owner: StartOwner) -> None:
    """Another runtime's own Ray, bound to 127.0.0.1, is refused with a sentence, not waited for."""
    theirs, ours = start_owner("cpus=1"), None
    ours = start_owner("none", RAY_AUTH_TOKEN_PATH=str(theirs.directory / "token"))
    began = time.monotonic()
    with pytest.raises(Failed) as failed:
        ours.run(f"_handle.init({theirs.address!r})")
    assert time.monotonic() - began < 20
    assert failed.value.name in ("BootError", "AuthenticationError")
    assert theirs.run("ray.get(ray.put(1))") == 1


def test_a_listener_that_is_not_ray(start_owner: StartOwner) -> None:
    """Something else behind the port: a BootError that says so, in bounded time."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        accepted: list[socket.socket] = []

        def accept() -> None:
            try:
                while True:
                    accepted.append(server.accept()[0])
            except OSError:
                return

        threading.Thread(target=accept, daemon=True).start()
        address = f"127.0.0.1:{server.getsockname()[1]}"
        owner = start_owner("none")
        began = time.monotonic()
        with pytest.raises(Failed) as failed:
            owner.run(f"_handle.init({address!r})")
        assert time.monotonic() - began < 30
        assert failed.value.name == "BootError"
        assert f"What listens at {address} is no Ray cluster" in failed.value.message
        assert owner.run("str(_handle.current().status().state)") == "failed"
        assert accepted, "it was asked"
        for connection in accepted:
            connection.close()
