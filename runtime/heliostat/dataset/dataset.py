"""``Dataset``: a name for versions of rows that never change."""

from __future__ import annotations

import contextlib
import os
import warnings
from datetime import timedelta
from typing import TYPE_CHECKING, Any

from heliostat.dataset._catalog import catalog, identifier_of, load_table, place_of, table_of, told
from heliostat.dataset._commit import Description, VersionWriter, create_table
from heliostat.dataset._garbage import collect
from heliostat.dataset._removal import remove_version
from heliostat.dataset.dataset_reader import DatasetReader
from heliostat.dataset.dataset_version import DatasetVersion, Row
from heliostat.exceptions import (
    ConfigurationError,
    DataError,
    DatasetCannotDeleteError,
    DatasetExistError,
    RefusedCallError,
)

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from heliostat._location import Entries
    from heliostat.dataset._catalog import Identifier

__all__ = ["Dataset"]

_LONGEST_QUERY = 10_000
_GARBAGE_AGE = timedelta(hours=24)


class Dataset:
    """A dataset, with one of its versions selected or none.

    Made by ``Dataset.create``, ``Dataset.load``, or ``create_from_dataframe``; each is one Iceberg
    table with one tag for each version.

    Parameters
    ----------
    session:
        Whose DataFrames are read and made; ``None`` is the active session.
    database, schema, name:
        The three parts of its name.
    selected_version:
        Name of the version to read.

    Raises
    ------
    DatasetNotExistError
        The dataset, or the version, is not there.
    """

    def __init__(
        self, session: Any, database: str, schema: str, name: str, selected_version: str | None = None
    ) -> None:
        self._session = session
        self._identifier: Identifier = identifier_of(name, database, schema)
        table = load_table(self._identifier)
        self._version = (
            None if selected_version is None else DatasetVersion(self._identifier, selected_version, table)
        )

    def __repr__(self) -> str:
        version = "" if self._version is None else f", version={self._version.name!r}"
        return f"Dataset({self.fully_qualified_name!r}{version})"

    @staticmethod
    def create(session: Any, name: str, exist_ok: bool = False) -> Dataset:
        """Make a dataset that has no version yet.

        Parameters
        ----------
        session:
            Whose DataFrames it takes; ``None`` is the active session.
        name:
            ``"name"``, ``"schema.name"`` or ``"database.schema.name"``; upper and lower case are the same.
        exist_ok:
            Load the dataset if it is there.

        Raises
        ------
        DatasetExistError
            It is there, and ``exist_ok`` is false.
        """
        identifier = identifier_of(name)
        try:
            create_table(identifier)
        except DatasetExistError:
            if not exist_ok:
                raise
        return Dataset(session, *identifier)

    @staticmethod
    def load(session: Any, name: str) -> Dataset:
        """Load a dataset, with no version selected. Raises DatasetNotExistError."""
        return Dataset(session, *identifier_of(name))

    @property
    def fully_qualified_name(self) -> str:
        """``database.schema.name``."""
        return ".".join(self._identifier)

    @property
    def selected_version(self) -> DatasetVersion | None:
        """The version that ``read`` reads."""
        return self._version

    @property
    def read(self) -> DatasetReader:
        """A reader of the selected version.

        Raises
        ------
        RefusedCallError
            No version is selected; it is a ConfigurationError and a RuntimeError.
        """
        if self._version is None:
            message = "No Dataset version selected."
            action = "Call select_version, and read from what it returns."
            raise RefusedCallError(message, action, error_code="INVALID_ATTRIBUTE")
        return DatasetReader.of_version(self._active_session(), self._identifier, self._version)

    def list_versions(self, detailed: bool = False) -> list[str] | list[Row]:
        """List the versions, oldest first: their names, or if ``detailed`` rows with what is known."""
        table = load_table(self._identifier)
        names = [name for name, ref in table.refs().items() if ref.snapshot_ref_type == "tag"]
        versions = [DatasetVersion(self._identifier, name, table) for name in names]
        versions.sort(key=lambda version: (version._snapshot.sequence_number or 0, version.name))
        return [version.row() for version in versions] if detailed else [v.name for v in versions]

    def select_version(self, version: str) -> Dataset:
        """Return this dataset with ``version`` selected. Raises DatasetNotExistError."""
        return Dataset(self._session, *self._identifier, selected_version=version)

    def create_version(  # noqa: PLR0917 - the signature that notebooks know
        self,
        version: str,
        input_dataframe: Any,
        shuffle: bool = False,
        exclude_cols: Sequence[str] | None = None,
        label_cols: Sequence[str] | None = None,
        properties: Mapping[str, str] | None = None,
        partition_by: str | None = None,
        comment: str | None = None,
    ) -> Dataset:
        """Store rows as a version: all of them, or after any error or death none.

        Parameters
        ----------
        version:
            Its name; any text but ``main``.
        input_dataframe:
            A relation, a ``DataConnector``, or whatever ``Session.create_dataframe`` takes. It is read
            once, as a stream.
        shuffle:
            Store the rows in random order; every order is equally likely.
        exclude_cols:
            Columns that are neither features nor labels.
        label_cols:
            Columns to be predicted.
        properties:
            Notes, by name.
        partition_by:
            SQL expression; rows of equal value get files, and a directory, of their own.
        comment:
            What it is.

        Returns
        -------
        Dataset
            This dataset with the new version selected.

        Raises
        ------
        DatasetExistError
            The version is there already, or somebody else made it meanwhile.
        DataError
            A column that is named is not there, or one that is there cannot be stored.
        """
        write_version(
            self._identifier,
            version,
            input_dataframe,
            create=False,
            shuffle=shuffle,
            exclude_cols=exclude_cols,
            label_cols=label_cols,
            properties=properties,
            partition_by=partition_by,
            comment=comment,
        )
        return self.select_version(version)

    def delete_version(self, version_name: str) -> None:
        """Remove a version and its files.

        Raises
        ------
        DatasetNotExistError
            It is not there.
        DatasetCannotDeleteError
            Another process changed the dataset at the same time.
        """
        table = load_table(self._identifier)
        version = DatasetVersion(self._identifier, version_name, table)
        if remove_version(self._identifier, table, version_name) and version.url():
            # From here on the files are garbage, whoever removes them.
            _remove_directory(version.url())

    def delete(self) -> None:
        """Remove the dataset with all versions and files.

        Raises
        ------
        DatasetNotExistError
            It is not there.
        DatasetCannotDeleteError
            The catalog refuses.
        """
        from pyiceberg.exceptions import NoSuchTableError

        table = load_table(self._identifier)
        with told(self._identifier):
            # Looked up before: what lies there after the drop may be of a new dataset of that name.
            files = place_of(table.location()).list()
            try:
                catalog().drop_table(table_of(self._identifier))
            except NoSuchTableError:
                load_table(self._identifier)
            except Exception as error:
                message = f"The dataset {self.fully_qualified_name} could not be deleted: {error}"
                raise DatasetCannotDeleteError(message, name=self.fully_qualified_name) from error
        _remove_files(table.location(), files)

    def collect_garbage(self, older_than: timedelta = _GARBAGE_AGE, *, dry_run: bool = False) -> list[str]:
        """Remove files of this dataset that no version has, as writers leave them that are killed.

        Parameters
        ----------
        older_than:
            Leave younger files alone: they may be those of a writer that is at work.
        dry_run:
            Remove nothing.

        Returns
        -------
        list
            Paths of what was, or would be, removed.
        """
        return collect(self._identifier, older_than, dry_run=dry_run)

    def _active_session(self) -> Any:
        if self._session is None:
            from heliostat.context import get_active_session

            return get_active_session()
        return self._session


def write_version(
    identifier: Identifier,
    version: str,
    input_dataframe: Any,
    *,
    create: bool,
    shuffle: bool = False,
    exclude_cols: Sequence[str] | None = None,
    label_cols: Sequence[str] | None = None,
    properties: Mapping[str, str] | None = None,
    partition_by: str | None = None,
    comment: str | None = None,
) -> None:
    """Check the arguments of ``create_version`` and store the version, and with ``create`` the dataset."""
    if not isinstance(version, str) or not version.strip() or version == "main":
        message = f"{version!r} is not the name of a version."
        raise ConfigurationError(message, 'Use any text but "main".', version=version)
    writer = VersionWriter(identifier, version, create=create)
    labels, excluded = _columns(label_cols, "label_cols"), _columns(exclude_cols, "exclude_cols")
    reader, query = _rows_of(input_dataframe)
    names = reader.schema.names
    missing = [name for name in (*labels, *excluded) if name not in names]
    if missing:
        # A notebook keeps the error and so its frames: while one has the stream, no other query can run.
        del reader
        message = f"The data has no column {', '.join(map(repr, missing))}."
        raise DataError(message, f"Columns: {', '.join(names)}.", missing=missing)
    description = Description(
        label_cols=labels,
        exclude_cols=excluded,
        properties={str(key): str(value) for key, value in (properties or {}).items()},
        comment=comment,
        partition_by=partition_by,
        shuffled=shuffle,
        query=query,
    )
    writer.write(reader, description)


def _rows_of(data: Any) -> tuple[Any, str | None]:
    """Open a DataFrame as a stream; the SQL behind it comes too, if there is any that is not too long."""
    from heliostat._rows_in import as_reader
    from heliostat.data.data_connector import DataConnector

    query: str | None = data.sql_query() if hasattr(data, "sql_query") else None
    if query is not None and len(query) > _LONGEST_QUERY:
        message = f"The query of the DataFrame has more than {_LONGEST_QUERY:,} characters; it is not noted."
        warnings.warn(message, stacklevel=5)
        query = None
    return data.to_reader() if isinstance(data, DataConnector) else as_reader(data), query


def _columns(names: Sequence[str] | None, argument: str) -> list[str]:
    if isinstance(names, str):
        message = f"{argument}={names!r} is one text where a list is expected."
        raise ConfigurationError(message, f"Write {argument}=[{names!r}].")
    return list(names or ())


def _remove_directory(url: str) -> None:
    place = place_of(url)
    with contextlib.suppress(OSError):
        place.filesystem.delete_dir(place.path)


def _remove_files(url: str, files: Entries) -> None:
    """Remove files below a directory, and what directories are empty then."""
    for entry in files:
        with contextlib.suppress(OSError):
            entry.location.filesystem.delete_file(entry.location.path)
    if (home := place_of(url).local_path) is not None:
        for folder, _, _ in os.walk(home, topdown=False):
            with contextlib.suppress(OSError):
                os.rmdir(folder)  # noqa: PTH106 - os.walk gives text
