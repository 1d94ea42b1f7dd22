"""How the file cache of a node is set up."""

from __future__ import annotations

import os
import tempfile
from dataclasses import dataclass, field, fields
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING, Any

from heliostat.exceptions import ConfigurationError

if TYPE_CHECKING:
    from collections.abc import Mapping

_PERCENT_VARIABLES = ("HELIOSTAT_FILE_CACHE_MAX_DISK_PCT", "MLRS_FILE_CACHE_MAX_DISK_PCT")


def _percent() -> float:
    for variable in _PERCENT_VARIABLES:
        text = os.environ.get(variable, "")
        if text:
            try:
                return float(text)
            except ValueError:
                message = f"{variable} is {text!r}, which is not a number."
                raise ConfigurationError(message, "Give a percentage, such as 50.") from None
    return 50.0


@dataclass(frozen=True)
class FileCacheConfig:
    """Settings of the cache; all have defaults.

    Parameters
    ----------
    max_disk_pct:
        Share of the disk, in percent, that the cache may fill; above it, what was not used for
        longest goes. It never takes the last tenth of what is free.
        ``HELIOSTAT_FILE_CACHE_MAX_DISK_PCT`` sets the default of 50.
    evict_interval_sec:
        How often the directory is measured anew; 0 is before each file that is written. Between that the
        processes keep the sum of what they write.
    cache_dir:
        Directory on a disk of the node; default is that for temporary files.
    disk_subdir:
        Directory below it that is the cache's own, and its user's alone.
    """

    max_disk_pct: float = field(default_factory=_percent)
    evict_interval_sec: float = 30
    cache_dir: str = field(default_factory=tempfile.gettempdir)
    disk_subdir: str = field(default_factory=lambda: f"heliostat-cache-{os.getuid()}/file_cache")

    def __post_init__(self) -> None:
        _require_number(
            "max_disk_pct", self.max_disk_pct, 0 < self.max_disk_pct <= 100, "above 0 and up to 100"
        )
        _require_number(
            "evict_interval_sec", self.evict_interval_sec, self.evict_interval_sec >= 0, "0 or more"
        )
        below = PurePosixPath(self.disk_subdir)
        if below.is_absolute() or ".." in below.parts or not below.parts:
            message = f"disk_subdir={self.disk_subdir!r} is not a directory below cache_dir."
            raise ConfigurationError(message, "Give a relative path without '..'.")

    @classmethod
    def of(cls, given: Mapping[str, Any] | None) -> FileCacheConfig:
        """Read what a user gave as ``file_cache_config``. Raises ConfigurationError for unknown keys."""
        if given is None:
            return cls()
        known = [each.name for each in fields(cls)]
        unknown = sorted(set(given) - set(known))
        if unknown:
            message = f"file_cache_config has the key {unknown[0]!r}, which is not one of its settings."
            raise ConfigurationError(message, f"Keys are {', '.join(known)}.", unknown=unknown)
        wrong = [key for key in ("max_disk_pct", "evict_interval_sec") if not _is_number(given.get(key, 0))]
        if wrong:
            message = f"file_cache_config has {wrong[0]}={given[wrong[0]]!r}, which is not a number."
            raise ConfigurationError(message, "Give a number.")
        return cls(**given)

    @property
    def directory(self) -> Path:
        """Where the cache is."""
        return Path(self.cache_dir).expanduser().absolute() / self.disk_subdir


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def _require_number(name: str, value: float, holds: object, wanted: str) -> None:
    if not holds:
        message = f"{name} is {value}."
        raise ConfigurationError(message, f"It must be {wanted}.")
