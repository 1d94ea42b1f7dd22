"""Files that no version has: what writers left that were killed."""

from __future__ import annotations

import contextlib
import shutil
import time
from typing import TYPE_CHECKING, Any

from heliostat.dataset._catalog import load_table, place_of, told
from heliostat.dataset._order import spill_directory

if TYPE_CHECKING:
    from datetime import timedelta

    from heliostat.dataset._catalog import Identifier


def collect(identifier: Identifier, older_than: timedelta, *, dry_run: bool) -> list[str]:
    """Remove files below the dataset's directory that nothing refers to; returns their paths.

    Younger files may belong to a writer that is at work.
    """
    limit = time.time() - older_than.total_seconds()
    table = load_table(identifier)
    with told(identifier):
        place = place_of(table.location())
        # In this order: what a writer commits between the two looks is found by the second.
        entries = place.list()
        table.refresh()
        used = _used(table)
        garbage = [
            entry.location
            for entry in entries
            if entry.location.path not in used and (entry.modified is None or entry.modified <= limit)
        ]
        if dry_run:
            return [location.path for location in garbage]
        for location in garbage:
            location.filesystem.delete_file(location.path)
    _remove_old_spills(limit)
    return [location.path for location in garbage]


def _used(table: Any) -> set[str]:
    """Paths of all files that the table's metadata refers to."""
    urls = {table.metadata_location, *(entry.metadata_file for entry in table.metadata.metadata_log)}
    for snapshot in table.snapshots():
        urls.add(snapshot.manifest_list)
        for manifest in snapshot.manifests(table.io):
            urls.add(manifest.manifest_path)
            urls.update(entry.data_file.file_path for entry in manifest.fetch_manifest_entry(table.io))
    urls.update(statistics.statistics_path for statistics in table.metadata.statistics)
    return {place_of(url).path for url in urls}


def _remove_old_spills(limit: float) -> None:
    with contextlib.suppress(OSError):
        for folder in spill_directory().iterdir():
            if folder.stat().st_mtime <= limit:
                shutil.rmtree(folder, ignore_errors=True)
