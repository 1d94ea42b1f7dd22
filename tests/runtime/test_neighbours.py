"""Whose a process on our GPU is: found through the manifests of this user's other runtimes."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

import msgspec
from tests.support.puppet import Puppet

from heliostat._messages.cluster import Provider
from heliostat._messages.runtime import Manifest
from heliostat._supervisor.manifest import write_manifest
from heliostat._supervisor.neighbours import Neighbours
from heliostat._supervisor.processes import machine_id

if TYPE_CHECKING:
    from pathlib import Path

    import pytest


def test_a_process_is_traced_to_its_notebook(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A descendant of another runtime has that one's kernel; ours, and strangers, have none."""
    monkeypatch.setenv("JUPYTER_RUNTIME_DIR", str(tmp_path))
    with Puppet() as other, Puppet() as stranger:
        child = other.run("children.append(start('python', SLEEP))\nresult = children[-1].pid")
        manifest = Manifest(
            runtime_id="other",
            version=1,
            owner=msgspec.structs.replace(other.owner, kernel_id="k2"),
            supervisor=other.owner,
            socket="",
            directory=str(tmp_path),
            provider=Provider.LOCAL,
            created_at=1.0,
            machine=machine_id(),
        )
        write_manifest(manifest)
        neighbours = Neighbours("mine")
        assert [neighbours.kernel_of(pid) for pid in (child, other.pid)] == ["k2", "k2"]
        assert [neighbours.kernel_of(pid) for pid in (stranger.pid, os.getpid(), 1)] == [None] * 3
        assert Neighbours("other").kernel_of(child) is None
