"""From a version of a dataset to the Parquet files that hold its rows."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from heliostat.dataset._catalog import identifier_of, load_table, place_of, told
from heliostat.dataset._types import stored_schema
from heliostat.exceptions import DatasetError

if TYPE_CHECKING:
    import pyarrow as pa

    from heliostat.data.data_source import DatasetInfo
    from heliostat.dataset._catalog import Identifier


@dataclass(frozen=True)
class DatasetFiles:
    """Where the rows of a version are. Small, picklable, and free of the catalog."""

    files: tuple[str, ...]
    """Paths on ``filesystem``, in the order of the rows."""
    filesystem: Any
    """A ``pyarrow.fs.FileSystem``; local files have the local one."""
    schema: pa.Schema
    """All columns, also those that are excluded or labels."""
    rows: int

    @property
    def columns(self) -> list[str]:
        """Names of all columns."""
        return list(self.schema.names)


def data_files(info: DatasetInfo) -> DatasetFiles:
    """Find the files of a version.

    Parameters
    ----------
    info:
        Names the version. Its ``exclude_cols`` are for the caller to leave out.

    Raises
    ------
    DatasetNotExistError
        The dataset or the version is not there.
    DatasetError
        The catalog or the files cannot be reached.
    """
    return version_files(identifier_of(info.fully_qualified_name), info.version)


def version_files(identifier: Identifier, version: str) -> DatasetFiles:
    """Find the files of a version; see ``data_files``."""
    import pyarrow.parquet as pq

    from heliostat._file_cache import cached_filesystem

    table = load_table(identifier)
    reference = table.refs().get(version)
    if reference is None or reference.snapshot_ref_type != "tag":
        from heliostat.dataset.dataset_version import version_missing

        raise version_missing(identifier, version, table)
    with told(identifier):
        # Not by a scan, which leaves out files without rows: a version without rows is one as well.
        stored = [
            entry.data_file
            for manifest in table.snapshot_by_id(reference.snapshot_id).manifests(table.io)
            for entry in manifest.fetch_manifest_entry(table.io)
        ]
        if any(file.content != 0 for file in stored):
            message = f"The version {version!r} of {'.'.join(identifier)} has deleted rows."
            raise DatasetError(message, "It was not made by Heliostat; read it with PyIceberg.")
        found = sorted((file.file_path, file.record_count) for file in stored)
        places = [place_of(url) for url, _ in found]
        if not places:
            message = f"The version {version!r} of {'.'.join(identifier)} has no files."
            raise DatasetError(message, "It was not made by Heliostat; read it with PyIceberg.")
        schema = pq.read_schema(places[0].path, filesystem=cached_filesystem(places[0].filesystem))
    return DatasetFiles(
        files=tuple(place.path for place in places),
        filesystem=places[0].filesystem,
        # The types as they are, without Iceberg's ids.
        schema=stored_schema(schema, untouched=schema.names),
        rows=sum(rows for _, rows in found),
    )
