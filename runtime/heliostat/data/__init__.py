"""Data in and out: one connector that takes whatever speaks Arrow."""

from __future__ import annotations

from heliostat.data.data_connector import DataConnector
from heliostat.data.data_ingestor import DataIngestor
from heliostat.data.data_source import DataFrameInfo, DatasetInfo, DataSource
from heliostat.data.sharded_data_connector import ShardedDataConnector

__all__ = [
    "DataConnector",
    "DataFrameInfo",
    "DataIngestor",
    "DataSource",
    "DatasetInfo",
    "ShardedDataConnector",
]
