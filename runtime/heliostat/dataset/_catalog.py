"""The Iceberg catalog that datasets are kept in, and their names in it.

Unless ``HELIOSTAT_CATALOG`` names a catalog that PyIceberg is configured for (REST, Glue, Hive,
SQL, by ``.pyiceberg.yaml`` or ``PYICEBERG_CATALOG__...``), it is a SQLite file beside the tables
in ``HELIOSTAT_DATASETS``, which is a directory or an ``s3://`` prefix.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import re
import time
from functools import lru_cache
from typing import TYPE_CHECKING, Any, TypeAlias

from heliostat._extras import require
from heliostat._paths import data_directory
from heliostat._settings import setting
from heliostat._stages import Location, open_location
from heliostat.exceptions import ConfigurationError, DatasetError, DatasetNotExistError

if TYPE_CHECKING:
    from collections.abc import Iterator

_CATALOG_VARIABLE, _FILES_VARIABLE = "HELIOSTAT_CATALOG", "HELIOSTAT_DATASETS"
_DEFAULT_DATABASE, _DEFAULT_SCHEMA = "warehouse", "main"
_NAME = re.compile(r"[a-z0-9_$-]+")
_SECONDS_TO_START = 10.0
_S3_PROPERTIES = {
    "s3.endpoint": ("AWS_ENDPOINT_URL_S3", "AWS_ENDPOINT_URL"),
    "s3.region": ("AWS_REGION", "AWS_DEFAULT_REGION"),
    "s3.access-key-id": ("AWS_ACCESS_KEY_ID",),
    "s3.secret-access-key": ("AWS_SECRET_ACCESS_KEY",),
    "s3.session-token": ("AWS_SESSION_TOKEN",),
}

Identifier: TypeAlias = tuple[str, str, str]
"""Database, schema and name of a dataset, in lower case."""


def identifier_of(name: str, database: str | None = None, schema: str | None = None) -> Identifier:
    """Complete the name of a dataset, which may have its schema and database in front.

    Raises
    ------
    ConfigurationError
        It is not a name.
    """
    parts = name.lower().split(".")
    given = [database or _DEFAULT_DATABASE, schema or _DEFAULT_SCHEMA]
    full = [part.lower() for part in given[: 3 - len(parts)]] + parts
    if len(full) != 3 or not all(_NAME.fullmatch(part) for part in full):
        message = f"{name!r} is not the name of a dataset."
        action = 'Use letters, digits, "_", "$" and "-", with schema and database in front if you like.'
        raise ConfigurationError(message, action, name=name)
    return full[0], full[1], full[2]


def table_of(identifier: Identifier) -> tuple[str, str]:
    """Namespace and table of a dataset in the catalog; not every catalog has namespaces in namespaces."""
    database, schema, name = identifier
    return (schema if database == _DEFAULT_DATABASE else f"{database}.{schema}"), name


def catalog() -> Any:
    """Return the catalog, made if it is the local one and missing.

    Raises
    ------
    MissingDependencyError
        PyIceberg is not installed.
    ConfigurationError
        It cannot be opened.
    """
    require("pyiceberg", "iceberg", "heliostat.dataset")
    name = setting(_CATALOG_VARIABLE)
    if name:
        return _configured(name, os.getpid())
    root = setting(_FILES_VARIABLE) or str(data_directory() / "datasets")
    properties = {
        key: value
        for key, names in _S3_PROPERTIES.items()
        if (value := next(filter(None, map(os.environ.get, names)), None))
    }
    return _local(root, tuple(sorted(properties.items())), os.getpid())


@lru_cache(maxsize=8)
def _configured(name: str, _process: int) -> Any:
    from pyiceberg.catalog import load_catalog

    try:
        return load_catalog(name)
    except Exception as error:
        message = f"The Iceberg catalog {name!r} cannot be opened: {error}"
        action = f"Check {_CATALOG_VARIABLE} and PyIceberg's configuration of that catalog."
        raise ConfigurationError(message, action, catalog=name) from error


@lru_cache(maxsize=8)
def _local(root: str, properties: tuple[tuple[str, str], ...], _process: int) -> Any:
    from pyiceberg.catalog.sql import SqlCatalog
    from sqlalchemy.exc import OperationalError

    place = open_location(root)
    if place.local_path is None:
        folder = data_directory() / "catalogs" / hashlib.sha256(place.url.encode()).hexdigest()[:16]
        warehouse = place.url
    else:
        folder = place.local_path
        warehouse = f"file://{place.path}"
    try:
        folder.mkdir(parents=True, exist_ok=True, mode=0o700)
    except OSError as error:
        message = f"The directory of the datasets, {folder}, cannot be made: {error.strerror}."
        raise ConfigurationError(message, f"Set {_FILES_VARIABLE} to one that can be written.") from error
    file = folder / "catalog.db"
    deadline = time.monotonic() + _SECONDS_TO_START
    while True:
        try:
            return SqlCatalog(
                "heliostat", uri=f"sqlite:///{file}?timeout=30", warehouse=warehouse, **dict(properties)
            )
        except OperationalError as error:
            # Two processes may make the tables of a new catalog at the same time.
            if time.monotonic() > deadline:
                message = f"The catalog {file} cannot be opened: {error.orig}."
                raise ConfigurationError(
                    message, f"Set {_FILES_VARIABLE} to a directory that can be written."
                ) from error
            time.sleep(0.02)


def load_table(identifier: Identifier) -> Any:
    """Return the Iceberg table of a dataset. Raises DatasetNotExistError."""
    from pyiceberg.exceptions import NoSuchNamespaceError, NoSuchTableError

    with told(identifier):
        try:
            return catalog().load_table(table_of(identifier))
        except (NoSuchTableError, NoSuchNamespaceError) as error:
            message = f"There is no dataset {'.'.join(identifier)}."
            raise DatasetNotExistError(
                message, "Dataset.create makes one.", error_code="NOT_FOUND", name=".".join(identifier)
            ) from error


def make_namespace(identifier: Identifier) -> None:
    """Make the namespace of a dataset, unless it is there."""
    from sqlalchemy.exc import IntegrityError

    # PyIceberg looks first, and another process may make it between the look and the change.
    with contextlib.suppress(IntegrityError):
        catalog().create_namespace_if_not_exists(table_of(identifier)[:1])


@contextlib.contextmanager
def told(identifier: Identifier) -> Iterator[None]:
    """Turn errors of the catalog, of its database, and of the file system into a DatasetError."""
    from pyiceberg.exceptions import RESTError
    from sqlalchemy.exc import SQLAlchemyError

    try:
        yield
    except (RESTError, SQLAlchemyError, OSError) as error:
        name = ".".join(identifier)
        message = f"The dataset {name} cannot be reached: {' '.join(str(error).split())}"
        raise DatasetError(message, name=name) from error


def place_of(url: str) -> Location:
    """Where a file or directory of a table is; Iceberg writes paths into URLs as they are."""
    return open_location(url.removeprefix("file://") if url.startswith("file:///") else url)
