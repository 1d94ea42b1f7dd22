"""Batches that are dictionaries of arrays by column name."""

from __future__ import annotations

import contextlib
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from heliostat.data._loading import _columns

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    import pyarrow as pa

    from heliostat.data._loading._forms import Array, Stored, Tools, Unit


@dataclass(frozen=True)
class Columns:
    """A dictionary of arrays by column name; text and other objects are Python lists in batches.

    Blocks are dictionaries of arrays, and of Arrow arrays where NumPy has no type; raw ones, and
    each unit's part of an unfinished one, are tables.
    """

    columns: tuple[str, ...]
    bytes_of_row: int

    @property
    def identity(self) -> str:
        return f"columns {self.columns!r}"

    def row_bytes(self) -> int:
        return self.bytes_of_row

    def new(self, tools: Tools, units: Sequence[Unit]) -> Any:
        return [None] * len(units), units[0].slices[0].path

    def fill(
        self, tools: Tools, block: Any, units: Sequence[Unit], number: int, places: Array | None
    ) -> None:
        block[0][number] = self._table(tools, units[number])

    def finished(self, block: Any, places: Array | None) -> Any:
        return self._placed(self._converted(*block), places)

    def raw(self, tools: Tools, unit: Unit, places: Array) -> Any:
        return self._table(tools, unit).take(_order(places))

    def part(self, block: Any, start: int, stop: int) -> Any:
        if not isinstance(block, dict):
            return block.slice(start, stop - start)
        return {name: _columns.part(column, start, stop) for name, column in block.items()}

    def joined(self, blocks: list[Any]) -> Any:
        return {name: _columns.joined([block[name] for block in blocks]) for name in self.columns}

    def dump(self, block: Any) -> list[Any]:
        import pyarrow as pa

        sink = pa.BufferOutputStream()
        with pa.ipc.new_stream(sink, block.schema) as writer:
            writer.write_table(block)
        return [sink.getvalue()]

    def load(self, tools: Tools, pieces: Iterable[tuple[Stored, int]], rows: int, places: Array) -> Any:
        tables = [_parsed(stored.content()) for stored, _ in pieces]
        return self._placed(self._converted(tables, "a stored unit"), places)

    def _placed(self, block: Any, places: Array | None) -> Any:
        if places is None:
            return block
        order = _order(places)
        return {name: _columns.take(column, order) for name, column in block.items()}

    def _table(self, tools: Tools, unit: Unit) -> Any:
        import pyarrow as pa

        key = None if tools.cache is None else tools.cache.key(unit.slices, self.identity)
        if tools.cache is not None and (found := tools.cache.read(key)) is not None:
            with contextlib.suppress(pa.ArrowException):  # a damaged file is read anew
                return _parsed(found)
        table = pa.concat_tables(
            [tools.decoder.table(piece, self.columns, use_threads=tools.use_threads) for piece in unit.slices]
        )
        if tools.cache is not None:
            tools.cache.write(key, self.dump(table))
        return table

    def _converted(self, tables: Sequence[pa.Table], where: str) -> Any:
        import pyarrow as pa

        table = tables[0] if len(tables) == 1 else pa.concat_tables(tables).unify_dictionaries()
        return {name: _columns.batch_column(table.column(name), name, where) for name in self.columns}


def _order(places: Array) -> Array:
    """Which row comes where, from where each row goes."""
    order = np.empty_like(places)
    order[places] = np.arange(len(places))
    return order


def _parsed(buffer: Any) -> pa.Table:
    import pyarrow as pa

    return pa.ipc.open_stream(buffer).read_all()
