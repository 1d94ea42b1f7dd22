"""What every source can do, and the errors all of them have in common."""

from __future__ import annotations

from abc import ABC, abstractmethod
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from heliostat.exceptions import DataError, HeliostatError

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

    import pyarrow as pa

    from heliostat.data._shards import RowSlice
    from heliostat.data.data_source import DataSource


class Source(ABC):
    """Rows that can be read as Arrow, from the start, as often as asked.

    Sources are lazy and picklable: what travels is where the rows are, and the rows themselves
    only where they are in memory and nowhere else.
    """

    owned: bool = True
    """Whether batches of the reader are nobody else's, so that their memory may be reused."""

    @abstractmethod
    def schema(self) -> pa.Schema:
        """Names and types of the columns; reads no rows."""

    @abstractmethod
    def count(self) -> int:
        """Count the rows."""

    @abstractmethod
    def reader(self, columns: Sequence[str] | None = None, limit: int | None = None) -> pa.RecordBatchReader:
        """Stream the rows of ``columns``, in that order, at most ``limit`` of them."""

    def data_sources(self) -> list[DataSource]:
        """Addresses of the rows; empty for what has none."""
        return []

    def slices(self) -> tuple[RowSlice, ...] | None:
        """All rows as parts of Parquet files whose columns are just those of ``schema``, if they lie so."""
        return None

    def identity(self) -> tuple[str, ...] | None:
        """What changes when the rows do, if that can be told without reading them."""
        return None


def checked_columns(schema: pa.Schema, columns: Sequence[str] | None) -> list[str]:
    """Names of the columns to read. Raises DataError for one that is not there, or is there twice."""
    names: list[str] = list(schema.names)
    wanted = names if columns is None else list(columns)
    missing = [name for name in wanted if name not in names]
    if missing:
        message = f"The data has no column {', '.join(map(repr, missing))}."
        raise DataError(message, f"Columns: {listed(names)}.", missing=missing)
    twice = sorted({name for name in wanted if names.count(name) > 1 or wanted.count(name) > 1})
    if twice:
        message = f"There is more than one column {', '.join(map(repr, twice))}."
        raise DataError(message, "Give each column a name of its own.", column=twice[0])
    return wanted


def listed(names: Sequence[str], most: int = 10) -> str:
    """Write the first few names."""
    return ", ".join(map(str, names[:most])) + (", ..." if len(names) > most else "")


def selected(schema: pa.Schema, columns: Sequence[str] | None) -> pa.Schema:
    """Narrow a schema to ``columns``. Raises DataError for one that is not there."""
    import pyarrow as pa

    return pa.schema([schema.field(name) for name in checked_columns(schema, columns)], schema.metadata)


def streamed(
    schema: pa.Schema, batches: Iterable[pa.RecordBatch], limit: int | None = None
) -> pa.RecordBatchReader:
    """Make a reader of batches that have the columns of ``schema``, whatever their order.

    Errors of a generator keep their class on the way through Arrow.
    """
    import pyarrow as pa

    return pa.RecordBatchReader.from_batches(schema, _conforming(schema, batches, limit))


def _conforming(schema: pa.Schema, batches: Iterable[Any], limit: int | None) -> Iterator[Any]:
    left = limit
    if left == 0:
        return
    for batch in batches:
        if not batch.num_rows:
            continue
        chosen = batch if left is None or batch.num_rows <= left else batch.slice(0, left)
        yield conformed(chosen, schema)
        if left is not None:
            left -= chosen.num_rows
            if left <= 0:
                return


def conformed(batch: Any, schema: pa.Schema) -> Any:
    """Give a batch or table the columns of ``schema``. Raises DataError when a value does not fit."""
    import pyarrow as pa

    if batch.schema.equals(schema, check_metadata=True):
        return batch
    if batch.schema.names != schema.names:
        batch = batch.select(schema.names)
    columns = []
    for field, column in zip(schema, batch.columns, strict=True):
        try:
            columns.append(column if column.type == field.type else column.cast(field.type))
        except pa.ArrowException as error:
            message = (
                f"The column {field.name!r} is of type {column.type}"
                f" and does not fit {field.type}: {reason(error)}."
            )
            raise DataError(message, column=field.name) from error
    return type(batch).from_arrays(columns, schema=schema)


def reason(error: BaseException) -> str:
    """What an error of Arrow says, on one line and without a full stop."""
    return " ".join(str(error).split()).rstrip(".")


@contextmanager
def reading(what: str, action: str = "", **fields: Any) -> Iterator[None]:
    """Turn errors of Arrow and of the system into a DataError that names ``what`` cannot be read."""
    import pyarrow as pa

    try:
        yield
    except HeliostatError:
        raise
    except FileNotFoundError as error:
        message = f"{what} is not there."
        raise DataError(message, "Check its name, and whether somebody removed it.", **fields) from error
    except (pa.ArrowException, OSError) as error:
        message = f"{what} cannot be read: {reason(error)}."
        raise DataError(message, action, **fields) from error
