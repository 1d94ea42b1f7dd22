"""Datasets of other libraries that stream Arrow themselves: pyarrow's and Hugging Face's."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from heliostat.data._sources._base import Source, reading, selected, streamed
from heliostat.data._sources._tensors import standard, standard_schema
from heliostat.data._sources._width import guessed, measured, rows_at_once
from heliostat.exceptions import DataError

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    import pyarrow as pa

    from heliostat.data._shards import RowSlice
    from heliostat.data._sources._parquet import ParquetSource

_READAHEAD = 2
"""Batches that Arrow makes ahead of the reader."""


class ArrowDatasetSource(Source):
    """A ``pyarrow.dataset.Dataset``. Projection and its filters run in Arrow."""

    def __init__(self, dataset: Any) -> None:
        self.dataset = dataset

    def __reduce__(self) -> tuple[Any, ...]:
        from heliostat.data._sources._frames import TableSource

        if hasattr(self.dataset, "files"):
            return ArrowDatasetSource, (self.dataset,)
        return TableSource(self.dataset.to_table()).__reduce__()

    def schema(self) -> pa.Schema:
        return self.dataset.schema

    def count(self) -> int:
        with reading("The pyarrow Dataset"):
            rows: int = self.dataset.count_rows()
        return rows

    def reader(self, columns: Sequence[str] | None = None, limit: int | None = None) -> pa.RecordBatchReader:
        schema = selected(self.schema(), columns)
        return streamed(schema, self._batches(schema, limit), limit)

    def slices(self) -> tuple[RowSlice, ...] | None:
        files = self._parquet()
        return None if files is None else files.slices()

    def _batches(self, schema: pa.Schema, limit: int | None) -> Iterator[Any]:
        with reading("The pyarrow Dataset"):
            yield from self.dataset.to_batches(
                columns=schema.names,
                batch_size=rows_at_once(self._width(schema), limit),
                batch_readahead=_READAHEAD,
                fragment_readahead=1,
            )

    def _width(self, schema: pa.Schema) -> int:
        """Bytes of a row: the first Parquet file tells, else the types do."""
        import pyarrow.dataset as pads

        # One that was filtered does not give its files out.
        known = isinstance(self.dataset, pads.FileSystemDataset)
        try:
            first = next(iter(self.dataset.get_fragments()), None) if known else None
        except ValueError:
            first = None
        if not isinstance(first, pads.ParquetFileFragment):
            return guessed(schema)
        own = [name for name in schema.names if name in first.physical_schema.names]
        return measured(first.metadata, first.physical_schema, own)

    def _parquet(self) -> ParquetSource | None:
        """Its files, if they are Parquet and have all of its rows and columns as they are."""
        import pyarrow.dataset as pads

        from heliostat._location import Entry, Location
        from heliostat.data._sources._parquet import ParquetSource

        dataset = self.dataset
        if not isinstance(dataset, pads.FileSystemDataset) or dataset.format.default_extname != "parquet":
            return None
        infos = dataset.filesystem.get_file_info(dataset.files)
        files = [Entry(Location(dataset.filesystem, i.path, i.path), i.size, i.mtime_ns) for i in infos]
        try:
            source = ParquetSource(files)
            # A filter or a schema of its own makes it another set of rows than its files have.
            same = source.schema().equals(dataset.schema.remove_metadata()) and source.count() == self.count()
        except DataError:
            return None
        return source if same else None


class HuggingFaceSource(Source):
    """A Hugging Face ``Dataset`` or ``IterableDataset``; a transform or format of it is left out."""

    owned = False

    def __init__(self, dataset: Any) -> None:
        self.dataset = dataset

    def schema(self) -> pa.Schema:
        if self.dataset.features is not None:
            return standard_schema(self.dataset.features.arrow_schema)
        first = next(iter(self.dataset.with_format("arrow").iter(1)), None)
        if first is None:
            message = "The Hugging Face IterableDataset has neither features nor rows."
            raise DataError(message, "Pass features= where it is made.")
        return standard_schema(first.schema)

    def count(self) -> int:
        if hasattr(self.dataset, "__len__"):
            return len(self.dataset)
        size = rows_at_once(guessed(self.schema()))
        return sum(table.num_rows for table in self.dataset.with_format("arrow").iter(size))

    def reader(self, columns: Sequence[str] | None = None, limit: int | None = None) -> pa.RecordBatchReader:
        schema = selected(self.schema(), columns)
        dataset = self.dataset if columns is None else self.dataset.select_columns(schema.names)
        if limit is not None:
            dataset = dataset.take(min(limit, len(dataset)) if hasattr(dataset, "__len__") else limit)
        return streamed(schema, self._batches(dataset, rows_at_once(guessed(schema))), limit)

    def _batches(self, dataset: Any, size: int) -> Iterator[Any]:
        with reading("The Hugging Face dataset"):
            for table in dataset.with_format("arrow").iter(size):
                yield from standard(table).to_batches()


def refuse_dictionary(dataset: Any) -> Source:
    """Raise DataError: there are several datasets in it."""
    message = f"A {type(dataset).__name__} holds several datasets: {', '.join(map(str, dataset))}."
    raise DataError(message, f"Pass one of them, for example dataset[{next(iter(dataset), 'train')!r}].")
