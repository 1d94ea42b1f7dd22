"""Taking a version out of the catalog: one change, after which its files are garbage."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from heliostat.dataset._catalog import catalog, told
from heliostat.exceptions import DatasetCannotDeleteError

if TYPE_CHECKING:
    from heliostat.dataset._catalog import Identifier


def remove_version(identifier: Identifier, table: Any, version: str) -> bool:
    """Take a version out of the catalog, in one change; whether its files are garbage now.

    Raises
    ------
    DatasetCannotDeleteError
        Another process changed the dataset at the same time.
    """
    from pyiceberg.exceptions import CommitFailedException

    update = _updates()
    refs = table.refs()
    gone = refs[version].snapshot_id
    tagged = {name: ref.snapshot_id for name, ref in refs.items() if ref.snapshot_ref_type == "tag"}
    shared = list(tagged.values()).count(gone) > 1
    changes: list[Any] = [update.RemoveSnapshotRefUpdate(ref_name=version)]
    main = refs["main"].snapshot_id if "main" in refs else None
    if main == gone and not shared:
        changes += _step_back(table, set(tagged.values()) - {gone})
    if not shared:
        changes.append(update.RemoveSnapshotsUpdate(snapshot_ids=[gone]))
    conditions = (
        update.AssertTableUUID(uuid=table.metadata.table_uuid),
        update.AssertRefSnapshotId(ref=version, snapshot_id=gone),
        update.AssertRefSnapshotId(ref="main", snapshot_id=main),
    )
    with told(identifier):
        try:
            catalog().commit_table(table, conditions, tuple(changes))
        except CommitFailedException as error:
            message = f"The version {version!r} could not be deleted: {error}."
            raise DatasetCannotDeleteError(message, "Call it again.", version=version) from error
    return not shared


def _updates() -> Any:
    """PyIceberg's changes and conditions, whose types know only the names they have in JSON."""
    from pyiceberg.table import update

    return update


def _step_back(table: Any, left: set[int]) -> list[Any]:
    """Make the latest of the versions that are left, with its columns, what main is."""
    update = _updates()
    snapshots = [snapshot for snapshot in table.snapshots() if snapshot.snapshot_id in left]
    if not snapshots:
        return [update.RemoveSnapshotRefUpdate(ref_name="main")]
    latest = max(snapshots, key=lambda snapshot: snapshot.sequence_number or 0)
    return [
        update.SetSnapshotRefUpdate(ref_name="main", type="branch", snapshot_id=latest.snapshot_id),
        update.SetCurrentSchemaUpdate(schema_id=latest.schema_id),
    ]
