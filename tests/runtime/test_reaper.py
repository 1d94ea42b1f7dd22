"""What the reaper may and may not touch, beyond the deaths that are tried with whole runtimes."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import msgspec
import pytest

from heliostat._messages.cluster import Provider
from heliostat._messages.resizing import ResizeTarget
from heliostat._messages.runtime import Manifest, Owner
from heliostat._paths import base_directory, manifest_directory, write_private
from heliostat._supervisor.config import SupervisorConfig
from heliostat._supervisor.manifest import list_manifests, read_manifest, write_manifest
from heliostat._supervisor.processes import MARK, Identity, machine_id
from heliostat._supervisor.reaper import reap

if TYPE_CHECKING:
    from collections.abc import Iterator

_DEAD = Owner(pid=1, started_at=1.0)


@pytest.fixture(autouse=True)
def base(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """Directories of our own, so that nothing of the user's is reaped."""
    short = tempfile.mkdtemp(prefix="p", dir="/tmp")
    monkeypatch.setenv("HELIOSTAT_TMPDIR", short)
    monkeypatch.setenv("JUPYTER_RUNTIME_DIR", str(tmp_path / "jupyter"))
    yield base_directory()
    shutil.rmtree(short)


def _manifest(runtime_id: str, directory: Path, **changes: Any) -> Manifest:
    manifest = Manifest(
        machine=machine_id(),
        runtime_id=runtime_id,
        version=1,
        owner=_DEAD,
        supervisor=_DEAD,
        socket="",
        directory=str(directory),
        provider=Provider.LOCAL,
        created_at=0.0,
    )
    return msgspec.structs.replace(manifest, **changes)


def _write(manifest: Manifest, name: str) -> Path:
    path = manifest_directory() / name
    write_private(path, msgspec.json.encode(manifest))
    return path


@pytest.mark.parametrize("tail", ["..", "../precious", "sub/..", ""])
def test_a_manifest_cannot_name_its_way_out(base: Path, tail: str) -> None:
    """A directory outside of ours, however it is spelt, is not removed."""
    precious = base.parent / "precious"
    precious.mkdir()
    (base / "sub").mkdir()
    _write(_manifest("forged", Path(f"{base}/{tail}")), "forged.json")
    assert any("Forgot runtime forged" in sentence for sentence in reap())
    assert precious.is_dir()
    assert (base / "sub").is_dir()


def test_a_link_is_not_followed(base: Path, tmp_path: Path) -> None:
    """A directory of ours that is a link to another place leaves that place alone."""
    (tmp_path / "kept").mkdir()
    (base / "linked").symlink_to(tmp_path / "kept")
    _write(_manifest("linked", base / "linked"), "linked.json")
    reap()
    assert (tmp_path / "kept").is_dir()


@pytest.mark.parametrize("runtime_id", ["../../precious", "", "a b", "a/b", ".."])
def test_an_id_that_is_a_path_is_no_manifest(tmp_path: Path, runtime_id: str) -> None:
    """An id becomes a file name and a mark, so any that is not plain makes the file none of ours."""
    precious = tmp_path / "precious.json"
    precious.write_text("{}")
    path = _write(_manifest(runtime_id, tmp_path), "odd.json")
    assert read_manifest(path) is None
    assert reap() == []
    assert precious.exists()
    assert path.exists()


@pytest.mark.parametrize("content", [b"", b"{", b"[]", b"\xff", b'{"runtime_id": 5}', b"null"])
def test_malformed_manifests_are_left_alone(content: bytes) -> None:
    """A file that is not a manifest is neither read as one nor removed."""
    path = manifest_directory() / "malformed.json"
    path.write_bytes(content)
    assert read_manifest(path) is None
    assert reap() == []
    assert list_manifests() == []
    assert path.read_bytes() == content


def test_only_marked_processes_of_the_dead_are_ended(base: Path) -> None:
    """A process with the dead runtime's mark goes, one with another mark or none stays."""
    marks = {"dead": {MARK: "abcd0001"}, "other": {MARK: "abcd0002"}, "none": {}}
    sleepers = {
        name: subprocess.Popen(
            [sys.executable, "-c", "input()"], stdin=subprocess.PIPE, env={**os.environ, **more}
        )
        for name, more in marks.items()
    }
    try:
        (base / "x").mkdir()
        write_manifest(_manifest("abcd0001", base / "x"))
        assert "Ended 1 process(es) of runtime abcd0001." in reap()
        assert sleepers["dead"].wait(10) == -9
        assert sleepers["other"].poll() is None
        assert sleepers["none"].poll() is None
        assert not (base / "x").exists()
    finally:
        for sleeper in sleepers.values():
            sleeper.kill()
            sleeper.communicate()


def test_a_runtime_lives_though_the_clock_was_set(base: Path) -> None:
    """Setting the clock moves every start time by whole seconds; nothing that lives is reaped."""
    me = Identity.of(os.getpid())
    assert me is not None
    (base / "x").mkdir()
    for seconds in (0, 1, -1, 3600):
        moved = Owner(pid=me.pid, started_at=me.started_at + seconds)
        write_manifest(_manifest("abcd0003", base / "x", supervisor=moved))
        assert reap() == []
        assert [manifest.runtime_id for manifest in list_manifests()] == ["abcd0003"]
    for distance in (0.3, -0.05, 864000.0):
        assert not Identity(me.pid, me.started_at + distance).alive(), "that was another process"


def test_a_supervisor_that_never_started_leaves_nothing(base: Path) -> None:
    """A directory with a configuration and no manifest goes when its owner is gone, not before."""
    me = Identity.of(os.getpid())
    assert me is not None
    owners = {"gone": _DEAD, "here": Owner(pid=me.pid, started_at=me.started_at)}
    for name, owner in owners.items():
        (base / name).mkdir()
        SupervisorConfig(
            machine=machine_id(),
            runtime_id=name,
            directory=str(base / name),
            owner=owner,
            target=ResizeTarget(),
        ).write()
    began = time.monotonic()
    assert reap() == [f"Removed {base / 'gone'}, whose runtime never started."]
    assert time.monotonic() - began < 5
    assert not (base / "gone").exists()
    assert (base / "here").is_dir()
