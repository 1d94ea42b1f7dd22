"""Sets of shards: a small file beside them says which belong together, and is written last.

A reader takes the shards that it names. So a set is there as a whole or not at all, and while one
set takes the place of another, readers see the one or the other.
"""

from __future__ import annotations

import re
from dataclasses import replace
from typing import TYPE_CHECKING

import msgspec

from heliostat.exceptions import DataError
from heliostat.ray._listing import StageFiles, matching

if TYPE_CHECKING:
    from collections.abc import Sequence

    from heliostat._location import Entry, Location

_NAME = re.compile(r"_(?P<prefix>.+)\.shards\.json")


class ShardSet(msgspec.Struct, frozen=True):
    """Which shards belong together."""

    prefix: str
    generation: str
    sizes: dict[str, int]
    """Bytes of each shard by name, in order."""

    def is_ours(self, name: str) -> bool:
        """Whether a file is a shard of this prefix, of whatever generation."""
        return is_shard(name, self.prefix)


def is_shard(name: str, prefix: str) -> bool:
    """Whether a file has a name that ``generate_shards`` gives to shards of ``prefix``."""
    return re.fullmatch(rf"{re.escape(prefix)}-[0-9a-f]{{8}}-\d{{5,}}\.arrow", name) is not None


def manifest_of(directory: Location, prefix: str) -> Location:
    """Where the set of a prefix is described."""
    return directory.join(f"_{prefix}.shards.json")


def only_whole_sets(files: StageFiles, where: str, file_pattern: str | Sequence[str]) -> StageFiles:
    """Narrow a listing to the shards that belong together.

    Raises
    ------
    DataError
        A set lacks a shard, or one has another size; or there are no shards.
    """
    shards = list(matching(files, file_pattern))
    by_path = {entry.location.path: entry for entry in files.entries}
    for entry in files.entries:
        if _NAME.fullmatch(entry.location.name):
            directory = entry.location.path.rpartition("/")[0]
            told = _read(entry)
            _require_whole(told, directory, by_path, where)
            shards = [s for s in shards if not _is_leftover(s, told, directory)]
    if not shards:
        message = f"There are no shards in {where}."
        raise DataError(message, "Make them with generate_shards(src, dest).", url=where)
    return replace(files, entries=tuple(shards))


def _read(entry: Entry) -> ShardSet:
    try:
        return msgspec.json.decode(entry.location.read_bytes(), type=ShardSet)
    except msgspec.MsgspecError as error:
        message = f"{entry.location} does not describe shards: {error}."
        raise DataError(message, "Run generate_shards again.", file=entry.location.url) from error


def _require_whole(told: ShardSet, directory: str, found: dict[str, Entry], where: str) -> None:
    for name, size in told.sizes.items():
        entry = found.get(f"{directory}/{name}")
        if entry is None or entry.size != size:
            what = "is not there" if entry is None else f"has {entry.size} bytes instead of {size}"
            message = f"The shards in {where} are not complete: {name} {what}."
            raise DataError(message, "Run generate_shards again.", file=name)


def _is_leftover(entry: Entry, told: ShardSet, directory: str) -> bool:
    name = entry.location.name
    same_directory = entry.location.path.rpartition("/")[0] == directory
    return same_directory and told.is_ours(name) and name not in told.sizes
