"""Descriptions of where data comes from: small, picklable, and free of the data itself."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TypeAlias

__all__ = ["DataFrameInfo", "DataSource", "DatasetInfo"]


@dataclass(frozen=True)
class DataFrameInfo:
    """The rows of one SQL query."""

    sql: str
    query_id: str | None = None


@dataclass(frozen=True)
class DatasetInfo:
    """One version of a dataset."""

    fully_qualified_name: str
    version: str
    url: str | None = None
    exclude_cols: list[str] | None = None


DataSource: TypeAlias = DataFrameInfo | DatasetInfo | str
"""A query, a dataset version, or the path or URL of a file."""
