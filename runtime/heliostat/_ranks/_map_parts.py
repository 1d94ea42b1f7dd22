"""Parts of a connector for ``%%distribute map``: the notebook reads the keys, and ranks their rows."""

from __future__ import annotations

from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, TypeAlias

from heliostat.exceptions import DataError

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    import numpy as np
    import pyarrow as pa

    from heliostat.data._shards import Shard

__all__ = ["KeyedPart", "Part", "Rows", "is_read_by_ranks", "parts_of", "share_of"]


@dataclass(frozen=True)
class Rows:
    """Consecutive rows of a table, and where in it they begin."""

    shard: Shard
    schema: pa.Schema
    first: int

    def read(self) -> Any:
        """Return the rows as a pandas frame that is numbered as the whole table is."""
        import pandas as pd

        from heliostat.data.arrow_ingestor import ArrowIngestor
        from heliostat.data.data_connector import DataConnector

        source = _source(self.shard, self.schema)
        frame = DataConnector(ArrowIngestor.from_source(source)).to_pandas()
        frame.index = pd.RangeIndex(self.first, self.first + len(frame))
        return frame


class Keyed:
    """The parts of all keys: from the keys of a row to the number of its part.

    Parameters
    ----------
    shard, schema:
        All rows.
    by:
        Names of the key columns.
    distinct:
        Each combination of keys once, in columns of the order of ``by``.
    numbers:
        The part that each combination belongs to.
    """

    def __init__(
        self, shard: Shard, schema: pa.Schema, by: Sequence[str], distinct: pa.Table, numbers: Any
    ) -> None:
        import numpy as np

        self._shard, self._schema, self._by = shard, schema, list(by)
        self._levels: list[tuple[Any, Any]] = []
        codes = np.zeros(distinct.num_rows, np.int64)
        for column in distinct.columns:
            values = column.combine_chunks().unique()
            # Numbered anew for each column, so that they stay small however many there are.
            known = np.unique(_coded(codes, column.combine_chunks(), values))
            codes = np.searchsorted(known, _coded(codes, column.combine_chunks(), values))
            self._levels.append((values, known))
        self._numbers = np.empty(codes.max(initial=-1) + 1, np.int64)
        self._numbers[codes] = numbers
        self._wanted: Any = None
        self._found: dict[int, list[tuple[Any, Any]]] | None = None

    def only(self, numbers: Sequence[int]) -> Keyed:
        """The same for a rank that needs these parts alone."""
        import copy

        import numpy as np

        mine = copy.copy(self)
        mine._wanted = np.array(sorted(numbers), np.int64)
        return mine

    def part(self, number: int) -> Any:
        """Return the rows of a part as a pandas frame, numbered as in the table; reads all at first."""
        import numpy as np
        import pyarrow as pa

        if self._found is None:
            self._found = self._read()
        pieces = self._found.pop(number)
        table = pa.Table.from_batches([batch for batch, _ in pieces])
        frame = _pandas(table)
        frame.index = np.concatenate([rows for _, rows in pieces])
        return frame

    def _read(self) -> dict[int, list[tuple[Any, Any]]]:
        import numpy as np

        found: dict[int, list[tuple[Any, Any]]] = {int(number): [] for number in self._wanted}
        first = 0
        for batch in _source(self._shard, self._schema).reader():
            numbers = self._numbers_of(batch)
            rows = np.flatnonzero(np.isin(numbers, self._wanted))
            rows = rows[np.argsort(numbers[rows], kind="stable")]
            chosen, numbers = batch.take(rows), numbers[rows]
            starts: Any = np.flatnonzero(np.r_[True, np.diff(numbers) != 0]) if len(rows) else []
            for start, stop in zip(starts, [*starts[1:], len(rows)], strict=True):
                piece = (chosen.slice(start, stop - start), first + rows[start:stop])
                found[int(numbers[start])].append(piece)
            first += batch.num_rows
        return found

    def _numbers_of(self, batch: Any) -> np.ndarray[Any, Any]:
        import numpy as np

        codes = np.zeros(batch.num_rows, np.int64)
        for name, (values, known) in zip(self._by, self._levels, strict=True):
            codes = np.searchsorted(known, _coded(codes, _plain(batch.column(name)), values))
        return self._numbers[codes]


@dataclass(frozen=True)
class KeyedPart:
    """The rows of one key."""

    keyed: Keyed
    number: int

    def read(self) -> Any:
        """Return them as a pandas frame."""
        return self.keyed.part(self.number)


Part: TypeAlias = Rows | KeyedPart


def is_read_by_ranks(over: Any) -> bool:
    """Whether the rows are not in the notebook's memory already."""
    from heliostat.data._sources._frames import PandasSource, StreamSource, TableSource
    from heliostat.data.data_connector import DataConnector

    return isinstance(over, DataConnector) and not isinstance(
        over.source, PandasSource | StreamSource | TableSource
    )


@contextmanager
def parts_of(
    connector: Any, by: Sequence[str], ranks: int, parts_a_rank: int
) -> Iterator[list[tuple[Any, Part, int]]]:
    """Divide a connector without reading more of it than the keys; for the length of a ``with`` block.

    Gives for each part its key, itself, and its weight, as ``divide`` does. Rows that do not lie in
    Parquet files are streamed to some, which are there as long as the block.

    Raises
    ------
    DataError
        It has no such column, or one whose values are no keys.
    """
    from heliostat.data._shards import Shard, cut, laid_out

    schema = connector.source.schema()
    missing = [name for name in by if name not in schema.names]
    if missing:
        message = f"The table has no column {missing[0]!r}."
        raise DataError(message, f"It has: {', '.join(schema.names)}.", column=missing[0])
    slices, owner = laid_out(connector.source)
    try:
        whole = Shard(slices, tuple(schema.names))
        if by:
            yield _by_keys(whole, schema, by)
        else:
            rows = max(1, -(-whole.rows // (ranks * parts_a_rank)))
            edges = [(start, min(start + rows, whole.rows)) for start in range(0, whole.rows, rows)]
            yield [
                (index, Rows(replace(whole, slices=cut(slices, start, stop)), schema, start), stop - start)
                for index, (start, stop) in enumerate(edges)
            ]
    finally:
        if owner is not None:
            owner.remove()


def share_of(parts: Sequence[tuple[Any, Any, int]], indices: Sequence[int]) -> list[tuple[int, Any, Any]]:
    """What one rank gets: number, key and part of each; parts by key are found in one reading."""
    keyed = next((part.keyed.only(indices) for _, part, _ in parts if isinstance(part, KeyedPart)), None)
    return [
        (index, parts[index][0], parts[index][1] if keyed is None else KeyedPart(keyed, index))
        for index in indices
    ]


def _by_keys(whole: Shard, schema: pa.Schema, by: Sequence[str]) -> list[tuple[Any, Part, int]]:
    import numpy as np
    import pandas as pd

    distinct, categories = _distinct(whole, schema, by)
    counts = distinct.column("rows").to_numpy()
    keys = _pandas(distinct.drop_columns(["rows"]))
    for position, values in categories.items():
        keys[f"k{position}"] = pd.Categorical(keys[f"k{position}"], values)
    names = list(keys.columns)
    groups = keys.groupby(names[0] if len(names) == 1 else names, sort=True, dropna=False)
    numbers = np.empty(len(keys), np.int64)
    found = []
    for number, (key, part) in enumerate(groups):
        numbers[part.index] = number
        found.append((key, int(counts[part.index].sum())))
    keyed = Keyed(whole, schema, by, distinct.drop_columns(["rows"]), numbers)
    return [(key, KeyedPart(keyed, number), rows) for number, (key, rows) in enumerate(found)]


def _distinct(whole: Shard, schema: pa.Schema, by: Sequence[str]) -> tuple[pa.Table, dict[int, list[Any]]]:
    """Each combination of keys with the number of its rows, and the categories of keys that have some."""
    import pyarrow as pa

    names = [f"k{position}" for position in range(len(by))]
    categories: dict[int, dict[Any, None]] = {}
    found: Any = None
    try:
        for batch in _source(whole, schema).reader(by):
            for position, column in enumerate(batch.columns):
                if pa.types.is_dictionary(column.type):
                    categories.setdefault(position, {}).update(dict.fromkeys(column.dictionary.to_pylist()))
            plain = [*map(_plain, batch.columns), pa.repeat(pa.scalar(1, pa.int64()), batch.num_rows)]
            table = pa.table(plain, names=[*names, "rows"])
            both = table if found is None else pa.concat_tables([found, table])
            summed = both.group_by(names, use_threads=False).aggregate([("rows", "sum")])
            found = summed.select([*names, "rows_sum"]).rename_columns([*names, "rows"])
    except pa.ArrowNotImplementedError as error:
        message = f"The columns {', '.join(by)} make no keys: {error}."
        raise DataError(message, "Name columns of numbers, texts or times.", columns=list(by)) from error
    if found is None:
        types = [_plain_type(schema.field(name).type) for name in by]
        found = pa.schema([*zip(names, types, strict=True), ("rows", pa.int64())]).empty_table()
    return found, {position: list(values) for position, values in categories.items()}


def _coded(codes: Any, column: Any, values: Any) -> Any:
    """Combine what is known of each row with the place of its value; nulls have a place as well."""
    import pyarrow.compute as pc

    return codes * len(values) + pc.index_in(column, value_set=values).to_numpy(zero_copy_only=False)


def _plain(column: Any) -> Any:
    return column.dictionary_decode() if hasattr(column, "dictionary_decode") else column


def _plain_type(kind: Any) -> Any:
    import pyarrow as pa

    return kind.value_type if pa.types.is_dictionary(kind) else kind


def _source(shard: Shard, schema: pa.Schema) -> Any:
    from heliostat.data._sources._shard import ShardSource

    return ShardSource(shard, schema)


def _pandas(table: Any) -> Any:
    from heliostat.data.data_connector import DataConnector

    return DataConnector.from_dataframe(table).to_pandas()
