"""Packing many small files into few large shards, which are read several times as fast."""

from __future__ import annotations

import uuid
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Any

import msgspec

from heliostat import _progress as progress
from heliostat.exceptions import ConfigurationError, DataError
from heliostat.ray._listing import find_files, open_directory
from heliostat.ray._manifest import ShardSet, is_shard, manifest_of

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from heliostat._location import Entry, Location

__all__ = ["generate_shards"]

_BATCH_BYTES = 16 << 20
_BATCH_FILES = 1024
_AT_ONCE = 16
"""Files that are fetched at a time for one shard."""


def generate_shards(
    src: str,
    dest: str,
    *,
    file_pattern: str | Sequence[str] | None = None,
    target_shard_size_mb: float = 256,
    include_paths: bool = True,
    force_cleanup: bool = False,
    file_prefix: str = "shard",
    overwrite: bool = True,
    database: str | None = None,
    schema: str | None = None,
) -> list[str]:
    """Pack the files of a stage location into Arrow files, for ``SFStageShardDataSource``.

    A row is a file: ``bytes`` as they are, and ``path``, in the order of the paths. Shards are
    written side by side by the runtime's workers, if there is one, and else by threads. Until the
    last one is written, readers see what was there before; so they do when it fails.

    Parameters
    ----------
    src:
        Stage location of the files, a prefix as for the sources.
    dest:
        Directory on a stage for the shards.
    file_pattern:
        Shell pattern of the files to pack, or several.
    target_shard_size_mb:
        Megabytes (of 1024 x 1024) of a shard. A file that is larger has a shard of its own.
    include_paths:
        Whether there is a column ``path``.
    force_cleanup:
        Remove everything else in ``dest`` when the shards are written.
    file_prefix:
        Beginning of the shards' names.
    overwrite:
        Replace the shards of this prefix that are there; else they are an error.
    database, schema:
        Of both stages.

    Returns
    -------
    list[str]
        The shards, in order.

    Raises
    ------
    ConfigurationError
        An argument cannot be used.
    DataError
        There are no files, one cannot be read, or there are shards already; nothing was changed.
    """
    if not target_shard_size_mb > 0:
        message = f"target_shard_size_mb={target_shard_size_mb} is not above 0."
        raise ConfigurationError(message, "Pass megabytes, such as 256.")
    if not file_prefix or "/" in file_prefix or file_prefix.startswith((".", "_")):
        message = f"file_prefix={file_prefix!r} cannot begin the name of a file."
        raise ConfigurationError(message, "Use a plain word.")
    files = find_files(src, database=database, schema=schema, file_pattern=file_pattern)
    directory = open_directory(dest, database, schema)
    _require_apart(files.entries, directory)
    manifest = manifest_of(directory, file_prefix)
    if not overwrite and manifest.exists():
        message = f"There are shards {file_prefix!r} in {directory} already."
        raise DataError(message, "Pass overwrite=True, or another file_prefix.", url=directory.url)
    generation = uuid.uuid4().hex[:8]
    groups = list(_groups(files.entries, target_shard_size_mb * 2**20))
    targets = [directory.join(f"{file_prefix}-{generation}-{i:05d}.arrow") for i in range(len(groups))]
    try:
        sizes = _write_all(groups, targets, include_paths)
        told = ShardSet(file_prefix, generation, dict(zip((t.name for t in targets), sizes, strict=True)))
        manifest.write_bytes(msgspec.json.encode(told))
    except BaseException:
        _remove(targets)
        raise
    _clean(directory, told, manifest, everything=force_cleanup)
    return [target.url for target in targets]


def _groups(entries: Sequence[Entry], most: float) -> Iterator[list[Location]]:
    group: list[Location] = []
    size = 0
    for entry in entries:
        if group and size + entry.size > most:
            yield group
            group, size = [], 0
        group.append(entry.location)
        size += entry.size
    yield group


def _require_apart(entries: Sequence[Entry], directory: Location) -> None:
    """Shards are not packed into shards, and cleaning up does not remove what was packed."""
    inside = next((e for e in entries if e.location.path.startswith(f"{directory.path}/")), None)
    if inside is not None and inside.location.filesystem == directory.filesystem:
        message = f"{inside.location} lies in {directory}, where the shards shall go."
        raise ConfigurationError(message, "Pass a directory outside of src.", dest=directory.url)


def _write_all(groups: list[list[Location]], targets: list[Location], include_paths: bool) -> list[int]:
    import ray

    with progress.task("shards", f"Packing into {len(groups)} shards", total=len(groups)) as task:
        if ray.is_initialized():
            write = ray.remote(write_shard)
            refs = [write.remote(*pair, include_paths) for pair in zip(groups, targets, strict=True)]
            left = list(refs)
            try:
                while left:
                    done, left = ray.wait(left, timeout=0.5)
                    ray.get(done)
                    task.update(done=len(refs) - len(left))
                    task.check()
            except BaseException:
                # What is still being written would come to be after it was cleaned up.
                for ref in left:
                    ray.cancel(ref, force=False)
                ray.wait(left, num_returns=len(left), timeout=30)
                raise
            sizes: list[int] = ray.get(refs)
            return sizes
        sizes = []
        for pair in zip(groups, targets, strict=True):
            sizes.append(write_shard(*pair, include_paths))
            task.update(done=len(sizes))
            task.check()
        return sizes


def write_shard(files: list[Location], target: Location, include_paths: bool) -> int:
    """Write one shard and return its bytes; a few files are held at a time. Raises DataError."""
    import pyarrow as pa

    fields = [pa.field("bytes", pa.large_binary()), pa.field("path", pa.string())]
    schema = pa.schema(fields[: 2 if include_paths else 1])
    with target.open_output() as file:
        with pa.ipc.new_file(file, schema) as writer:
            for names, contents in _batches(files):
                columns = [pa.array(contents, pa.large_binary()), pa.array(names, pa.string())]
                writer.write_batch(pa.record_batch(columns[: len(schema)], schema=schema))
        size: int = file.tell()
    return size


def _batches(files: list[Location]) -> Iterator[tuple[list[str], list[bytes]]]:
    names: list[str] = []
    contents: list[bytes] = []
    size = 0
    with ThreadPoolExecutor(_AT_ONCE) as pool:
        for some in _batched(files):
            for place, content in zip(some, pool.map(type(some[0]).read_bytes, some), strict=True):
                names.append(place.url)
                contents.append(content)
                size += len(content)
                if size >= _BATCH_BYTES or len(names) >= _BATCH_FILES:
                    yield names, contents
                    names, contents, size = [], [], 0
    if names:
        yield names, contents


def _batched(files: list[Location]) -> Iterator[Any]:
    return (files[start : start + _AT_ONCE] for start in range(0, len(files), _AT_ONCE))


def _remove(targets: Sequence[Location]) -> None:
    for target in targets:
        if target.exists():
            target.delete()


def _clean(directory: Location, told: ShardSet, manifest: Location, *, everything: bool) -> None:
    """Remove what the new shards replace. Readers do not look at it any more."""
    for entry in directory.list():
        place = entry.location
        ours = place.path.rpartition("/")[0] == directory.path and is_shard(place.name, told.prefix)
        if (everything or ours) and place.name not in told.sizes and place != manifest:
            place.delete()
