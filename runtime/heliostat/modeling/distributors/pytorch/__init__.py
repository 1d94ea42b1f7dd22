"""PyTorch on the workers of the runtime."""

from __future__ import annotations

from heliostat.modeling.distributors.pytorch import _ahead
from heliostat.modeling.distributors.pytorch.context import Context, get_context
from heliostat.modeling.distributors.pytorch.pytorch_trainer import (
    PyTorchDistributor,
    PyTorchDistributorResult,
)
from heliostat.modeling.distributors.pytorch.scaling_config import PyTorchScalingConfig, WorkerResourceConfig

__all__ = [
    "Context",
    "PyTorchDistributor",
    "PyTorchDistributorResult",
    "PyTorchScalingConfig",
    "WorkerResourceConfig",
    "get_context",
]

_ahead.prepare()
