"""Start a supervisor for this process: make its directory, write its configuration, spawn it."""

from __future__ import annotations

import os
import secrets
import shutil
import subprocess
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from heliostat import _owner
from heliostat._messages.runtime import Owner
from heliostat._paths import base_directory, manifest_directory, write_private
from heliostat._supervisor.config import LOG, TOKEN, SupervisorConfig
from heliostat._supervisor.processes import Identity, machine_id
from heliostat.exceptions import BootError

if TYPE_CHECKING:
    from heliostat._messages.resizing import ResizeTarget


@dataclass(frozen=True)
class Launched:
    """A supervisor that was spawned; it may still be on its way up."""

    config: SupervisorConfig
    process: subprocess.Popen[bytes]


def launch(target: ResizeTarget, address: str | None) -> Launched:
    """Spawn a supervisor that belongs to this process, and return without waiting for it.

    Raises
    ------
    ConfigurationError
        A directory that is needed cannot be made.
    BootError
        The process could not be started.
    """
    base, _ = base_directory(), manifest_directory()
    me = Identity.of(os.getpid())
    if me is None:
        message = "This process cannot be found in the process table."
        raise BootError(message)
    directory: Path | None = None
    try:
        directory = Path(tempfile.mkdtemp(prefix="", dir=base))
        write_private(directory / TOKEN, secrets.token_hex(32).encode())
        token = _foreign_token(base) if address is not None else None
        config = SupervisorConfig(
            runtime_id=secrets.token_hex(4),
            directory=str(directory),
            machine=machine_id(),
            owner=Owner(pid=me.pid, started_at=me.started_at, kernel_id=_owner.kernel_id),
            target=target,
            address=address,
            token_path=token,
        )
        config.write()
        return Launched(config, _spawn(directory))
    except OSError as error:
        if directory is not None:
            shutil.rmtree(directory, ignore_errors=True)
        message = f"The runtime's supervisor could not be started in {base}: {error.strerror or error}."
        raise BootError(message, "Check that the disk is not full; heliostat doctor tells more.") from error


def _foreign_token(base: Path) -> str | None:
    """Return the user's token file; not the one that an earlier runtime of ours has set."""
    given = os.environ.get("RAY_AUTH_TOKEN_PATH")
    return None if given is None or Path(given).is_relative_to(base) else given


def _spawn(directory: Path) -> subprocess.Popen[bytes]:
    # -P: the working directory is "/", which must not lead the module path.
    command = [sys.executable, "-P", "-Xfrozen_modules=on", "-m", "heliostat._supervisor", str(directory)]
    descriptor = os.open(directory / LOG, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
    try:
        # A session of its own: an interrupt or a kernel's clean-up of its process group is not for it.
        return subprocess.Popen(
            command,
            stdin=subprocess.DEVNULL,
            stdout=descriptor,
            stderr=descriptor,
            start_new_session=True,
            cwd="/",
            env=_environment(),
        )
    finally:
        os.close(descriptor)


def _environment() -> dict[str, str]:
    """Ours, less what a kernel sets for itself and workers should not inherit."""
    environment = dict(os.environ)
    for name in ("JPY_PARENT_PID", "PYTHONSTARTUP", "MPLBACKEND"):
        environment.pop(name, None)
    # What workers print shall be there when it is printed.
    environment.setdefault("PYTHONUNBUFFERED", "1")
    return environment
