"""Decoding of row groups: one row group at a time, on the calling thread, with the GIL released.

pyarrow decodes everything. Polars is asked for plain numbers of local files where it is
installed: its decoder needs two thirds of the time for them. It must not run in a forked process
(its threads are not there), and whatever it cannot read pyarrow reads, or says why not.
"""

from __future__ import annotations

import os
import threading
from collections import OrderedDict
from typing import TYPE_CHECKING, Any

from heliostat.data._loading._columns import number_array
from heliostat.data._loading._cursors import Cursors
from heliostat.exceptions import DataError

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    import numpy as np
    import pyarrow as pa

    from heliostat.data._shards import RowSlice

DECODER_VARIABLE = "HELIOSTAT_DECODER"
"""``pyarrow`` or ``polars``; the default is to choose."""

PART_BYTES = 32 << 20
"""Decoded bytes of a unit, at most: larger row groups are read in parts."""
MOST_PARTS = 8
"""Of a row group that Polars reads: it reads the stored bytes anew for each part."""

READ_BYTES = 16 << 20
"""Stored bytes of columns that Polars is given at a time: it holds all that it is given."""

_STREAM_BYTES = 256 << 10
_OPEN_FILES = 64
_forked = False


def _note_fork() -> None:
    global _forked  # noqa: PLW0603 - a fact about the process
    _forked = True


os.register_at_fork(after_in_child=_note_fork)


class Decoder:
    """Reads slices of row groups; may be called from several threads."""

    def __init__(self) -> None:
        self._footers: OrderedDict[str, Any] = OrderedDict()
        self._scans: OrderedDict[str, Any] = OrderedDict()
        self._lock = threading.Lock()
        self._cursors = Cursors()
        self._polars = usable_polars()

    def table(self, part: RowSlice, names: Sequence[str], *, use_threads: bool = False) -> pa.Table:
        """Decode some columns, in the order of ``names``. Raises DataError with file and column."""
        import pyarrow as pa

        try:
            whole = part.start == 0 and part.stop == self._rows(part)
            if whole:
                with self._open(part) as file:
                    table = file.read_row_group(part.row_group, columns=list(names), use_threads=use_threads)
            else:
                table = self._cursors.read(part, names, lambda: self._open(part, streamed=True))
        except (pa.ArrowException, OSError) as error:
            raise self._explained(part, names, error) from error
        if missing := [name for name in names if name not in table.column_names]:
            message = f"{part.path} has no column {missing[0]!r}, which other files of the table have."
            raise DataError(message, "Write the files with one schema.", path=part.path, column=missing[0])
        if table.num_rows < part.rows:
            raise _changed(part)
        return table.select(list(names))

    def numbers(
        self, part: RowSlice, names: Sequence[str], *, plain: bool, use_threads: bool = False
    ) -> list[np.ndarray[Any, Any]]:
        """Decode columns of numbers; ``plain`` says that none needs a conversion beyond a cast."""
        if plain and self._polars is not None and part.filesystem is None:
            found = self._by_polars(part, names)
            if found is not None:
                return found
        table = self.table(part, names, use_threads=use_threads)
        return [number_array(table.column(name), name, part.path) for name in names]

    def texts(self, part: RowSlice, names: Sequence[str]) -> pa.Table:
        """Decode columns of text."""
        if self._polars is not None and part.filesystem is None:
            frames = self._frames(part, names)
            if frames is not None:
                pl = self._polars
                joined = frames[0] if len(frames) == 1 else pl.concat(frames, how="horizontal")
                return joined.to_arrow(compat_level=pl.CompatLevel.oldest())
        return self.table(part, names)

    def footer(self, part: RowSlice) -> Any:
        """Metadata of the slice's file; kept for the files read last."""
        return self._kept(self._footers, part.path, lambda: _read_footer(part))

    def _by_polars(self, part: RowSlice, names: Sequence[str]) -> list[np.ndarray[Any, Any]] | None:
        frames = self._frames(part, names)
        if frames is None:
            return None
        pl = self._polars
        kinds = [column.dtype for frame in frames for column in frame.get_columns()]
        if not all(kind.is_integer() or kind.is_float() or kind == pl.Boolean for kind in kinds):
            return None  # a file that differs from the others: pyarrow names it
        # Nulls among booleans would make an array of objects; among integers they make floats.
        return [
            (
                column.cast(pl.Float64) if column.dtype == pl.Boolean and column.null_count() else column
            ).to_numpy()
            for frame in frames
            for column in frame.get_columns()
        ]

    def _frames(self, part: RowSlice, names: Sequence[str]) -> list[Any] | None:
        """Decode by Polars; ``None`` where it cannot, and pyarrow tries again and names the place."""
        pl = self._polars
        footer = self.footer(part)
        first = sum(footer.row_group(index).num_rows for index in range(part.row_group)) + part.start
        try:
            scan = self._kept(self._scans, part.path, lambda: pl.scan_parquet(part.path, glob=False))
            frames = [
                scan.select(some).slice(first, part.rows).collect() for some in self._portions(part, names)
            ]
        except (pl.exceptions.PolarsError, pl.exceptions.PanicException, OSError):
            return None
        return frames if all(frame.height == part.rows for frame in frames) else None

    def _portions(self, part: RowSlice, names: Sequence[str]) -> list[list[str]]:
        """Divide columns so that each portion's stored bytes are few, if there are many in all."""
        group = self.footer(part).row_group(part.row_group)
        if group.total_byte_size <= 2 * READ_BYTES:
            return [list(names)]
        sizes = {
            chunk.path_in_schema: chunk.total_compressed_size
            for chunk in map(group.column, range(group.num_columns))
        }
        portions: list[list[str]] = []
        room = 0
        for name in names:
            size = sizes.get(name, 0)
            if size > room or not portions:
                portions.append([])
                room = READ_BYTES
            portions[-1].append(name)
            room -= size
        return portions

    def _rows(self, part: RowSlice) -> int:
        footer = self.footer(part)
        if part.row_group >= footer.num_row_groups:
            raise _changed(part)
        return int(footer.row_group(part.row_group).num_rows)

    def _open(self, part: RowSlice, *, streamed: bool = False) -> Any:
        """Open the slice's file; ``streamed`` to read columns through small buffers, not whole."""
        import pyarrow.parquet as pq

        self._rows(part)
        options: dict[str, Any] = {"memory_map": part.filesystem is None}
        if streamed:
            options = {"pre_buffer": False, "buffer_size": _STREAM_BYTES}
        return pq.ParquetFile(part.path, metadata=self.footer(part), filesystem=part.filesystem, **options)

    def _kept(self, kept: OrderedDict[str, Any], path: str, make: Callable[[], Any]) -> Any:
        with self._lock:
            if path in kept:
                kept.move_to_end(path)
                return kept[path]
        made = make()
        with self._lock:
            kept[path] = made
            while len(kept) > _OPEN_FILES:
                kept.popitem(last=False)
        return made

    def _explained(self, part: RowSlice, names: Sequence[str], error: Exception) -> DataError:
        """Find the column that cannot be decoded, and say so."""
        import pyarrow as pa

        broken = None
        for name in names:
            try:
                with self._open(part) as file:
                    file.read_row_group(part.row_group, columns=[name], use_threads=False)
            except DataError as found:
                return found
            except (pa.ArrowException, OSError):
                broken = name
                break
        where = f"row group {part.row_group} of {part.path}"
        what = f"Column {broken!r} in {where}" if broken is not None else where.capitalize()
        reason = "; ".join(str(word) for word in error.args).strip() or type(error).__name__
        return DataError(
            f"{what} cannot be read: {reason}.",
            "Write the file again, or leave the column out.",
            path=part.path,
            column=broken,
        )


def _read_footer(part: RowSlice) -> Any:
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        source = (
            pa.memory_map(part.path)
            if part.filesystem is None
            else part.filesystem.open_input_file(part.path)
        )
        with source:
            if part.size is not None and source.size() != part.size:
                raise _changed(part)
            return pq.read_metadata(source)
    except FileNotFoundError as error:
        message = f"The file {part.path} is gone; it was there when the data was looked at."
        raise DataError(message, "Make the connector again.", path=part.path) from error
    except (pa.ArrowException, OSError) as error:
        reason = "; ".join(str(word) for word in error.args)
        message = f"{part.path} cannot be read as Parquet: {reason}."
        raise DataError(message, "Write the file again.", path=part.path) from error


def _changed(part: RowSlice) -> DataError:
    message = f"The file {part.path} has changed since the data was looked at."
    return DataError(message, "Make the connector again.", path=part.path)


def usable_polars() -> Any:
    """Return the module if it may decode in this process, else ``None``."""
    wish = os.environ.get(DECODER_VARIABLE, "")
    if wish == "pyarrow" or _forked:
        return None
    try:
        import polars as pl
    except ImportError:
        return None
    return pl
