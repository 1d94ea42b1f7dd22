"""Blocks of memory that are used again.

A fresh block of some 30 MB costs as much time in page faults as the work on it. A block comes
back to its pool when the last array or tensor over it is gone, and never before: whoever keeps
a batch keeps its block.
"""

from __future__ import annotations

import contextlib
import mmap
import threading
from typing import Any

import numpy as np


class _Lease(np.ndarray[Any, Any]):
    """A block on loan; arrays and tensors over it hold it as their base."""

    pool: Blocks | None = None
    block: Any = None

    def __del__(self) -> None:
        # Views are leases too, without a pool: only the first one gives the block back.
        if self.pool is not None:
            self.pool._give_back(self.block)


class Blocks:
    """A pool of blocks.

    Parameters
    ----------
    most:
        Free blocks that are kept; further ones are given back to the system.
    """

    def __init__(self, most: int) -> None:
        self._most = most
        self._free: list[Any] = []
        self._lock = threading.Lock()

    def array(self, shape: tuple[int, ...], dtype: Any) -> np.ndarray[Any, Any]:
        """Return an uninitialised array."""
        kind = np.dtype(dtype)
        size = int(np.prod(shape)) * kind.itemsize
        block = self._taken(size)
        if block is None:
            block = _mapped(max(size, 1))
        # Over a mapping, since a view of a view of an array would refer past the lease.
        lease = _Lease((size,), np.uint8, block)
        lease.pool, lease.block = self, block
        array: np.ndarray[Any, Any] = lease.view(np.ndarray).view(kind).reshape(shape)
        return array

    def _taken(self, size: int) -> Any:
        with self._lock:
            for index, block in enumerate(self._free):
                if size <= len(block) <= 2 * size:
                    return self._free.pop(index)
        return None

    def _give_back(self, block: Any) -> None:
        # May run inside any other call, since it is called by the garbage collector: no waiting.
        if len(self._free) < self._most and self._lock.acquire(blocking=False):
            try:
                self._free.append(block)
            finally:
                self._lock.release()


def _mapped(size: int) -> mmap.mmap:
    block = mmap.mmap(-1, size, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
    with contextlib.suppress(OSError):  # a kernel without huge pages
        block.madvise(mmap.MADV_HUGEPAGE)
    return block
