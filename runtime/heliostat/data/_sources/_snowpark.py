"""Snowpark DataFrames: one query that Snowflake runs, streamed as Arrow."""

from __future__ import annotations

import itertools
from typing import TYPE_CHECKING, Any

from heliostat.data._sources._base import Source, selected, streamed
from heliostat.data._sources._width import BATCH_ROWS
from heliostat.data.data_source import DataFrameInfo
from heliostat.exceptions import DataError

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    import pyarrow as pa

    from heliostat.data.data_source import DataSource

_TYPES = {
    "BinaryType": "binary",
    "BooleanType": "bool",
    "ByteType": "int8",
    "DateType": "date32",
    "DoubleType": "float64",
    "FloatType": "float32",
    "IntegerType": "int32",
    "LongType": "int64",
    "ShortType": "int16",
    "StringType": "string",
}


class SnowparkSource(Source):
    """A Snowpark DataFrame of one query.

    Raises
    ------
    DataError
        It takes several queries, or something to be done after them.
    """

    def __init__(self, frame: Any) -> None:
        queries = frame.queries
        if len(queries["queries"]) != 1 or queries["post_actions"]:
            message = "DataFrames with multiple queries and/or post-actions not supported."
            raise DataError(message, "Pass df.cache_result(), or save it as a table and pass that.")
        self.frame = frame
        self.query = str(queries["queries"][0])

    def __reduce__(self) -> tuple[Any, ...]:
        from heliostat.data._sources._frames import TableSource

        if self._is_local():
            return TableSource(self.reader().read_all()).__reduce__()
        return _reopened, (self.query,)

    def schema(self) -> pa.Schema:
        import pyarrow as pa

        return pa.schema([(field.name, _arrow_type(field)) for field in self.frame.schema])

    def count(self) -> int:
        rows: int = self.frame.count()
        return rows

    def reader(self, columns: Sequence[str] | None = None, limit: int | None = None) -> pa.RecordBatchReader:
        schema = selected(self.schema(), columns)
        frame = self.frame if columns is None else self.frame.select(schema.names)
        frame = frame if limit is None else frame.limit(limit)
        return streamed(schema, self._batches(frame, schema), limit)

    def data_sources(self) -> list[DataSource]:
        return [DataFrameInfo(self.query)]

    def _batches(self, frame: Any, schema: pa.Schema) -> Iterator[Any]:
        import pyarrow as pa

        if not self._is_local():
            for table in frame.to_arrow_batches():
                yield from table.rename_columns(schema.names).to_batches()
            return
        # The local test mode knows no Arrow.
        rows = iter(frame.to_local_iterator())
        while part := list(itertools.islice(rows, BATCH_ROWS)):
            values = [dict(zip(schema.names, row, strict=True)) for row in part]
            yield pa.RecordBatch.from_pylist(values, schema=schema)

    def _is_local(self) -> bool:
        return ".mock." in f"{type(self.frame.session._conn).__module__}."


def _arrow_type(field: Any) -> pa.DataType:
    import pyarrow as pa

    kind, name = field.datatype, type(field.datatype).__name__
    if name in _TYPES:
        return pa.type_for_alias(_TYPES[name])
    if name == "DecimalType":
        return pa.decimal128(kind.precision, kind.scale)
    if name == "TimestampType":
        zoned = str(getattr(kind, "tz", "")).lower() in ("ltz", "tz")
        return pa.timestamp("ns", "UTC" if zoned else None)
    if name == "TimeType":
        return pa.time64("ns")
    if name == "VectorType":
        element = pa.int32() if "int" in str(kind.element_type).lower() else pa.float32()
        return pa.list_(element, kind.dimension)
    if name in ("ArrayType", "MapType", "VariantType", "StructType", "GeographyType", "GeometryType"):
        return pa.string()  # Snowflake sends them as JSON.
    message = f"The column {field.name!r} is of Snowflake's type {name}, which cannot be read."
    raise DataError(message, "Cast it in the query, or leave it out.", column=field.name)


def _reopened(query: str) -> SnowparkSource:
    """Run the query on this process's Snowflake session."""
    from snowflake.snowpark import Session

    try:
        session = Session.get_active_session()
    except Exception:
        session = None
    if session is None:
        message = "The data is a Snowflake query, and this process has no Snowflake session."
        raise DataError(message, "Open one here, or read the rows first: connector.to_arrow().")
    return SnowparkSource(session.sql(query))
