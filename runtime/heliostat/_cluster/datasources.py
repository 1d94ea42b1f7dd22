"""Ray Data's own readers of files, which it does not export: images, text, CSV and Parquet."""

from __future__ import annotations

from ray.data._internal.datasource.csv_datasource import CSVDatasource
from ray.data._internal.datasource.image_datasource import ImageDatasource
from ray.data._internal.datasource.parquet_datasource import ParquetDatasource
from ray.data._internal.datasource.text_datasource import TextDatasource

__all__ = ["CSVDatasource", "ImageDatasource", "ParquetDatasource", "TextDatasource"]
