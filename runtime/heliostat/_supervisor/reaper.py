"""Clean up what a runtime left that could not do it itself.

A supervisor takes everything down when it ends. Killed with ``kill -9`` it cannot: Ray's
daemons die with it, but a daemon that user code started, the session directory, its shared
memory and the manifest stay. The next start and ``heliostat reap`` find them by the manifest.
"""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import TYPE_CHECKING

import msgspec

from heliostat._paths import base_directory
from heliostat._supervisor.config import FILE, read_config
from heliostat._supervisor.manifest import COPY, dead_manifests, is_elsewhere, remove_manifest
from heliostat._supervisor.processes import Identity, marked_with

if TYPE_CHECKING:
    from heliostat._messages.runtime import Manifest


def reap() -> list[str]:
    """Clean up after every runtime of this user whose supervisor is dead.

    Returns a sentence for each thing done. Living runtimes are not touched.
    """
    return [sentence for manifest in dead_manifests() for sentence in reap_one(manifest)] + _remove_unborn()


def _remove_unborn() -> list[str]:
    """Remove directories of supervisors that never came to write a manifest."""
    done = []
    for path in base_directory().glob(f"*/{FILE}"):
        directory = path.parent
        try:
            config = read_config(directory)
        except (OSError, msgspec.MsgspecError):
            continue
        owner = Identity(config.owner.pid, config.owner.started_at)
        if not ((directory / COPY).exists() or is_elsewhere(config.machine) or owner.alive()):
            remove_directory(directory)
            done.append(f"Removed {directory}, whose runtime never started.")
    return done


def reap_one(manifest: Manifest) -> list[str]:
    """Clean up after one dead runtime."""
    done = []
    left = marked_with([manifest.runtime_id])
    for process in left:
        process.kill()
    if left:
        done.append(f"Ended {len(left)} process(es) of runtime {manifest.runtime_id}.")
    directory = Path(manifest.directory)
    if _is_ours(directory) and directory.exists():
        remove_directory(directory)
        done.append(f"Removed {directory}.")
    remove_manifest(manifest.runtime_id)
    done.append(
        f"Forgot runtime {manifest.runtime_id}, whose supervisor (pid {manifest.supervisor.pid}) is dead."
    )
    return done


def _is_ours(directory: Path) -> bool:
    """A manifest is a file that anybody may have edited: remove only below our own base."""
    below = directory.parent == base_directory() and directory.name != ".."
    return below and not directory.is_symlink()


def remove_directory(directory: Path) -> None:
    """Remove a runtime's directory, also while a dying process still writes to it."""
    for _ in range(3):
        shutil.rmtree(directory, ignore_errors=True)
        if not directory.exists():
            return
