"""Rows in the memory of this process: Arrow tables, pandas and Polars frames, Arrow streams."""

from __future__ import annotations

from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from heliostat.data._sources._base import Source, checked_columns, selected, streamed
from heliostat.exceptions import DataError

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    import pyarrow as pa


class TableSource(Source):
    """A pyarrow Table. Travels as an Arrow stream of just its rows."""

    owned = False

    def __init__(self, table: pa.Table) -> None:
        self.table = table

    def __reduce__(self) -> tuple[Any, ...]:
        return _unpacked, (packed(self.reader()),)

    def schema(self) -> pa.Schema:
        return self.table.schema

    def count(self) -> int:
        rows: int = self.table.num_rows
        return rows

    def reader(self, columns: Sequence[str] | None = None, limit: int | None = None) -> pa.RecordBatchReader:
        table = self.table.select(checked_columns(self.table.schema, columns))
        return (table if limit is None else table.slice(0, limit)).to_reader()


class PandasSource(Source):
    """A pandas DataFrame, converted when it is read; its index is left out."""

    owned = False

    def __init__(self, frame: Any) -> None:
        self.frame = frame

    def __reduce__(self) -> tuple[Any, ...]:
        return _unpacked, (packed(self.reader()),)

    def schema(self) -> pa.Schema:
        import pyarrow as pa

        with _named_column():
            return pa.Schema.from_pandas(self.frame, preserve_index=False)

    def count(self) -> int:
        return len(self.frame)

    def reader(self, columns: Sequence[str] | None = None, limit: int | None = None) -> pa.RecordBatchReader:
        import pyarrow as pa

        frame = self.frame
        if columns is not None:
            frame = frame[checked_columns(self.schema(), columns)]
        with _named_column():
            table = pa.Table.from_pandas(frame if limit is None else frame.head(limit), preserve_index=False)
        return table.to_reader()


class LazyPolarsSource(Source):
    """A Polars query. It runs when rows are asked for, and streams them."""

    def __init__(self, frame: Any) -> None:
        self.frame = frame

    def schema(self) -> pa.Schema:
        return self.frame.head(0).collect().to_arrow().schema

    def count(self) -> int:
        import polars as pl

        rows: int = self.frame.select(pl.len()).collect().item()
        return rows

    def reader(self, columns: Sequence[str] | None = None, limit: int | None = None) -> pa.RecordBatchReader:
        schema = selected(self.schema(), columns)
        frame = self.frame.select(schema.names)
        frame = frame if limit is None else frame.head(limit)
        return streamed(schema, (b for f in _polars_batches(frame) for b in f.to_arrow().to_batches()))


class StreamSource(Source):
    """An object with ``__arrow_c_stream__``: a frame that streams anew each time, or a one-time reader."""

    owned = False

    def __init__(self, stream: Any) -> None:
        import pyarrow as pa

        self.stream = stream
        self.once = isinstance(stream, pa.RecordBatchReader)
        self.read = False

    def __reduce__(self) -> tuple[Any, ...]:
        if self.once:
            message = "A RecordBatchReader can be read in this process only, once."
            raise DataError(message, "Call read_all() on it and pass the table.")
        return _unpacked, (packed(self._open()),)

    def schema(self) -> pa.Schema:
        return self.stream.schema if self.once else self._open().schema

    def count(self) -> int:
        if self.once:
            message = "The rows of a RecordBatchReader cannot be counted without using them up."
            raise DataError(message, "Call read_all() on it and pass the table.")
        return sum(batch.num_rows for batch in self._open())

    def reader(self, columns: Sequence[str] | None = None, limit: int | None = None) -> pa.RecordBatchReader:
        schema = selected(self.stream.schema if self.once else self.schema(), columns)
        return streamed(schema, (batch.select(schema.names) for batch in self._open()), limit)

    def _open(self) -> pa.RecordBatchReader:
        import pyarrow as pa

        if not self.once:
            return pa.RecordBatchReader.from_stream(self.stream)
        if self.read:
            message = "The RecordBatchReader has been read already, and it can be read once."
            raise DataError(message, "Call read_all() on it first and pass the table.")
        self.read = True
        return self.stream


def polars_source(frame: Any) -> TableSource:
    """Read a Polars DataFrame, as a table over the same memory."""
    return TableSource(frame.to_arrow())


def packed(reader: pa.RecordBatchReader) -> pa.Buffer:
    """Write rows as an Arrow stream: slices travel as what they are, not as what they were cut from."""
    import pyarrow as pa

    sink = pa.BufferOutputStream()
    with pa.ipc.new_stream(sink, reader.schema) as writer:
        for batch in reader:
            writer.write_batch(batch)
    return sink.getvalue()


def _unpacked(stream: pa.Buffer) -> TableSource:
    import pyarrow as pa

    return TableSource(pa.ipc.open_stream(stream).read_all())


def _polars_batches(frame: Any) -> Iterator[Any]:
    import warnings

    with warnings.catch_warnings():
        # Polars may still change this method; a test holds that it does what we need.
        warnings.simplefilter("ignore")
        batches = frame.collect_batches(maintain_order=True)
    yield from batches


@contextmanager
def _named_column() -> Iterator[None]:
    """Say which column of a pandas DataFrame could not be converted."""
    import pyarrow as pa

    try:
        yield
    except pa.ArrowException as error:
        told = "; ".join(str(part) for part in error.args)
        message = f"The pandas DataFrame has a column that is not of one type: {told}."
        raise DataError(message, "Convert the column, for example with .astype(str).") from error
