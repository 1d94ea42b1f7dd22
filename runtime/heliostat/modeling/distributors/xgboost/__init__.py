"""XGBoost on the workers of the runtime."""

from __future__ import annotations

from heliostat.modeling.distributors._boosting._report import Restart, TrainingReport
from heliostat.modeling.distributors.xgboost._plan import XGBScalingConfig
from heliostat.modeling.distributors.xgboost.estimator import XGBEstimator

__all__ = ["Restart", "TrainingReport", "XGBEstimator", "XGBScalingConfig"]
