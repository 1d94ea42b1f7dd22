"""Rows as a pandas DataFrame."""

from __future__ import annotations

from typing import TYPE_CHECKING

from heliostat._extras import require

if TYPE_CHECKING:
    import pandas as pd

    from heliostat.data._sources import Source


def to_pandas(source: Source, limit: int | None = None) -> pd.DataFrame:
    """Load the first ``limit`` rows (default: all). Raises MissingDependencyError without pandas."""
    require("pandas", "pandas", "to_pandas()")
    table = source.reader(limit=limit).read_all()
    # Only buffers that are nobody else's may be freed while they are converted.
    frame: pd.DataFrame = table.to_pandas(split_blocks=source.owned, self_destruct=source.owned)
    return frame
