"""Batches for training from Parquet: decoded in threads, shuffled, exact and resumable.

``_plan`` decides the order, ``_pool`` owns the threads, ``_decode``, ``_cursors`` and ``_forms``
turn row groups into rows, ``_reader`` cuts batches, ``_cache`` and ``_buckets`` use the local disk,
``_torch`` and ``_tensorflow`` are what users see. :func:`make_recipe` is the way in.
"""

from __future__ import annotations

from heliostat.data._loading._recipes import make_recipe, tensorflow_dataset, torch_dataset

__all__ = ["make_recipe", "tensorflow_dataset", "torch_dataset"]
