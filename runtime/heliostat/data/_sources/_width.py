"""How wide rows are, so that what is held at a time is bounded in bytes and not in rows alone.

A batch of 65,536 rows of numbers has a few megabytes; as many images would have gigabytes.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Sequence

    import pyarrow as pa
    import pyarrow.parquet as pq

BATCH_ROWS = 65_536
"""Rows of one batch that is streamed, at most."""
BATCH_BYTES = 32 << 20
"""Bytes of such a batch, about."""
_TEXT = 64
_OPEN = 16 << 10
"""A value of a type that may be anything, such as an image in bytes or a list, where nothing is known."""


def rows_at_once(row_bytes: int, limit: int | None = None) -> int:
    """Rows of a batch, where a row has so many bytes and ``limit`` rows are wanted in all."""
    rows = max(min(BATCH_ROWS, BATCH_BYTES // max(row_bytes, 1)), 1)
    return rows if limit is None else max(min(limit, rows), 1)


def guessed(schema: pa.Schema) -> int:
    """Bytes of a row, by the types of its columns."""
    return sum(_fixed(field.type) or (_TEXT if _is_text(field.type) else _OPEN) for field in schema)


def measured(metadata: pq.FileMetaData, schema: pa.Schema, columns: Sequence[str]) -> int:
    """Bytes of a row of a Parquet file: in the row group where they are most, for ``columns`` of it."""
    fixed = {name: _fixed(schema.field(name).type) for name in columns}
    open_ = {name for name, width in fixed.items() if width is None}
    known = sum(width for width in fixed.values() if width is not None)
    return known + max(
        (_stored(metadata.row_group(at), open_) for at in range(metadata.num_row_groups)), default=0
    )


def _stored(group: pq.RowGroupMetaData, columns: set[str]) -> int:
    """Bytes of a row in some columns, once they are decompressed; at least what text is taken for."""
    if not columns or not group.num_rows:
        return 0
    chunks = map(group.column, range(group.num_columns))
    size = sum(
        one.total_uncompressed_size for one in chunks if one.path_in_schema.partition(".")[0] in columns
    )
    return max(int(size // group.num_rows), _TEXT * len(columns))


def _fixed(kind: pa.DataType) -> int | None:
    """Bytes of a value, or ``None`` where the type does not say it."""
    import pyarrow as pa

    if pa.types.is_dictionary(kind):
        return _TEXT
    try:
        return max(int(kind.bit_width) // 8, 1)
    except ValueError:
        return None


def _is_text(kind: pa.DataType) -> bool:
    from pyarrow import types

    return bool(types.is_string(kind) or types.is_large_string(kind) or types.is_string_view(kind))
