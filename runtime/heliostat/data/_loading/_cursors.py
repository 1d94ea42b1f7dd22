"""Parts of a row group, read one after the other.

pyarrow reaches a row of a row group only by decoding what precedes it. A cursor stays where a part
ended, so that the next part costs its own rows alone; and it reads through small buffers, so that
a row group of any size takes little memory.
"""

from __future__ import annotations

import contextlib
import threading
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    import pyarrow as pa

    from heliostat.data._shards import RowSlice

_BATCH_ROWS = 16_384
_KEPT = 4
"""Cursors that wait for their next part: row groups that are read side by side."""


@dataclass
class _Cursor:
    place: tuple[str, int, tuple[str, ...]]
    """File, row group and columns."""
    file: Any
    batches: Iterator[Any]
    row: int = 0
    """Of the row group, the next one."""
    rest: Any = None
    """Of a batch that was read in part."""

    def take(self, start: int, stop: int) -> pa.Table:
        """Return rows ``start`` to ``stop``, or those of them that there are."""
        import pyarrow as pa

        found = []
        while self.row < stop:
            batch = self.rest if self.rest is not None else next(self.batches, None)
            self.rest = None
            if batch is None:
                break
            low = min(max(start - self.row, 0), batch.num_rows)
            high = min(stop - self.row, batch.num_rows)
            found.append(batch.slice(low, high - low))
            if high < batch.num_rows:
                self.rest = batch.slice(high)
            self.row += high
        return pa.Table.from_batches(found)


class Cursors:
    """The cursors of one reader; several threads may use them, each one at a time."""

    def __init__(self) -> None:
        self._waiting: list[_Cursor] = []
        self._lock = threading.Lock()

    def read(self, part: RowSlice, names: Sequence[str], opened: Callable[[], Any]) -> pa.Table:
        """Decode columns of a part; ``opened`` returns its file where no cursor waits for it.

        Raises what pyarrow raises.
        """
        place = (part.path, part.row_group, tuple(names))
        cursor = self._waiting_for(place, part.start)
        if cursor is None:
            file = opened()
            # No more than a part has: where rows are wide, parts are of few.
            rows = min(_BATCH_ROWS, part.rows)
            batches = file.iter_batches(
                rows, row_groups=[part.row_group], columns=list(names), use_threads=False
            )
            cursor = _Cursor(place, file, batches)
        try:
            table = cursor.take(part.start, part.stop)
        except BaseException:
            _closed(cursor)
            raise
        self._keep(cursor)
        return table

    def _waiting_for(self, place: tuple[str, int, tuple[str, ...]], start: int) -> _Cursor | None:
        with self._lock:
            fitting = [one for one in self._waiting if one.place == place and one.row <= start]
            if not fitting:
                return None
            found = max(fitting, key=lambda one: one.row)
            self._waiting.remove(found)
            return found

    def _keep(self, cursor: _Cursor) -> None:
        with self._lock:
            self._waiting.append(cursor)
            old = self._waiting.pop(0) if len(self._waiting) > _KEPT else None
        if old is not None:
            _closed(old)


def _closed(cursor: _Cursor) -> None:
    with contextlib.suppress(Exception):
        cursor.file.close()
