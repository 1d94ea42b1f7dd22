"""Manifest files: one per runtime, so that others find it and the next start can clean up."""

from __future__ import annotations

import logging
from pathlib import Path

import msgspec

from heliostat._messages import Manifest
from heliostat._paths import base_directory, manifest_directory, write_private
from heliostat._supervisor.processes import Identity

MANIFEST_VERSION = 1
_log = logging.getLogger(__name__)


def manifest_path(runtime_id: str) -> Path:
    """Return the path of a runtime's manifest, whether it exists or not."""
    return manifest_directory() / f"{runtime_id}.json"


def write_manifest(manifest: Manifest) -> None:
    """Write the manifest (mode 0600) where Jupyter looks, and into the runtime's directory.

    The second copy finds the directory again when Jupyter's directory was another one.
    """
    content = msgspec.json.encode(manifest)
    write_private(manifest_path(manifest.runtime_id), content)
    write_private(Path(manifest.directory) / "manifest.json", content)


def remove_manifest(runtime_id: str) -> None:
    """Forget a runtime. Harmless when there is no manifest."""
    (manifest_directory(make=False) / f"{runtime_id}.json").unlink(missing_ok=True)


def read_manifest(path: Path) -> Manifest | None:
    """Read one manifest; ``None`` for a file that is not one, which is left where it is."""
    try:
        return msgspec.json.decode(path.read_bytes(), type=Manifest)
    except FileNotFoundError:
        return None
    except (OSError, msgspec.MsgspecError) as error:
        _log.warning("%s is not a manifest and is left alone: %s", path, error)
        return None


def all_manifests() -> list[Manifest]:
    """Every readable manifest of this user, of living and of dead runtimes."""
    paths = [*base_directory().glob("*/manifest.json"), *manifest_directory(make=False).glob("*.json")]
    manifests = (read_manifest(path) for path in sorted(paths))
    return list({manifest.runtime_id: manifest for manifest in manifests if manifest is not None}.values())


def is_live(manifest: Manifest) -> bool:
    """Whether the supervisor that wrote the manifest still runs."""
    return Identity(manifest.supervisor.pid, manifest.supervisor.started_at).alive()


def list_manifests() -> list[Manifest]:
    """Return the manifests of living runtimes, oldest first."""
    return sorted((m for m in all_manifests() if is_live(m)), key=lambda m: m.created_at)
