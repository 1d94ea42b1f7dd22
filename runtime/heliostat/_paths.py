"""Where runtimes keep their files, and that nobody else can read them.

Each runtime has one private directory (mode 0700) below ``<tmp>/heliostat-<uid>``: its socket,
its token, its log and Ray's session lie there, and all of it is removed at the end. The path
is short on purpose: a Unix socket's path must stay under 108 bytes and Ray adds about 60. The
manifest alone lies in Jupyter's runtime directory, where the server looks for it.
"""

from __future__ import annotations

import os
import stat
import sys
import tempfile
from pathlib import Path

from heliostat._settings import setting
from heliostat.exceptions import ConfigurationError

LONGEST_ROOT = 20
"""Bytes that the directory above ours may have; the names of Ray's sockets take the rest of 108."""


def base_directory(*, make: bool = True) -> Path:
    """Return the private directory of this user's runtimes, made if it is missing.

    Raises
    ------
    ConfigurationError
        It cannot be made, or it belongs to somebody else.
    """
    chosen = os.environ.get("HELIOSTAT_TMPDIR") or tempfile.gettempdir()
    if len(os.fsencode(chosen)) > LONGEST_ROOT:
        if os.environ.get("HELIOSTAT_TMPDIR"):
            message = f"HELIOSTAT_TMPDIR is too long for Unix sockets: {chosen}."
            raise ConfigurationError(message, f"Use a path of at most {LONGEST_ROOT} bytes.")
        chosen = "/tmp"  # noqa: S108 - made private below
    path = Path(chosen).absolute() / f"heliostat-{os.getuid()}"
    if not make:
        return path
    try:
        path.mkdir(mode=0o700, exist_ok=True)
    except OSError as error:
        message = f"Heliostat cannot make its directory {path}: {error.strerror}."
        raise ConfigurationError(message, "Set HELIOSTAT_TMPDIR to a short path that is writable.") from error
    _require_private(path)
    return path


def _require_private(path: Path) -> None:
    found = path.lstat()
    if not stat.S_ISDIR(found.st_mode) or found.st_uid != os.getuid():
        message = f"{path} is not a directory of yours: somebody else made it."
        raise ConfigurationError(message, "Set HELIOSTAT_TMPDIR to a directory of your own.")
    if stat.S_IMODE(found.st_mode) & 0o077:
        path.chmod(0o700)


def data_directory() -> Path:
    """Return the directory of what the user keeps: tables, datasets, stages. It is not made."""
    base = setting("XDG_DATA_HOME")
    if base:
        return Path(base) / "heliostat"
    if sys.platform == "darwin":
        return Path.home() / "Library" / "Application Support" / "heliostat"
    return Path.home() / ".local" / "share" / "heliostat"


def manifest_directory(*, make: bool = True) -> Path:
    """Return the directory of the manifests, made if it is missing.

    Raises
    ------
    ConfigurationError
        It cannot be made: the home directory is read-only, for example.
    """
    from jupyter_core.paths import jupyter_runtime_dir

    path = Path(jupyter_runtime_dir()) / "heliostat"
    if not make:
        return path
    try:
        path.mkdir(mode=0o700, parents=True, exist_ok=True)
        _require_private(path)
        # A full disk says so only when something is written.
        probe = path / f".{os.getpid()}"
        write_private(probe, b"x")
        probe.unlink()
    except OSError as error:
        message = f"Heliostat cannot write to Jupyter's runtime directory {path.parent}: {error.strerror}."
        raise ConfigurationError(
            message, "Set JUPYTER_RUNTIME_DIR to a directory that is writable."
        ) from error
    return path


def write_private(path: Path, content: bytes) -> None:
    """Write a file that only its owner can read, in one step: whole or not at all."""
    written = path.with_name(f".{path.name}.{os.getpid()}")
    descriptor = os.open(written, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
    try:
        with os.fdopen(descriptor, "wb") as file:
            file.write(content)
        written.replace(path)
    except OSError:
        written.unlink(missing_ok=True)
        raise
