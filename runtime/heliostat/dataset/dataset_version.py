"""One immutable version of a dataset."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from heliostat.dataset._commit import description_of
from heliostat.dataset._resolve import version_files
from heliostat.exceptions import DatasetNotExistError

if TYPE_CHECKING:
    from heliostat.dataset._catalog import Identifier

__all__ = ["DatasetVersion", "Row"]


class DatasetVersion:
    """What a version is called, holds, and says about itself. Got from ``Dataset.selected_version``.

    Parameters
    ----------
    identifier:
        The dataset.
    name:
        The version.
    table:
        The Iceberg table as it was when the version was found.
    """

    def __init__(self, identifier: Identifier, name: str, table: Any) -> None:
        self._identifier, self._name = identifier, name
        ref = table.refs().get(name)
        if ref is None or ref.snapshot_ref_type != "tag":
            raise version_missing(identifier, name, table)
        self._snapshot = table.snapshot_by_id(ref.snapshot_id)
        self._description = description_of(self._snapshot)

    def __repr__(self) -> str:
        return f"DatasetVersion({'.'.join(self._identifier)!r}, {self._name!r})"

    @property
    def name(self) -> str:
        """Name of the version."""
        return self._name

    @property
    def created_on(self) -> datetime:
        """When it was made."""
        return datetime.fromtimestamp(self._snapshot.timestamp_ms / 1000, UTC)

    @property
    def comment(self) -> str | None:
        """What its maker said about it."""
        return self._description.comment

    @property
    def label_cols(self) -> list[str]:
        """Columns to be predicted."""
        return list(self._description.label_cols)

    @property
    def exclude_cols(self) -> list[str]:
        """Columns that are neither features nor labels, such as keys."""
        return list(self._description.exclude_cols)

    @property
    def properties(self) -> dict[str, str]:
        """What its maker noted, by name."""
        return dict(self._description.properties)

    @property
    def query(self) -> str | None:
        """SQL of the DataFrame it was made from, if it had one of at most 10,000 characters."""
        return self._description.query

    def url(self) -> str:
        """Directory of its files."""
        return self._description.directory

    def list_files(self, subdir: str | None = None) -> list[str]:
        """List the paths of its Parquet files.

        Parameters
        ----------
        subdir:
            Only those below this directory: a value of the expression that it is partitioned by.

        Raises
        ------
        DatasetNotExistError
            The version was deleted meanwhile.
        """
        found = version_files(self._identifier, self._name)
        if subdir is None:
            return list(found.files)
        prefix = f"{self.url().removeprefix('file://').removeprefix('s3://')}/{subdir.strip('/')}/"
        return [path for path in found.files if path.startswith(prefix)]

    def row(self) -> Row:
        """Return what ``Dataset.list_versions(detailed=True)`` shows."""
        summary = self._snapshot.summary.additional_properties if self._snapshot.summary else {}
        return Row(
            version=self._name,
            created_on=self.created_on,
            comment=self.comment,
            label_cols=self.label_cols,
            exclude_cols=self.exclude_cols,
            properties=self.properties,
            rows=int(summary.get("added-records", 0)),
            files=int(summary.get("added-data-files", 0)),
            bytes=int(summary.get("added-files-size", 0)),
        )


class Row(dict[str, Any]):
    """A row of a listing: ``row["version"]`` and ``row.version``."""

    def __getattr__(self, name: str) -> Any:
        if name in self:
            return self[name]
        message = f"The row has no {name!r}; it has {', '.join(self)}."
        raise AttributeError(message)

    def as_dict(self) -> dict[str, Any]:
        """Return the values by name."""
        return dict(self)


def version_missing(identifier: Identifier, name: str, table: Any) -> DatasetNotExistError:
    """Make the error of a version that is not there."""
    there = ", ".join(sorted(n for n, r in table.refs().items() if r.snapshot_ref_type == "tag")) or "none"
    full = ".".join(identifier)
    message = f"The dataset {full} has no version {name!r}."
    return DatasetNotExistError(
        message, f"Versions: {there}.", error_code="NOT_FOUND", name=full, version=name
    )
