"""The callback of ``slow`` for XGBoost."""

from __future__ import annotations

from typing import Any

import xgboost
from tests.support.slow import Slow


class SlowXGB(Slow, xgboost.callback.TrainingCallback):
    """Waits after each round."""

    def after_iteration(self, model: Any, epoch: int, evals_log: Any) -> bool:
        """XGBoost calls it."""
        self.after(epoch)
        return False
