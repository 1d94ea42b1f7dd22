"""What all messages have in common, and the one that says what went wrong."""

from __future__ import annotations

from typing import Any

import msgspec

API_VERSION = "v1"
"""First path segment of every supervisor URL; raised when a message changes shape."""


class Message(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """Base of all messages: immutable, strict, keyword-only."""


class ErrorBody(Message, frozen=True, kw_only=True):
    """Every answer of the supervisor with a status of 400 or more."""

    error: str
    """Name of the exception class in ``heliostat.exceptions``."""
    message: str
    action: str = ""
    fields: dict[str, Any] = msgspec.field(default_factory=dict)
