"""The kinds of data that are at hand in this process, each behind the same three verbs.

A source can say its schema, count its rows, and stream them as Arrow batches from the start.
A relation is streamed by DuckDB as the reader advances; frames in memory are sliced; a
``RecordBatchReader`` can be read once.
"""

from __future__ import annotations

from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, Protocol

from heliostat._extras import require
from heliostat.exceptions import DataError

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    import duckdb
    import pyarrow as pa

BATCH_ROWS = 65_536
"""Rows of one batch that a query streams."""


class Source(Protocol):
    """Rows that can be read as Arrow."""

    def schema(self) -> pa.Schema:
        """Names and types of the columns."""
        ...

    def count(self) -> int:
        """Count the rows."""
        ...

    def reader(self, columns: Sequence[str] | None = None, limit: int | None = None) -> pa.RecordBatchReader:
        """Stream the rows of ``columns``, at most ``limit`` of them."""
        ...


class RelationSource:
    """A DuckDB relation: query, count and projection run inside DuckDB."""

    def __init__(self, relation: duckdb.DuckDBPyRelation) -> None:
        self.relation = relation

    def schema(self) -> pa.Schema:
        return self.relation.limit(0).to_arrow_table().schema

    def count(self) -> int:
        rows: int = self.relation.count("*").fetchall()[0][0]
        return rows

    def reader(self, columns: Sequence[str] | None = None, limit: int | None = None) -> pa.RecordBatchReader:
        import duckdb

        relation = self.relation
        if columns is not None:
            relation = relation.select(*(duckdb.ColumnExpression(name) for name in columns))
        if limit is not None:
            relation = relation.limit(limit)
        try:
            return relation.to_arrow_reader(BATCH_ROWS)
        except duckdb.Error as error:
            message = f"The relation cannot be read: {error}"
            raise DataError(message) from error


class TableSource:
    """A pyarrow Table."""

    def __init__(self, table: pa.Table) -> None:
        self.table = table

    def schema(self) -> pa.Schema:
        return self.table.schema

    def count(self) -> int:
        rows: int = self.table.num_rows
        return rows

    def reader(self, columns: Sequence[str] | None = None, limit: int | None = None) -> pa.RecordBatchReader:
        table = self.table if columns is None else self.table.select(list(columns))
        return (table if limit is None else table.slice(0, limit)).to_reader()


class PandasSource:
    """A pandas DataFrame, converted when it is read; its index is left out."""

    def __init__(self, frame: Any) -> None:
        self.frame = frame

    def schema(self) -> pa.Schema:
        import pyarrow as pa

        with _named_column():
            return pa.Schema.from_pandas(self.frame, preserve_index=False)

    def count(self) -> int:
        return len(self.frame)

    def reader(self, columns: Sequence[str] | None = None, limit: int | None = None) -> pa.RecordBatchReader:
        import pyarrow as pa

        frame = self.frame if columns is None else self.frame[list(columns)]
        with _named_column():
            table = pa.Table.from_pandas(frame if limit is None else frame.head(limit), preserve_index=False)
        return table.to_reader()


class StreamSource:
    """An object with ``__arrow_c_stream__``: a frame that streams anew each time, or a one-time reader."""

    def __init__(self, stream: Any) -> None:
        import pyarrow as pa

        self.stream = stream
        self.once = isinstance(stream, pa.RecordBatchReader)
        self.read = False

    def schema(self) -> pa.Schema:
        return self.stream.schema if self.once else self._open().schema

    def count(self) -> int:
        if self.once:
            message = "The rows of a RecordBatchReader cannot be counted without using them up."
            raise DataError(message, "Call read_all() on it and pass the table.")
        return sum(batch.num_rows for batch in self._open())

    def reader(self, columns: Sequence[str] | None = None, limit: int | None = None) -> pa.RecordBatchReader:
        import pyarrow as pa

        reader = self._open()
        schema = reader.schema if columns is None else pa.schema([reader.schema.field(c) for c in columns])
        return pa.RecordBatchReader.from_batches(schema, _narrowed(reader, columns, limit))

    def _open(self) -> pa.RecordBatchReader:
        import pyarrow as pa

        if not self.once:
            return pa.RecordBatchReader.from_stream(self.stream)
        if self.read:
            message = "The RecordBatchReader has been read already, and it can be read once."
            raise DataError(message, "Call read_all() on it first and pass the table.")
        self.read = True
        return self.stream


def source_of(data: Any) -> Source:
    """Return the source for whatever speaks Arrow.

    Raises
    ------
    DataError
        The object is of a kind that cannot be read.
    """
    import pyarrow as pa

    module = type(data).__module__
    if isinstance(data, pa.Table):
        return TableSource(data)
    if isinstance(data, pa.RecordBatch):
        return TableSource(pa.Table.from_batches([data]))
    # By name, so that asking does not import them.
    if module.partition(".")[0] == "pandas" and hasattr(data, "columns"):
        return PandasSource(data)
    if "duckdb" in module and hasattr(data, "sql_query"):
        return RelationSource(data)
    if hasattr(data, "__arrow_c_stream__"):
        return StreamSource(data)
    message = f"A {type(data).__module__}.{type(data).__qualname__} cannot be read as rows."
    action = (
        "Pass a DuckDB relation, a pandas or Polars DataFrame, a pyarrow Table or RecordBatchReader,"
        " or an object with __arrow_c_stream__."
    )
    raise DataError(message, action)


def to_pandas(reader: pa.RecordBatchReader, *, owned: bool) -> Any:
    """Load a stream into pandas; ``owned`` buffers are freed while they are converted."""
    require("pandas", "pandas", "to_pandas()")
    table = reader.read_all()
    return table.to_pandas(split_blocks=owned, self_destruct=owned)


@contextmanager
def _named_column() -> Iterator[None]:
    """Say which column of a pandas DataFrame could not be converted."""
    import pyarrow as pa

    try:
        yield
    except pa.ArrowException as error:
        reason = "; ".join(str(part) for part in error.args)
        message = f"The pandas DataFrame has a column that is not of one type: {reason}."
        raise DataError(message, "Convert the column, for example with .astype(str).") from error


def _narrowed(
    reader: pa.RecordBatchReader, columns: Sequence[str] | None, limit: int | None
) -> Iterator[Any]:
    left = limit
    for batch in reader:
        if left is not None and left <= 0:
            return
        narrowed = batch if columns is None else batch.select(list(columns))
        yield narrowed if left is None else narrowed.slice(0, left)
        left = None if left is None else left - batch.num_rows
