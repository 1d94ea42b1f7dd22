"""Who this process is to the runtime that it will own. Light: set before anything is imported."""

from __future__ import annotations

kernel_id: str | None = None
"""Jupyter's id of the kernel that this process is, by which its server finds the runtime."""
