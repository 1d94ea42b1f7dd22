"""``heliostat collect``: remove what killed writers left on stages and in datasets."""

from __future__ import annotations

from typing import TYPE_CHECKING

from heliostat._stages import open_location, stages

if TYPE_CHECKING:
    from collections.abc import Sequence
    from datetime import timedelta


def collect(names: Sequence[str], older_than: timedelta, *, dry_run: bool) -> list[str]:
    """Remove leftovers, and return what was, or with ``dry_run`` would be, removed.

    Parameters
    ----------
    names:
        Places (``@stage/path``, paths, URLs) and names of datasets; without any, all stages.
    older_than:
        Younger files may be those of a writer that is at work.

    Raises
    ------
    DataError
        A place or a dataset cannot be reached.
    """
    found: list[str] = []
    for name in names or [f"@{stage}" for stage in stages()]:
        if name.startswith("@") or "/" in name:
            found += open_location(name).collect_garbage(older_than, dry_run=dry_run)
        else:
            from heliostat.dataset import Dataset

            found += Dataset.load(None, name).collect_garbage(older_than, dry_run=dry_run)
    return found
