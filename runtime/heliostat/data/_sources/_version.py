"""Versions of Heliostat's own datasets: immutable Parquet files that the catalog knows."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from heliostat.data._sources._base import Source, reading

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    import pyarrow as pa

    from heliostat.data._shards import RowSlice
    from heliostat.data._sources._parquet import ParquetSource
    from heliostat.data.data_source import DatasetInfo, DataSource


class DatasetVersionSource(Source):
    """One version. It is looked up once, and workers are told where the files are.

    Parameters
    ----------
    info:
        Names the version.
    **cache:
        ``use_file_cache`` and ``file_cache_config``, see ``docs/stages.md``.
    """

    def __init__(self, info: DatasetInfo, **cache: Any) -> None:
        self._info, self._cache = info, cache
        self._files: ParquetSource | None = None

    def __getstate__(self) -> dict[str, Any]:
        self._found()
        return self.__dict__

    def schema(self) -> pa.Schema:
        return self._found().schema()

    def count(self) -> int:
        return self._found().count()

    def reader(self, columns: Sequence[str] | None = None, limit: int | None = None) -> pa.RecordBatchReader:
        return self._found().reader(columns, limit)

    def data_sources(self) -> list[DataSource]:
        return [self._info]

    def slices(self) -> tuple[RowSlice, ...] | None:
        return self._found().slices()

    def identity(self) -> tuple[str, ...]:
        # Not the name: a version may be deleted, and another be made that is called the same.
        return self._found().identity()

    def _found(self) -> ParquetSource:
        if self._files is None:
            self._files = _lookup(self._info, self._cache)
        return self._files


def _lookup(info: DatasetInfo, cache: Mapping[str, Any]) -> ParquetSource:
    from heliostat._file_cache import cached_filesystem
    from heliostat._location import Entry, Location
    from heliostat.data._sources._parquet import ParquetSource
    from heliostat.dataset._resolve import data_files

    found = data_files(info)
    with reading(f"The version {info.version!r} of {info.fully_qualified_name}"):
        infos = found.filesystem.get_file_info(list(found.files))
    filesystem = cached_filesystem(found.filesystem, **cache)
    return ParquetSource(
        [Entry(Location(filesystem, i.path, i.path), i.size or 0, None) for i in infos], [info]
    )
