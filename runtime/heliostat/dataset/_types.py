"""Which type a column has in a dataset: what Iceberg can store, and models can read."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from heliostat.exceptions import DataError

if TYPE_CHECKING:
    from collections.abc import Collection, Iterator, Sequence

    import pyarrow as pa

RESERVED = "__heliostat_"
"""Names of the columns that a version is sorted by begin so."""


def stored_schema(schema: pa.Schema, untouched: Collection[str] = ()) -> pa.Schema:
    """Return the schema that a dataset of these rows has.

    Whole decimals become 64-bit integers and other decimals 64-bit floats, unless the column is
    among ``untouched``. Integers of less than 32 bits become 32-bit, unsigned ones the next larger
    signed type. Timestamps are kept to the microsecond, zones as UTC. Categories become their values.

    Raises
    ------
    DataError
        A column is of a type that cannot be stored, or there are none, or two of one name.
    """
    import pyarrow as pa

    if not schema.names:
        message = "The data has no columns."
        raise DataError(message)
    twice = sorted({name for name in schema.names if schema.names.count(name) > 1})
    if twice or "" in schema.names:
        message = f"There is more than one column {twice[0]!r}." if twice else "A column has no name."
        raise DataError(message, "Give each column a name of its own.")
    return pa.schema(
        [
            pa.field(field.name, _stored(field.type, field.name, exact=field.name in untouched))
            for field in schema
        ]
    )


def refuse_names(names: Sequence[str]) -> None:
    """Raise DataError for names that SQL, in which a version is sorted and read, could mistake."""
    seen: dict[str, str] = {}
    for name in names:
        other = seen.setdefault(name.lower(), name)
        if other != name:
            message = f"SQL cannot tell the columns {other!r} and {name!r} apart."
            raise DataError(message, "Give each column a name of its own.", column=name)
        if name.lower().startswith(RESERVED):
            message = f"Names of columns do not begin with {RESERVED!r}, as {name!r} does."
            raise DataError(message, "Rename it.", column=name)


def _stored(given: pa.DataType, column: str, *, exact: bool) -> pa.DataType:  # noqa: C901, PLR0911, PLR0912 - a table of cases
    import pyarrow as pa
    import pyarrow.types as t

    def inner(part: pa.DataType) -> pa.DataType:
        return _stored(part, column, exact=exact)

    if t.is_dictionary(given):
        return inner(given.value_type)
    if t.is_int8(given) or t.is_int16(given) or t.is_uint8(given) or t.is_uint16(given):
        return pa.int32()
    if t.is_uint32(given) or t.is_uint64(given):
        return pa.int64()
    if t.is_decimal(given):
        if not exact:
            return pa.int64() if given.scale == 0 else pa.float64()
        if given.precision <= 38 and given.scale >= 0:
            return pa.decimal128(given.precision, given.scale)
    if t.is_float16(given):
        return pa.float32()
    if t.is_date(given):
        return pa.date32()
    if t.is_time(given):
        return pa.time64("us")
    if t.is_timestamp(given):
        return pa.timestamp("us", "UTC" if given.tz else None)
    if t.is_string_view(given):
        return pa.large_string()
    if t.is_binary_view(given):
        return pa.large_binary()
    if t.is_fixed_size_list(given):
        return pa.list_(inner(given.value_type), given.list_size)
    if t.is_list(given) or t.is_large_list(given) or t.is_list_view(given) or t.is_large_list_view(given):
        return pa.list_(inner(given.value_type))
    if t.is_map(given):
        return pa.map_(inner(given.key_type), inner(given.item_type))
    if t.is_struct(given) and given.num_fields:
        return pa.struct([pa.field(part.name, inner(part.type)) for part in given])
    if _is_kept(given):
        return given
    message = f"The column {column!r} is of type {given}, which a dataset cannot store."
    raise DataError(message, "Cast it to another type or leave it out.", column=column)


def _is_kept(given: pa.DataType) -> bool:
    import pyarrow.types as t

    kept = (t.is_boolean, t.is_int32, t.is_int64, t.is_float32, t.is_float64, t.is_string, t.is_large_string)
    return any(is_kind(given) for is_kind in (*kept, t.is_binary, t.is_large_binary, t.is_fixed_size_binary))


def cast(batch: Any, schema: pa.Schema) -> Any:
    """Give a batch the types of ``schema``. Raises DataError with the column whose values do not fit."""
    import pyarrow as pa

    columns = []
    for field, column in zip(schema, batch.columns, strict=True):
        try:
            columns.append(column if column.type == field.type else column.cast(field.type))
        except pa.ArrowException as error:
            message = f"The column {field.name!r} ({column.type}) cannot be stored as {field.type}: {error}."
            action = (
                "Cast it yourself, or name it in label_cols or exclude_cols to keep decimals as they are."
            )
            raise DataError(message, action, column=field.name) from error
    return pa.RecordBatch.from_arrays(columns, schema=schema)


def with_field_ids(schema: pa.Schema, ids: Iterator[int]) -> pa.Schema:
    """Mark each column, and each part of it, with its Iceberg id, in the order of ``field_ids``."""
    import pyarrow as pa

    return pa.schema([_marked(field, ids) for field in schema])


def _marked(field: pa.Field, ids: Iterator[int]) -> pa.Field:
    import pyarrow as pa
    import pyarrow.types as t

    identity = str(next(ids))
    given = field.type
    if t.is_fixed_size_list(given):
        given = pa.list_(_marked(given.value_field, ids), given.list_size)
    elif t.is_list(given):
        given = pa.list_(_marked(given.value_field, ids))
    elif t.is_map(given):
        given = pa.map_(_marked(given.key_field, ids), _marked(given.item_field, ids))
    elif t.is_struct(given):
        given = pa.struct([_marked(part, ids) for part in given])
    return pa.field(field.name, given, field.nullable, {"PARQUET:field_id": identity})


def field_ids(struct: Any) -> Iterator[int]:
    """Ids of the fields of an Iceberg schema or struct: each field's, then those of its parts."""
    for field in struct.fields:
        yield field.field_id
        yield from _part_ids(field.field_type)


def _part_ids(kind: Any) -> Iterator[int]:
    if hasattr(kind, "fields"):
        yield from field_ids(kind)
        return
    for name in ("element_field", "key_field", "value_field"):
        part = getattr(kind, name, None)
        if part is not None:
            yield part.field_id
            yield from _part_ids(part.field_type)
