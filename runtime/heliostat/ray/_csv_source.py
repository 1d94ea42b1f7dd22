"""CSV files on a stage: Ray's reader, with one set of columns and types for all files."""

from __future__ import annotations

import copy
import re
from typing import TYPE_CHECKING, Any

import pyarrow as pa
import pyarrow.csv as pa_csv

from heliostat._cluster.datasources import CSVDatasource
from heliostat.data._sources._base import reason
from heliostat.data._sources._parquet import refuse_drift
from heliostat.exceptions import DataError
from heliostat.ray._reading import StageReading

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

_FILES_FOR_TYPES = 8
"""How many files are looked into for the type of a column that has no value in those before."""
_ACTION = 'Rewrite the file, or say the types: arrow_csv_args={"convert_options": ConvertOptions(...)}.'


class SFStageCSVDataSource(StageReading, CSVDatasource):  # type: ignore[misc]
    """CSV files: their columns. Also takes Ray's ``arrow_csv_args``.

    Columns are those of the first file; types are guessed from its first part, unless
    ``arrow_csv_args`` says them. A file that has other columns, or a value that does not fit, fails
    the read.
    """

    def __init__(self, *, arrow_csv_args: Mapping[str, Any] | None = None, **stage: Any) -> None:
        super().__init__(arrow_csv_args=dict(arrow_csv_args or {}), **stage)
        given = self.arrow_csv_args.get("convert_options") or pa_csv.ConvertOptions()
        self._columns = self._guessed(self._paths())
        # A copy: the options are the caller's.
        options = copy.copy(given)
        options.column_types = {field.name: field.type for field in self._columns}
        self.arrow_csv_args["convert_options"] = options

    def _decode(self, f: Any, path: str) -> Iterator[Any]:
        names = self._columns.names
        try:
            for table in super()._decode(f, path):
                self._refuse_drift(table.schema, path)
                yield table if table.column_names == names else table.select(names)
        except ValueError as error:
            raise self._told(error, path) from error

    def _guessed(self, paths: list[str]) -> pa.Schema:
        """Columns of the first file; a type that it does not tell is that of the next file that does."""
        self._first = paths[0]
        self._columns = self._schema_of(self._first)
        twice = [name for name in self._columns.names if self._columns.names.count(name) > 1]
        if twice:
            place = self._files.place(self._first)
            message = f"The file {place} has more than one column {twice[0]!r}."
            raise DataError(message, "Give each column a name of its own.", file=place.url, column=twice[0])
        for path in paths[1:_FILES_FOR_TYPES]:
            if pa.null() not in self._columns.types:
                break
            found = self._schema_of(path)
            self._refuse_drift(found, path)
            self._columns = pa.schema(
                [found.field(old.name) if old.type == pa.null() else old for old in self._columns]
            )
        return self._columns

    def _schema_of(self, path: str, **changed: Any) -> pa.Schema:
        arguments = {**self.arrow_csv_args, **changed}
        with (
            self._naming(path),
            self._open_input_source(self._filesystem, path, **(self._open_stream_args or {})) as file,
            pa_csv.open_csv(
                file, read_options=self.read_options, parse_options=self.parse_options, **arguments
            ) as reader,
        ):
            return reader.schema

    def _refuse_drift(self, found: pa.Schema, path: str) -> None:
        # Types are of no matter here: Arrow reads the values as those of the first file, or fails.
        names, others = (pa.schema([(name, pa.null()) for name in s.names]) for s in (self._columns, found))
        file, first = (self._files.place(each).url for each in (path, self._first))
        refuse_drift(names, others, file, first, action=_ACTION)

    def _told(self, error: ValueError, path: str) -> DataError:
        """Say which column it was, of which Arrow gives the number in the file."""
        place, why = self._files.place(path), reason(error.__cause__ or error)
        numbered = re.match(r"In CSV column #(\d+): (.*)", why)
        if numbered is None:
            return DataError(f"{place} cannot be read: {why}.", file=place.url)
        column = self._schema_of(path, convert_options=pa_csv.ConvertOptions()).names[int(numbered[1])]
        message = f"The column {column!r} of {place} cannot be read: {numbered[2]}."
        return DataError(message, _ACTION, file=place.url, column=column)
