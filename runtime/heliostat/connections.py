"""Databases by name, opened through ADBC, with passwords kept where only their owner can read them."""

from __future__ import annotations

from heliostat._connections import Connection, add, connect, connections, remove

__all__ = ["Connection", "add", "connect", "connections", "remove"]
