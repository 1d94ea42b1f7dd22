"""Where the warehouse is, how a session gets to it, and how sessions end with their process."""

from __future__ import annotations

import atexit
import contextlib
import os
import threading
import weakref
from pathlib import Path
from typing import TYPE_CHECKING

from heliostat._leased_connection import Asker, open_leased
from heliostat._paths import data_directory
from heliostat._settings import WAREHOUSE, Place, of_driver, setting
from heliostat.exceptions import ConfigurationError, WarehouseBusyError

if TYPE_CHECKING:
    import duckdb

    from heliostat._session import Session

_WAIT_VARIABLE = "HELIOSTAT_WAREHOUSE_WAIT"
_WAIT_SECONDS = 30.0


def warehouse_path() -> Path:
    """File of the warehouse: ``HELIOSTAT_WAREHOUSE``, else one in the user's data directory.

    A Ray worker has the warehouse of the driver that it works for, as it is now.

    Raises
    ------
    ConfigurationError
        This is a worker on another machine, which the driver's warehouse is not on.
    """
    driver = of_driver()
    configured = setting(WAREHOUSE)
    if driver is not None and not driver.is_here and not os.environ.get(WAREHOUSE):
        raise elsewhere(driver.warehouse, driver.place)
    if configured:
        return Path(configured).expanduser().absolute()
    return data_directory() / "warehouse.duckdb"


def elsewhere(path: str, place: Place) -> ConfigurationError:
    """Make the error of a warehouse that this process does not reach."""
    message = f"The warehouse {path} is on {place.host}, where the notebook runs, and not on this machine."
    action = (
        "Read it there, and pass rows, a dataset, or files on an object store; or set HELIOSTAT_WAREHOUSE"
        " on this machine for a warehouse of its own."
    )
    return ConfigurationError(message, action, path=path, host=place.host)


def connect(path: Path) -> tuple[duckdb.DuckDBPyConnection, Asker]:
    """Open a warehouse, made if it is missing. Raises ConfigurationError and WarehouseBusyError."""
    action = f"Set {WAREHOUSE} to a file that can be written."
    try:
        path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
    except OSError as error:
        message = f"The directory of the warehouse, {path.parent}, cannot be made: {error.strerror}."
        raise ConfigurationError(message, action, path=str(path)) from error
    return open_leased(path.resolve(), _wait_seconds)


def _wait_seconds() -> float:
    text = setting(_WAIT_VARIABLE)
    try:
        seconds = float(text) if text else _WAIT_SECONDS
    except ValueError:
        seconds = -1
    if not 0 <= seconds < threading.TIMEOUT_MAX:
        message = f"{_WAIT_VARIABLE} is {text!r}, which is not a number of seconds."
        raise ConfigurationError(message, f"Use for example {_WAIT_SECONDS:g}.")
    return seconds


open_sessions: weakref.WeakSet[Session] = weakref.WeakSet()
_inherited: list[Session] = []


def _keep_inherited() -> None:
    """In a forked child: DuckDB's threads are gone, and to end its connections would wait for them."""
    _inherited.extend(open_sessions)
    open_sessions.clear()


os.register_at_fork(after_in_child=_keep_inherited)


@atexit.register
def _close_all() -> None:
    for session in list(open_sessions):
        # The system lets go of what somebody still reads.
        with contextlib.suppress(WarehouseBusyError):
            session.close()
