"""Older names of what is in :mod:`heliostat.modeling.distributors.pytorch`."""

from __future__ import annotations

from heliostat.modeling.distributors.pytorch import PyTorchDistributor as PyTorchTrainer
from heliostat.modeling.distributors.pytorch import PyTorchScalingConfig as ScalingConfig
from heliostat.modeling.distributors.pytorch import get_context as getContext  # noqa: N812

__all__ = ["PyTorchTrainer", "ScalingConfig", "getContext"]
