"""Everything that a rank needs, imported before it is told what to do."""

from __future__ import annotations

import torch
import torch.distributed
import torch.nn.parallel

from heliostat.modeling.distributors.pytorch import _worker
from heliostat.modeling.distributors.pytorch._late_compiler import defer_compiler

defer_compiler()

__all__ = ["_worker", "torch"]
