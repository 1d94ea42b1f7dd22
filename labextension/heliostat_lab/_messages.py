"""What the server extension answers to the browser, beside the messages it relays.

The same conventions as in ``heliostat._messages``; TypeScript types are generated from both.
"""

from __future__ import annotations

from heliostat._messages import Message, RuntimeStatus, Sample


class RuntimeView(Message, frozen=True):
    """Answer of ``GET heliostat/api/runtimes/KERNEL_ID``."""

    at: float
    """When the server asked: the age of a sample is told by the server's clock alone."""
    status: RuntimeStatus
    sample: Sample | None
    """The latest reading; ``None`` before the first."""


class VersionInfo(Message, frozen=True):
    """Answer of ``GET heliostat/api/version``."""

    version: str
    """Version of the installed distribution."""
    api: str
    """Version of the supervisor's API that is spoken here."""


PUBLIC_MESSAGES: tuple[type[Message], ...] = (RuntimeView, VersionInfo)
"""Roots for the generated types, after those of ``heliostat._messages``."""
