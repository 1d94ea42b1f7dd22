"""XGBoost on the workers of the runtime."""

from __future__ import annotations

from heliostat.modeling.distributors.xgboost._plan import XGBScalingConfig
from heliostat.modeling.distributors.xgboost.estimator import XGBEstimator

__all__ = ["XGBEstimator", "XGBScalingConfig"]
