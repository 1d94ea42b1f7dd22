"""The two calls most notebooks need."""

from __future__ import annotations

from typing import Any

from heliostat.dataset._catalog import identifier_of
from heliostat.dataset.dataset import Dataset, write_version

__all__ = ["create_from_dataframe", "load_dataset"]


def create_from_dataframe(
    session: Any, name: str, version: str, input_dataframe: Any, **version_kwargs: Any
) -> Dataset:
    """Store rows as a version of a dataset, which is made in the same step if it is not there.

    Parameters
    ----------
    session:
        Whose DataFrames are read and made; ``None`` is the active session.
    name, version:
        What the dataset and the version are called.
    input_dataframe:
        A relation, or whatever ``DataConnector.from_dataframe`` takes.
    **version_kwargs:
        As for ``Dataset.create_version``.

    Raises
    ------
    DatasetExistError
        The version is there already.
    """
    identifier = identifier_of(name)
    write_version(identifier, version, input_dataframe, create=True, **version_kwargs)
    return Dataset(session, *identifier, selected_version=version)


def load_dataset(session: Any, name: str, version: str) -> Dataset:
    """Load a dataset with a version selected. Raises DatasetNotExistError when either is not there."""
    return Dataset(session, *identifier_of(name), selected_version=version)
