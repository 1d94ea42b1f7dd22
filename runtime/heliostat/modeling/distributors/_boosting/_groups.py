"""Ranking groups: by sizes or by numbers, always handed on as a number for each row."""

from __future__ import annotations

from typing import Any

from heliostat.exceptions import ConfigurationError


def group_ids(qid: Any, group: Any) -> Any:
    """Return what names each row's group: ``qid`` as it is, or numbers made of sizes."""
    if group is None:
        return qid
    if qid is not None:
        message = "Both qid and group say what the groups are."
        raise ConfigurationError(message, "Pass one of them.")
    if isinstance(group, str):
        message = f"group={group!r} is a name; group has the sizes of the groups."
        raise ConfigurationError(message, f"Pass qid={group!r}, the column that names each row's group.")
    import numpy as np

    sizes = np.asarray(group)
    if sizes.ndim != 1 or sizes.dtype.kind not in "iu" or (sizes < 1).any():
        message = "group is not a list of sizes."
        raise ConfigurationError(message, "Pass how many rows each group has, in their order.")
    return np.repeat(np.arange(len(sizes)), sizes)
