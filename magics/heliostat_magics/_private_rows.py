"""A relation whose names and parameters only this process knows."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from heliostat.data._sources._frames import TableSource
from heliostat.data._sources._relation import RelationSource

if TYPE_CHECKING:
    from heliostat.data.data_source import DataSource

__all__ = ["PrivateRows"]


class PrivateRows(RelationSource):
    """Travels as its rows: the SQL would mean something else, or nothing, where it arrives."""

    def __reduce__(self) -> tuple[Any, ...]:
        return TableSource(self.reader().read_all()).__reduce__()

    def data_sources(self) -> list[DataSource]:
        return []
