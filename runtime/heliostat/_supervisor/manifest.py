"""Manifest files: one per runtime, so that others find it and the next start can clean up."""

from __future__ import annotations

import logging
import os
import time
from pathlib import Path
from typing import TYPE_CHECKING

import msgspec

from heliostat._messages.runtime import Manifest, Owner
from heliostat._paths import base_directory, manifest_directory, write_private
from heliostat._supervisor.config import SOCKET
from heliostat._supervisor.processes import Identity, machine_id

if TYPE_CHECKING:
    from heliostat._supervisor.config import SupervisorConfig

COPY = "manifest.json"
"""Name of the manifest's second copy, in the runtime's own directory."""
_log = logging.getLogger(__name__)


def manifest_path(runtime_id: str) -> Path:
    """Return the path of a runtime's manifest, whether it exists or not."""
    return manifest_directory() / f"{runtime_id}.json"


def own_manifest(config: SupervisorConfig) -> Manifest:
    """Make the manifest of the runtime that this process supervises."""
    me = Identity.of(os.getpid())
    started = me.started_at if me is not None else time.time()
    return Manifest(
        runtime_id=config.runtime_id,
        version=1,
        owner=config.owner,
        supervisor=Owner(pid=os.getpid(), started_at=started),
        socket=str(config.path / SOCKET),
        directory=config.directory,
        provider=config.provider,
        created_at=time.time(),
        machine=config.machine,
    )


def write_manifest(manifest: Manifest) -> None:
    """Write the manifest (mode 0600) where Jupyter looks, and into the runtime's directory.

    The second copy finds the directory again when Jupyter's directory was another one.
    """
    content = msgspec.json.encode(manifest)
    write_private(manifest_path(manifest.runtime_id), content)
    write_private(Path(manifest.directory) / COPY, content)


def remove_manifest(runtime_id: str) -> None:
    """Forget a runtime. Harmless when there is no manifest."""
    (manifest_directory(make=False) / f"{runtime_id}.json").unlink(missing_ok=True)


def read_manifest(path: Path) -> Manifest | None:
    """Read one manifest; ``None`` for a file that is not one, which is left where it is."""
    try:
        manifest = msgspec.json.decode(path.read_bytes(), type=Manifest)
    except FileNotFoundError:
        return None
    except (OSError, msgspec.MsgspecError) as error:
        _log.warning(
            "%s is not a manifest and is left alone; delete it if you do not know it: %s", path, error
        )
        return None
    # The id becomes a file name and the mark of processes that are ended.
    if not (manifest.runtime_id.isascii() and manifest.runtime_id.isalnum()):
        _log.warning("%s is not a manifest and is left alone: its runtime id is not one of ours", path)
        return None
    return manifest


def all_manifests() -> list[Manifest]:
    """Every readable manifest of this user, of living and of dead runtimes."""
    paths = [*base_directory(make=False).glob(f"*/{COPY}"), *manifest_directory(make=False).glob("*.json")]
    manifests = (read_manifest(path) for path in sorted(paths))
    return list({manifest.runtime_id: manifest for manifest in manifests if manifest is not None}.values())


def is_elsewhere(machine: str) -> bool:
    """Whether a runtime of ``machine`` may live where this process cannot see it.

    Not so after a reboot of this very host: then whatever ran before is gone.
    """
    host, boot, _ = (*machine.split(" "), "", "", "")[:3]
    here, this_boot, _ = (*machine_id().split(" "), "", "", "")[:3]
    rebooted = host == here and boot != this_boot
    return machine != machine_id() and not rebooted


def is_live(manifest: Manifest) -> bool:
    """Whether the supervisor that wrote the manifest still runs, on this machine."""
    if manifest.machine != machine_id():
        return False
    return Identity(manifest.supervisor.pid, manifest.supervisor.started_at).alive()


def dead_manifests() -> list[Manifest]:
    """Return the manifests of runtimes that are certainly dead."""
    return [m for m in all_manifests() if not is_elsewhere(m.machine) and not is_live(m)]


def list_manifests() -> list[Manifest]:
    """Return the manifests of living runtimes, oldest first."""
    return sorted((m for m in all_manifests() if is_live(m)), key=lambda m: m.created_at)
