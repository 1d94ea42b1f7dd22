"""LightGBM on the workers of the runtime."""

from __future__ import annotations

from heliostat.modeling.distributors._boosting._report import Restart, TrainingReport
from heliostat.modeling.distributors.lightgbm._plan import LightGBMScalingConfig
from heliostat.modeling.distributors.lightgbm.estimator import LightGBMEstimator

__all__ = ["LightGBMEstimator", "LightGBMScalingConfig", "Restart", "TrainingReport"]
