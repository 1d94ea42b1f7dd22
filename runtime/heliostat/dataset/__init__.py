"""Versioned datasets: rows that are stored once and never change, on Iceberg tables."""

from heliostat.dataset.dataset import Dataset
from heliostat.dataset.dataset_factory import create_from_dataframe, load_dataset
from heliostat.dataset.dataset_reader import DatasetReader
from heliostat.dataset.dataset_version import DatasetVersion
from heliostat.exceptions import (
    DatasetCannotDeleteError,
    DatasetError,
    DatasetExistError,
    DatasetNotExistError,
)

__all__ = [
    "Dataset",
    "DatasetCannotDeleteError",
    "DatasetError",
    "DatasetExistError",
    "DatasetNotExistError",
    "DatasetReader",
    "DatasetVersion",
    "create_from_dataframe",
    "load_dataset",
]
