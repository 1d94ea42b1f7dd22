"""Files on a stage as Ray Data sources: ``ray.data.read_datasource(SFStageTextDataSource(...))``.

The reading is Ray's own; what is added is stages, names of files, and the file cache of the node.

All take ``stage_location`` (``@stage/prefix``, ``stage/prefix``, a path or a URL; a prefix unless
it ends with a slash), ``database`` and ``schema`` (in front of the stage's name), ``file_pattern``
(one shell pattern or a list), ``use_file_cache`` and ``file_cache_config`` (see
``docs/stages.md``), and what Ray's ``FileBasedDatasource`` takes. ``include_paths=True`` adds the
column ``path``, which can be opened again; text, which names it, adds a column of that name.
They raise ``ConfigurationError`` for a location that cannot be understood and ``DataError`` when
there are no files; a file that cannot be read fails the read with a ``DataError`` that names it.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from ray.data.datasource import FileBasedDatasource

from heliostat._cluster.datasources import ImageDatasource, TextDatasource
from heliostat.exceptions import ConfigurationError
from heliostat.ray._csv_source import SFStageCSVDataSource
from heliostat.ray._parquet_source import SFStageParquetDataSource
from heliostat.ray._reading import StageReading
from heliostat.ray._shard_source import SFStageShardDataSource

if TYPE_CHECKING:
    from collections.abc import Iterator

__all__ = [
    "SFStageBinaryFileDataSource",
    "SFStageCSVDataSource",
    "SFStageImageDataSource",
    "SFStageParquetDataSource",
    "SFStageShardDataSource",
    "SFStageTextDataSource",
]


class SFStageBinaryFileDataSource(StageReading, FileBasedDatasource):  # type: ignore[misc]
    """Files as they are: a row for each, with ``file_binary`` and ``file_name``.

    ``file_name`` is the path below the stage location's directory. ``local_path`` is accepted and
    not needed: bytes go from the stage to the rows.
    """

    _names_column = "file_name"

    def __init__(self, *, local_path: str | None = None, **stage: Any) -> None:
        del local_path
        super().__init__(**stage)

    def _rows_per_file(self) -> int:
        return 1

    def _decode(self, f: Any, path: str) -> Iterator[Any]:
        import pyarrow as pa

        del path
        yield pa.table({"file_binary": pa.array([f.readall()], pa.large_binary())})

    def _open_input_source(self, filesystem: Any, path: str, **open_args: Any) -> Any:
        del open_args
        return self._open_verbatim(filesystem, path)


class SFStageImageDataSource(StageReading, ImageDatasource):  # type: ignore[misc]
    """Images: a row for each, with ``image``, an array of (height, width[, channels]).

    ``include_paths=True`` adds ``path``; ``include_paths="file_name"`` adds that spelling, which
    older code reads. ``image_size`` is (height, width); ``image_mode`` is Pillow's, such as ``"RGB"``.
    """

    def __init__(
        self, *, image_size: tuple[int, int] | None = None, image_mode: str | None = None, **stage: Any
    ) -> None:
        if image_size is not None and (len(image_size) != 2 or not all(side > 0 for side in image_size)):
            message = f"image_size={image_size!r} is not a size."
            raise ConfigurationError(message, "Pass (height, width), both above 0.")
        super().__init__(**stage, size=image_size, mode=image_mode)


class SFStageTextDataSource(StageReading, TextDatasource):  # type: ignore[misc]
    """Text: a row for each line, with ``text`` and ``file_name``.

    ``whole_files=True`` gives a row for each file. Also takes Ray's ``drop_empty_lines`` and
    ``encoding``.
    """

    _names_column = "file_name"

    def __init__(self, *, whole_files: bool = False, **stage: Any) -> None:
        super().__init__(**stage)
        self._whole_files = whole_files

    def _decode(self, f: Any, path: str) -> Iterator[Any]:
        if not self._whole_files:
            yield from super()._decode(f, path)
            return
        import pyarrow as pa

        yield pa.table({"text": pa.array([f.readall().decode(self.encoding)], pa.large_string())})
