"""Rows as Hugging Face datasets. This module imports the package ``datasets``."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import datasets
from datasets.iterable_dataset import ArrowExamplesIterable

from heliostat.data._batches import rebatched
from heliostat.data._sources._base import streamed as stream
from heliostat.data._sources._width import guessed, rows_at_once
from heliostat.exceptions import DataError

if TYPE_CHECKING:
    from collections.abc import Iterator

    import pyarrow as pa

    from heliostat.data._sources import Source


_SHUFFLE_ROWS = 10_000
"""Rows that are held to shuffle a stream; fewer where they are wide."""


def loaded(source: Source, limit: int | None, *, shuffle: bool) -> datasets.Dataset:
    """Load the rows. Raises DataError for a column of a type that Hugging Face does not have."""
    features = _features(source.schema())
    table = _conformed(source.reader(limit=limit), features.arrow_schema).read_all()
    dataset = datasets.Dataset(table, info=datasets.DatasetInfo(features=features))
    return dataset.shuffle() if shuffle else dataset


def streamed(
    source: Source, limit: int | None, batch_size: int, *, shuffle: bool, drop_last_batch: bool
) -> datasets.IterableDataset:
    """Return a data set of single rows that are read as they are asked for."""
    features = _features(source.schema())
    settings = {"source": source, "limit": limit, "batch_size": batch_size, "drop_last": drop_last_batch}
    # Not from_generator(): it pickles its arguments to tell them apart, and with them the rows.
    dataset = datasets.IterableDataset(
        ArrowExamplesIterable(_tables, settings), datasets.DatasetInfo(features=features)
    )
    held = min(_SHUFFLE_ROWS, rows_at_once(guessed(source.schema())))
    return dataset.shuffle(buffer_size=held) if shuffle else dataset


def _tables(
    source: Source, limit: int | None, batch_size: int, *, drop_last: bool
) -> Iterator[tuple[int, pa.Table]]:
    schema = _features(source.schema()).arrow_schema
    tables = rebatched(_conformed(source.reader(limit=limit), schema), batch_size)
    for number, table in enumerate(tables):
        if table.num_rows == batch_size or not drop_last:
            yield number, table


def _conformed(reader: pa.RecordBatchReader, schema: pa.Schema) -> pa.RecordBatchReader:
    import pyarrow as pa

    def batches() -> Iterator[Any]:
        for batch in reader:
            columns = [_nested(column) for column in batch.columns]
            yield pa.RecordBatch.from_arrays(columns, names=batch.schema.names)

    return stream(schema, batches())


def _features(schema: pa.Schema) -> datasets.Features:
    """Features of a schema; those that Hugging Face itself wrote down are kept."""
    import pyarrow as pa

    fields = []
    for field in schema:
        plain = field.with_type(_nested_type(field.type))
        try:
            datasets.Features.from_arrow_schema(pa.schema([plain]))
        except (ValueError, NotImplementedError) as error:
            message = f"The column {field.name!r} is of type {field.type}, which Hugging Face does not have."
            raise DataError(message, "Cast it in the query, or leave it out.", column=field.name) from error
        fields.append(plain)
    notes = {k: v for k, v in (schema.metadata or {}).items() if k == b"huggingface"}
    return datasets.Features.from_arrow_schema(pa.schema(fields, notes))


def _nested_type(kind: pa.DataType) -> pa.DataType:
    """Tensors become lists of lists; other extension types what they are stored as."""
    import pyarrow as pa

    if isinstance(kind, pa.FixedShapeTensorType):
        nested = kind.value_type
        for side in reversed(kind.shape):
            nested = pa.list_(nested, side)
        return nested
    if pa.types.is_dictionary(kind):
        return kind.value_type
    if pa.types.is_decimal32(kind) or pa.types.is_decimal64(kind):
        return pa.decimal128(kind.precision, kind.scale)
    return kind.storage_type if isinstance(kind, pa.BaseExtensionType) else kind


def _nested(column: Any) -> Any:
    import pyarrow as pa

    kind = column.type
    if isinstance(kind, pa.FixedShapeTensorType):
        nested = column.storage.flatten()
        for side in reversed(kind.shape):
            nested = pa.FixedSizeListArray.from_arrays(nested, side)
        return nested
    return column.storage if isinstance(kind, pa.BaseExtensionType) else column
