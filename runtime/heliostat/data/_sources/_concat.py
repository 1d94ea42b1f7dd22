"""Several sources with the same columns, one after the other."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from heliostat.data._sources._base import Source, selected, streamed
from heliostat.exceptions import DataError

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    import pyarrow as pa

    from heliostat.data._shards import RowSlice
    from heliostat.data.data_source import DataSource


class ConcatSource(Source):
    """Rows of the first source, then those of the next. All must have the columns of the first."""

    def __init__(self, parts: Sequence[Source]) -> None:
        self.parts = tuple(parts)

    def schema(self) -> pa.Schema:
        first, *others = (part.schema() for part in self.parts)
        for number, other in enumerate(others, start=2):
            for name in dict.fromkeys([*first.names, *other.names]):
                here, there = (s.field(name).type if name in s.names else "missing" for s in (first, other))
                if here != there:
                    message = f"The column {name!r} is {here} in source 1 and {there} in source {number}."
                    raise DataError(message, "Pass sources with the same columns.", column=name)
        return first

    def count(self) -> int:
        return sum(part.count() for part in self.parts)

    def reader(self, columns: Sequence[str] | None = None, limit: int | None = None) -> pa.RecordBatchReader:
        schema = selected(self.schema(), columns)
        return streamed(schema, self._batches(schema.names), limit)

    def data_sources(self) -> list[DataSource]:
        return [source for part in self.parts for source in part.data_sources()]

    def slices(self) -> tuple[RowSlice, ...] | None:
        self.schema()
        parts = [part.slices() for part in self.parts]
        if any(part is None for part in parts):
            return None
        return tuple(piece for part in parts for piece in part or ())

    def _batches(self, columns: Sequence[str]) -> Iterator[Any]:
        for part in self.parts:
            yield from part.reader(columns)


def concatenated(parts: Sequence[Source]) -> Source:
    """Return the only part, or all of them in a row."""
    return parts[0] if len(parts) == 1 else ConcatSource(parts)
