"""Opening databases through ADBC: addresses, drivers, and errors that never show a password."""

from __future__ import annotations

import os
import re
import signal
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import parse_qsl, quote, unquote, urlencode, urlsplit

from heliostat._extras import require
from heliostat.exceptions import ConfigurationError

_SCHEMES = {"postgresql": "postgresql", "postgres": "postgresql", "sqlite": "sqlite"}
_SECRET_OPTIONS = ("password", "passfile", "sslpassword", "sslkey")
_HINTS = "Write postgresql://user:password@host/database or sqlite:///path."
# From PostgreSQL 14 on; an older one is left alone.
_WATCH = (
    "SELECT set_config('client_connection_check_interval', '2000', false)"
    " WHERE current_setting('server_version_num')::int >= 140000"
)
_DRIVER_PREFIX = re.compile(r"^(?:[A-Z_]+: )?(?:\[[^\]]*\] )*")


@dataclass(frozen=True)
class Address:
    """Where a database is."""

    kind: str
    """``"postgresql"`` or ``"sqlite"``."""
    uri: str = field(repr=False)
    """What the driver is given."""
    shown: str
    """What people may see."""
    secrets: tuple[str, ...] = field(repr=False)
    """What no error may hold."""

    @classmethod
    def parse(cls, uri: str) -> Address:
        """Read a URI. Raises ConfigurationError, which does not quote it."""
        kind = _SCHEMES.get(uri.partition(":")[0].lower())
        if kind is None:
            scheme = re.match(r"[A-Za-z][\w+.-]*(?=:)", uri)
            message = (
                f"No database is known for {scheme[0] + ':' if scheme else 'an address without a scheme'}"
            )
            raise ConfigurationError(message + ".", _HINTS)
        return _sqlite(uri) if kind == "sqlite" else _postgresql(uri)


def _postgresql(uri: str) -> Address:
    rest = uri.partition("://")[2]
    tail = rest.partition("/")[2]
    # A password with an unquoted "/" or "@" would otherwise be taken for a host and shown.
    try:
        parts = urlsplit(f"postgresql://{rest}")
        user, password, host = parts.username or "", parts.password or "", parts.netloc.rpartition("@")[2]
        options = dict(parse_qsl(parts.query, keep_blank_values=True))
    except ValueError:
        parts = None
    if parts is None or not uri.partition("://")[1] or ("@" in tail.partition("?")[0]) or "@" in host:
        message = "The URI of a PostgreSQL database cannot be read."
        action = "Percent-encode special characters in user and password, for example '/' as %2F. "
        raise ConfigurationError(message, action + _HINTS)
    secrets = {password, unquote(password)}
    for name in _SECRET_OPTIONS:
        secrets |= {options.get(name, ""), quote(options.get(name, ""), safe="")}
    where = host or options.get("host", "")
    shown = f"postgresql://{unquote(user) + '@' if user else ''}{where}{parts.path}"
    # Else a host that is off the net is waited for as long as TCP likes.
    if "connect_timeout" not in options:
        options["connect_timeout"] = "10"
    query = urlencode(options, quote_via=quote)
    given = f"postgresql://{parts.netloc}{parts.path}?{query}"
    return Address("postgresql", given, shown, tuple(sorted(filter(None, secrets), key=len, reverse=True)))


def _sqlite(uri: str) -> Address:
    body, _, query = uri.partition(":")[2].partition("?")
    path = unquote(body.removeprefix("//"))
    if not path or "\0" in path or (body.startswith("//") and not path.startswith("/")):
        message = f"{uri!r} names no SQLite file."
        raise ConfigurationError(message, "Write sqlite:///directory/file.db or sqlite:file.db.")
    path = os.path.abspath(Path(path).expanduser())  # noqa: PTH100 - Path keeps ".."
    # A name with a slip in it is an error; without a mode SQLite would make an empty database.
    return Address("sqlite", f"file:{quote(path)}?{query or 'mode=rw'}", f"sqlite://{path}", ())


def open_address(address: Address, name: str, *, autocommit: bool) -> Any:
    """Open a connection of ADBC's DBAPI.

    Raises
    ------
    ConfigurationError
        The database refuses, cannot be reached, or is not there.
    MissingDependencyError
        The driver is not installed.
    """
    dbapi = require(f"adbc_driver_{address.kind}.dbapi", "sql", f"The connection {name!r}")
    # The import brings Polars along where that is installed, whose handler of Ctrl-C makes waits deaf to it.
    signal.siginterrupt(signal.SIGINT, True)
    connection = None
    try:
        connection = dbapi.connect(address.uri, autocommit=autocommit)
        if address.kind == "postgresql":
            _watch_client(connection, autocommit=autocommit)
    except dbapi.Error as error:
        reason = _missing_file(address) or plain(error, address)
        if connection is not None:
            connection.close()
    else:
        return connection
    # Not chained: the driver's own error may quote the whole URI.
    message = f"The connection {name!r} to {address.shown} cannot be opened: {reason}"
    action = "Check the address, the user and the password, and that the database is up."
    raise ConfigurationError(message, action, connection=name)


def _watch_client(connection: Any, *, autocommit: bool) -> None:
    """Have the server look after us, so that the query of a killed process ends too."""
    with connection.cursor() as cursor:
        cursor.execute(_WATCH)
        cursor.fetchall()
    if not autocommit:
        connection.commit()


def _missing_file(address: Address) -> str:
    """SQLite's driver does not say that a file is not there."""
    path = Path(address.shown.removeprefix("sqlite://"))
    return "there is no such file." if address.kind == "sqlite" and not path.exists() else ""


def plain(error: BaseException, address: Address) -> str:
    """Return what a driver said, without its own names and without secrets."""
    text = _DRIVER_PREFIX.sub("", " ".join(str(error).split()))
    for secret in address.secrets:
        text = text.replace(secret, "***")
    return text if text.endswith(".") else f"{text}."
