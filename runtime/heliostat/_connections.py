"""Databases by name: what they are called, where they are, and a connection to each through ADBC.

Connections lie in a file that only its owner can read, or come from the environment:
``HELIOSTAT_CONNECTION_SALES`` is the URI of the connection ``sales``. ``${NAME}`` in a URI is
taken from the environment when it is opened, so that a password need not be in the file. No
password is in a ``repr``, in an error, or in the list of connections.
"""

from __future__ import annotations

import fcntl
import json
import os
import re
import stat
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from heliostat._adbc import Address, open_address
from heliostat._paths import data_directory, write_private
from heliostat.exceptions import ConfigurationError

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

__all__ = ["Connection", "add", "connect", "connections", "find", "remove"]

_FILE_VARIABLE = "HELIOSTAT_CONNECTIONS"
_URI_VARIABLE = re.compile(r"HELIOSTAT_CONNECTION_([A-Z0-9_]+)")
_NAME = re.compile(r"[a-z][a-z0-9_-]*")
_REFERENCE = re.compile(r"\$\{(\w+)\}")


@dataclass(frozen=True)
class Connection:
    """A database that can be opened by name. Picklable; a pickle holds the URI."""

    name: str
    """Empty for a URI that was given without a name."""
    uri: str = field(repr=False)
    """As it was given, with ``${NAME}`` not yet filled in."""
    origin: str = ""
    """The file or the variable that it comes from."""

    @property
    def kind(self) -> str:
        """``"postgresql"`` or ``"sqlite"``."""
        return Address.parse(self.uri).kind

    @property
    def shown(self) -> str:
        """The URI for people: without password and without its options."""
        return Address.parse(self.uri).shown

    def filled_in(self) -> Connection:
        """Return it with ``${NAME}`` replaced. Raises ConfigurationError if a variable is not set."""

        def value(match: re.Match[str]) -> str:
            found = os.environ.get(match[1])
            if found is None:
                message = f"The connection {self.name or self.shown!r} needs the variable {match[1]}."
                raise ConfigurationError(message, f"Set {match[1]} in the environment.", variable=match[1])
            from urllib.parse import quote

            return quote(found, safe="")

        return Connection(self.name, _REFERENCE.sub(value, self.uri), self.origin)

    def open(self, *, autocommit: bool = False) -> Any:
        """Open a connection of ADBC's DBAPI. Raises ConfigurationError if it cannot be opened."""
        address = Address.parse(self.filled_in().uri)
        return open_address(address, self.name or address.shown, autocommit=autocommit)


def connections() -> dict[str, Connection]:
    """Return all connections by name, sorted; the environment goes before the file.

    Raises
    ------
    ConfigurationError
        The file can be read by others, or is not one of ours.
    """
    path = _file()
    found = {name: Connection(name, uri, str(path)) for name, uri in _read(path).items()}
    for variable, uri in os.environ.items():
        if match := _URI_VARIABLE.fullmatch(variable):
            name = match[1].lower()
            found[name] = Connection(name, uri, variable)
    return dict(sorted(found.items()))


def find(name: str) -> Connection:
    """Return the connection of that name, or one for a URI.

    Raises
    ------
    ConfigurationError
        There is none of that name; or the URI is not one of a database that is known.
    """
    if ":" in name:
        Address.parse(name)
        return Connection("", name)
    known = connections()
    connection = known.get(name.lower())
    if connection is None:
        listed = ", ".join(known) or "none"
        message = f"There is no connection {name!r}."
        action = f"Connections: {listed}. Add one with heliostat.connections.add({name!r}, uri)."
        raise ConfigurationError(message, action, connection=name)
    return connection


def connect(name: str, *, autocommit: bool = False) -> Any:
    """Open a database by name or URI.

    Parameters
    ----------
    name:
        Name of a connection, or ``postgresql://user@host/database`` or ``sqlite:///path``.
    autocommit:
        Keep each statement at once, instead of at ``commit()``.

    Returns
    -------
    Any
        Connection of ADBC's DBAPI: ``cursor()``, ``commit()``, ``close()``, usable in ``with``.

    Raises
    ------
    ConfigurationError
        The name is not known, or the database refuses or cannot be reached.
    MissingDependencyError
        The driver is not installed.
    """
    return find(name).open(autocommit=autocommit)


def add(name: str, uri: str, *, replace: bool = False) -> Connection:
    """Keep a connection in the file of connections, which only its owner can read.

    Nothing is opened. Raises ConfigurationError if the name or the URI cannot be used, or the name
    is taken and ``replace`` is false.
    """
    folded = name.lower()
    if not _NAME.fullmatch(folded):
        message = f"{name!r} cannot be the name of a connection."
        raise ConfigurationError(message, "Begin with a letter; use letters, digits, '_' and '-'.")
    Address.parse(uri)
    with _changing() as (path, kept):
        if folded in kept and not replace:
            message = f"There is a connection {folded!r} already."
            raise ConfigurationError(message, "Pass replace=True, or use another name.", connection=folded)
        kept[folded] = uri
    return Connection(folded, uri, str(path))


def remove(name: str) -> None:
    """Forget a connection. Raises ConfigurationError if the file has none of that name."""
    with _changing() as (path, kept):
        if kept.pop(name.lower(), None) is None:
            message = f"There is no connection {name!r} in {path}."
            raise ConfigurationError(message, f"Connections: {', '.join(kept) or 'none'}.", connection=name)


def _file() -> Path:
    from pathlib import Path

    configured = os.environ.get(_FILE_VARIABLE, "")
    return Path(configured).expanduser() if configured else data_directory() / "connections.json"


@contextmanager
def _changing() -> Iterator[tuple[Path, dict[str, str]]]:
    """Give the kept URIs to change, one process at a time; written when the block ends well."""
    path = _file()
    try:
        path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        lock = os.open(path.with_name(f".{path.name}.lock"), os.O_RDWR | os.O_CREAT, 0o600)
        try:
            fcntl.flock(lock, fcntl.LOCK_EX)
            kept = _read(path)
            yield path, kept
            write_private(path, json.dumps(dict(sorted(kept.items())), indent=2).encode() + b"\n")
        finally:
            os.close(lock)
    except OSError as error:
        message = f"The file of connections {path} cannot be written: {error.strerror}."
        raise ConfigurationError(message, f"Set {_FILE_VARIABLE} to a file that can be.") from error


def _read(path: Path) -> dict[str, str]:
    try:
        with path.open("rb") as file:
            _require_private(file.fileno(), path)
            content = json.load(file)
    except FileNotFoundError:
        return {}
    except ConfigurationError:
        raise
    except (OSError, ValueError) as error:
        # What the file holds is not quoted: it has passwords.
        reason = error.strerror if isinstance(error, OSError) else "it is not JSON"
        message = f"The file of connections {path} cannot be read: {reason}."
        raise ConfigurationError(message, "Repair or remove it.", path=str(path)) from None
    if not isinstance(content, dict) or not all(isinstance(uri, str) for uri in content.values()):
        message = f"The file of connections {path} is not a table of names and URIs."
        raise ConfigurationError(message, "Repair or remove it.", path=str(path))
    return content


def _require_private(descriptor: int, path: Path) -> None:
    found = os.fstat(descriptor)
    if found.st_uid != os.getuid() or stat.S_IMODE(found.st_mode) & 0o077:
        message = f"The file of connections {path} can be read by others than you."
        raise ConfigurationError(message, f"Make it yours alone: chmod 600 {path}", path=str(path))
