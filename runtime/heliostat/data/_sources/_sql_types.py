"""Columns that ADBC hands over in a form of its own, made into plain Arrow or refused by name.

PostgreSQL's ``numeric(p, s)`` becomes a decimal, exactly. A ``numeric`` without precision, as
``avg`` and ``sum`` give, becomes a float; a whole number that a float cannot hold is refused.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from heliostat.exceptions import DataError

if TYPE_CHECKING:
    import pyarrow as pa

_EXACT = 2.0**53
"""Whole numbers below this are held exactly by a float."""
_LONGEST = 76
"""Digits of Arrow's widest decimal."""


def plain_schema(schema: pa.Schema) -> pa.Schema:
    """Return the schema as it is read. Raises DataError for a column that Arrow has no type for."""
    import pyarrow as pa

    return pa.schema([pa.field(field.name, _plain_type(field)) for field in schema])


def plain_batch(batch: Any, schema: pa.Schema) -> pa.RecordBatch:
    """Convert a batch to ``schema``. Raises DataError that names the column and what to do."""
    import pyarrow as pa

    arrays = []
    for field, wanted, column in zip(batch.schema, schema, batch.columns, strict=True):
        try:
            arrays.append(_plain_array(column, wanted.type))
        except (pa.ArrowInvalid, _NotExactError) as error:
            message = f"The column {field.name!r} cannot be read as {wanted.type}: {error}."
            action = f'Cast it in the query: "{field.name}"::text, ::double precision or ::numeric(p, s).'
            raise DataError(message, action, column=field.name) from None
    return pa.RecordBatch.from_arrays(arrays, schema=schema)


class _NotExactError(Exception):
    pass


def _plain_type(field: pa.Field) -> Any:
    import pyarrow as pa

    found = field.type
    if isinstance(found, pa.UuidType):
        return pa.string()
    if isinstance(found, pa.JsonType):
        return found.storage_type
    if isinstance(found, pa.OpaqueType) and found.type_name == "numeric":
        return _numeric(int((field.metadata or {}).get(b"POSTGRESQL:typmod", b"-1")))
    inner = found.value_type if pa.types.is_list(found) else found
    if isinstance(inner, pa.BaseExtensionType):
        name = getattr(inner, "type_name", str(inner))
        message = f"The column {field.name!r} is of the database's type {name}, which Arrow does not have."
        raise DataError(
            message, f'Cast it in the query, for example "{field.name}"::text.', column=field.name
        )
    return found


def _numeric(modifier: int) -> Any:
    """PostgreSQL keeps precision and scale of a numeric in one number."""
    import pyarrow as pa

    if modifier < 0:
        return pa.float64()
    precision, scale = ((modifier - 4) >> 16) & 0xFFFF, (((modifier - 4) & 0x7FF) ^ 1024) - 1024
    if precision > _LONGEST:
        return pa.float64()
    return pa.decimal128(precision, scale) if precision <= 38 else pa.decimal256(precision, scale)


def _plain_array(column: Any, wanted: Any) -> Any:
    import pyarrow as pa
    import pyarrow.compute as pc

    if isinstance(column.type, pa.UuidType):
        return pa.array([None if value is None else str(value) for value in column.to_pylist()], wanted)
    if isinstance(column, pa.ExtensionArray):
        column = column.storage
    if column.type == wanted:
        return column
    converted = column.cast(wanted)
    if pa.types.is_floating(wanted) and pa.types.is_string(column.type):
        # Infinities are what they are; other large numbers may be counts.
        large = pc.and_(pc.greater_equal(pc.abs(converted), _EXACT), pc.is_finite(converted))
        if pc.any(large).as_py():
            message = f"{pc.filter(column, large)[0]} has more digits than a float can hold"
            raise _NotExactError(message)
    return converted
