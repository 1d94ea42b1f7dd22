"""Which source reads an object that the user has in hand."""

from __future__ import annotations

import importlib
import os
from typing import TYPE_CHECKING, Any

from heliostat.data._sources import _frames
from heliostat.exceptions import DataError

if TYPE_CHECKING:
    from heliostat.data._sources._base import Source

_LIBRARIES = (
    # package, name of the class if it decides, what it has, who reads it
    ("pandas", "DataFrame", "columns", "_frames", "PandasSource"),
    ("duckdb", "", "sql_query", "_relation", "RelationSource"),
    ("_duckdb", "", "sql_query", "_relation", "RelationSource"),
    ("polars", "DataFrame", "to_arrow", "_frames", "polars_source"),
    ("polars", "LazyFrame", "collect", "_frames", "LazyPolarsSource"),
    ("pyarrow", "", "scanner", "_datasets", "ArrowDatasetSource"),
    ("datasets", "DatasetDict", "with_format", "_datasets", "refuse_dictionary"),
    ("datasets", "IterableDatasetDict", "with_format", "_datasets", "refuse_dictionary"),
    ("datasets", "", "with_format", "_datasets", "HuggingFaceSource"),
    ("ray", "", "iter_batches", "_ray", "RaySource"),
    ("snowflake", "", "queries", "_snowpark", "SnowparkSource"),
    ("pyiceberg", "", "scan", "_iceberg", "IcebergSource"),
)


def source_of(data: Any) -> Source:
    """Return the source for whatever speaks Arrow.

    Raises
    ------
    DataError
        The object is of a kind that cannot be read.
    """
    import pyarrow as pa

    if isinstance(data, pa.Table):
        return _frames.TableSource(data)
    if isinstance(data, pa.RecordBatch):
        return _frames.TableSource(pa.Table.from_batches([data]))
    found = _of_library(data)
    if found is not None:
        return found
    if hasattr(data, "__arrow_c_stream__"):
        return _frames.StreamSource(data)
    if isinstance(data, str | os.PathLike):
        message = f"{str(data)!r} is a name, and no rows."
        raise DataError(message, f"Pass DataConnector.from_sources(None, [{str(data)!r}]).")
    message = f"A {type(data).__module__}.{type(data).__qualname__} cannot be read as rows."
    action = (
        "Pass a DuckDB relation, a pandas or Polars DataFrame, a pyarrow Table, Dataset or"
        " RecordBatchReader, a Snowpark DataFrame, a Ray or Hugging Face Dataset, an Iceberg table,"
        " or an object with __arrow_c_stream__."
    )
    raise DataError(message, action)


def _of_library(data: Any) -> Source | None:
    """Return the source for an object of a library; told by names, so that asking imports none of them."""
    package = type(data).__module__.partition(".")[0]
    for known, kind, has, module, maker in _LIBRARIES:
        if package == known and kind in ("", type(data).__name__) and hasattr(data, has):
            found = importlib.import_module(f"heliostat.data._sources.{module}")
            source: Source = getattr(found, maker)(data)
            return source
    return None
