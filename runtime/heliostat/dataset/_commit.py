"""New versions: files first, then one change of the catalog that makes them a version.

Each version is a snapshot without a parent, so that it has its files alone, with a tag of the
version's name. The branch ``main`` is the latest version, for readers who know nothing of
versions. Columns of one version have nothing to do with those of another. What describes the
version is in the summary of its snapshot. Until the change of the catalog, which is one
compare-and-swap, the files are garbage.
"""

from __future__ import annotations

import contextlib
import itertools
import json
import re
import uuid
from dataclasses import asdict, dataclass, field
from typing import TYPE_CHECKING, Any

from heliostat import _progress as progress
from heliostat.dataset._catalog import catalog, load_table, make_namespace, place_of, table_of, told
from heliostat.dataset._order import reordered
from heliostat.dataset._types import cast, field_ids, refuse_names, stored_schema, with_field_ids
from heliostat.dataset._write import write_files
from heliostat.exceptions import (
    DataError,
    DatasetError,
    DatasetExistError,
    DatasetNotExistError,
)

if TYPE_CHECKING:
    from collections.abc import Iterator

    import pyarrow as pa

    from heliostat._stages import Location
    from heliostat.dataset._catalog import Identifier

VERSION, DESCRIPTION = "heliostat.version", "heliostat.description"
_TRIES = 20
_TABLE_PROPERTIES = {
    # We try again ourselves: only we know that a version that appeared meanwhile must stay.
    "commit.retry.num-retries": "0",
    "write.metadata.delete-after-commit.enabled": "true",
    "write.metadata.previous-versions-max": "20",
}


@dataclass(frozen=True)
class Description:
    """What a version says about itself, besides its rows."""

    label_cols: list[str] = field(default_factory=list)
    exclude_cols: list[str] = field(default_factory=list)
    properties: dict[str, str] = field(default_factory=dict)
    comment: str | None = None
    partition_by: str | None = None
    shuffled: bool = False
    query: str | None = None
    directory: str = ""
    """URL of the directory with the version's files."""

    def summary(self, version: str) -> dict[str, str]:
        """As properties of the snapshot."""
        return {VERSION: version, DESCRIPTION: json.dumps(asdict(self))}


def description_of(snapshot: Any) -> Description:
    """Read what ``summary`` wrote; empty for a snapshot that somebody else tagged."""
    text = snapshot.summary.additional_properties.get(DESCRIPTION) if snapshot.summary else None
    return Description(**json.loads(text)) if text else Description()


def create_table(identifier: Identifier) -> Any:
    """Make the Iceberg table of a dataset that has no version yet. Raises DatasetExistError."""
    from pyiceberg.exceptions import TableAlreadyExistsError
    from pyiceberg.schema import Schema

    with told(identifier):
        try:
            make_namespace(identifier)
            return catalog().create_table(table_of(identifier), schema=Schema(), properties=_TABLE_PROPERTIES)
        except TableAlreadyExistsError as error:
            raise dataset_exists(identifier) from error


def dataset_exists(identifier: Identifier) -> DatasetExistError:
    """Make the error of a dataset that is there already."""
    name = ".".join(identifier)
    message = f"The dataset {name} is there already."
    action = "Load it with Dataset.load, or pass exist_ok=True."
    return DatasetExistError(message, action, error_code="OBJECT_ALREADY_EXISTS", name=name)


def version_exists(identifier: Identifier, version: str) -> DatasetExistError:
    """Make the error of a version that is there already."""
    name = ".".join(identifier)
    message = f"The dataset {name} has a version {version!r} already."
    action = "Versions never change: choose another name, or delete it first."
    return DatasetExistError(message, action, error_code="OBJECT_ALREADY_EXISTS", name=name, version=version)


class VersionWriter:
    """Writes one version.

    Parameters
    ----------
    identifier:
        The dataset.
    version:
        Name of the version.
    create:
        Make the dataset in the same step if it is not there.

    Raises
    ------
    DatasetExistError
        The version is there.
    DatasetNotExistError
        The dataset is not there and is not to be made.
    """

    def __init__(self, identifier: Identifier, version: str, *, create: bool) -> None:
        self._identifier, self._version, self._create = identifier, version, create
        self._files_are_garbage = True
        self._begin()

    def write(self, reader: pa.RecordBatchReader, description: Description) -> None:
        """Store the rows of ``reader`` as the version, or nothing.

        Raises
        ------
        DataError
            A column cannot be stored.
        DatasetExistError
            Somebody else has made the version meanwhile.
        DatasetError
            Somebody else changed the dataset in a way that these files do not fit.
        """
        untouched = {*description.label_cols, *description.exclude_cols}
        refuse_names(reader.schema.names)
        schema = stored_schema(reader.schema, untouched)
        transaction, ids = self._transaction(schema)
        directory = place_of(f"{transaction._table.location()}/data/{uuid.uuid4().hex}")
        described = Description(**{**asdict(description), "directory": _url(directory)})
        try:
            with told(self._identifier):
                paths = self._write_rows(reader, directory, with_field_ids(schema, iter(ids)), description)
                self._commit(transaction, ids, schema, paths, described)
        except BaseException:
            # If we die here instead, the files are garbage to be collected.
            if self._files_are_garbage:
                with contextlib.suppress(OSError):
                    directory.filesystem.delete_dir(directory.path)
            raise

    def _begin(self) -> None:
        try:
            self._table = load_table(self._identifier)
        except DatasetNotExistError:
            if not self._create:
                raise
            self._table = None
            return
        if self._version in self._table.refs():
            raise version_exists(self._identifier, self._version)

    def _write_rows(
        self, reader: pa.RecordBatchReader, directory: Location, schema: pa.Schema, description: Description
    ) -> list[Location]:
        import pyarrow as pa

        plain = stored_schema(reader.schema, {*description.label_cols, *description.exclude_cols})
        stored = pa.RecordBatchReader.from_batches(plain, (cast(batch, plain) for batch in _read(reader)))
        name = f"{'.'.join(self._identifier)} {self._version}"
        with (
            progress.task("dataset", name, unit="rows") as task,
            reordered(stored, shuffle=description.shuffled, partition_by=description.partition_by) as ordered,
        ):
            batches = (_conform(batch, schema) for batch in ordered)

            def on_rows(rows: int) -> None:
                task.update(done=rows)
                task.check()

            return write_files(batches, directory, schema, on_rows)

    def _transaction(self, schema: pa.Schema) -> tuple[Any, list[int]]:
        """Begin a change of the catalog, with the columns of ``schema``; gives their ids as well."""
        from pyiceberg.schema import Schema

        if self._table is None:
            with told(self._identifier):
                make_namespace(self._identifier)
                transaction = catalog().create_table_transaction(
                    table_of(self._identifier), schema=Schema(), properties=_TABLE_PROPERTIES
                )
        else:
            transaction = self._table.transaction()
        current = transaction.table_metadata.schema()
        if _shape(current) != _shape_of(schema):
            if current.fields:
                with transaction.update_schema(allow_incompatible_changes=True) as change:
                    for name in [column.name for column in current.fields]:
                        change.delete_column((name,))
            with transaction.update_schema(allow_incompatible_changes=True) as change:
                change.union_by_name(schema)
        return transaction, list(field_ids(transaction.table_metadata.schema()))

    def _commit(
        self,
        transaction: Any,
        ids: list[int],
        schema: pa.Schema,
        paths: list[Location],
        description: Description,
    ) -> None:
        from pyiceberg.exceptions import CommitFailedException, NoSuchTableError, TableAlreadyExistsError
        from pyiceberg.io.pyarrow import parquet_files_to_data_files

        name = ".".join(self._identifier)
        for attempt in itertools.count(1):
            urls = iter([_url(path) for path in paths])
            files = list(parquet_files_to_data_files(transaction._table.io, transaction.table_metadata, urls))
            _stage(transaction, self._version, files, description)
            # Whatever stops us within the call, the catalog may have made the change.
            self._files_are_garbage = False
            try:
                transaction.commit_transaction()
            except (CommitFailedException, TableAlreadyExistsError) as error:
                self._files_are_garbage = True
                self._begin()  # raises if the version is there by now
                transaction, found = self._transaction(schema)
                if found == ids and attempt < _TRIES:
                    continue
                message = f"Another process changed the dataset {name} meanwhile: {error}."
                raise DatasetError(message, "Nothing was changed; call it again.", name=name) from error
            except NoSuchTableError as error:
                self._files_are_garbage = True
                message = f"The dataset {name} was deleted while the version was written."
                raise DatasetNotExistError(message, error_code="NOT_FOUND", name=name) from error
            except Exception as error:
                message = f"The catalog does not say whether the version {self._version!r} was made: {error}"
                action = "Look whether list_versions() has it, and if not, call it again."
                raise DatasetError(message, action, name=name, version=self._version) from error
            return


def _stage(transaction: Any, version: str, files: list[Any], description: Description) -> None:
    """Add the snapshot and its names to the change."""
    from pyiceberg.table.update.snapshot import ManageSnapshots

    # A branch that is not there yet begins without the files of others. The first reference that
    # is set is the one that must not have changed: the version's own, so that versions do not
    # stand in each other's way, or main where PyIceberg wants it, for the first snapshot of all.
    first = not transaction.table_metadata.snapshots
    append = transaction.update_snapshot(
        snapshot_properties=description.summary(version), branch="main" if first else version
    )
    with append.fast_append() as snapshot:
        for file in files:
            snapshot.append_data_file(file)
    ManageSnapshots(transaction).create_tag(snapshot.snapshot_id, version).commit()
    if not first:
        ManageSnapshots(transaction).set_current_snapshot(snapshot.snapshot_id).commit()


def _read(reader: pa.RecordBatchReader) -> Iterator[Any]:
    """Read the rows; what goes wrong there is no fault of the catalog."""
    import pyarrow as pa

    try:
        yield from reader
    except (OSError, pa.ArrowException) as error:
        message = f"The rows for the dataset cannot be read: {' '.join(str(error).split())}"
        raise DataError(message) from error


def _conform(batch: Any, schema: pa.Schema) -> Any:
    """Put a batch into ``schema``, keeping a column after its own for the partition."""
    import pyarrow as pa

    count = len(schema)
    narrowed = cast(batch.select(batch.schema.names[:count]), schema)
    if batch.num_columns == count:
        return narrowed
    whole = schema.append(batch.schema.field(count))
    return pa.RecordBatch.from_arrays([*narrowed.columns, batch.column(count)], schema=whole)


def _url(place: Location) -> str:
    return place.url if place.local_path is None else f"file://{place.path}"


def _shape(schema: Any) -> list[tuple[str, str]]:
    """Names and types of an Iceberg schema, without the ids."""
    return [(column.name, re.sub(r"\d+: ", "", str(column.field_type))) for column in schema.fields]


def _shape_of(schema: pa.Schema) -> list[tuple[str, str]]:
    from pyiceberg.io.pyarrow import pyarrow_to_schema

    return _shape(pyarrow_to_schema(with_field_ids(schema, itertools.count(1))))
