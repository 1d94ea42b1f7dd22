"""Attaching to a cluster that somebody else booted: used when it lets us, never ended.

The foreign cluster belongs to a process of its own, with a directory and a token of its own.
"""

from __future__ import annotations

import socket
import threading
import time
from typing import TYPE_CHECKING

import pytest
from tests.support.foreign import Foreign
from tests.support.owner import Failed, wait_for

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from tests.runtime.conftest import StartOwner

_USE = (
    "import ray\n"
    "theirs = ray.get_actor('counter', namespace='theirs')\n"
    "[ray.get(ray.remote(lambda: 40 + 2).remote()), ray.get(theirs.add.remote()) > 1]"
)


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
    owner = start_owner(f"{foreign.address!r}", RAY_AUTH_TOKEN=foreign.token.read_text())
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
