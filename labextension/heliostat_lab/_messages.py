"""What the server extension and the browser say to each other, beside the messages that are relayed.

The same conventions as in ``heliostat._messages``; TypeScript types are generated from both.
"""

from __future__ import annotations

import msgspec

from heliostat._messages.base import ErrorBody, Message
from heliostat._messages.cluster import Node
from heliostat._messages.runtime import RuntimeStatus
from heliostat._messages.usage import CellAccount, Sample
from heliostat._messages.work import Rank, Work


class RuntimeView(Message, frozen=True):
    """Answer of ``GET heliostat/api/runtimes/KERNEL_ID``."""

    at: float
    """When the server asked: the age of a sample is told by the server's clock alone."""
    status: RuntimeStatus
    sample: Sample | None
    """The latest reading; ``None`` before the first."""


class StreamRequest(Message, frozen=True, kw_only=True):
    """From the browser on ``heliostat/api/stream``: which kernels to follow."""

    kernel_id: str
    follow: bool = True
    """``False``: this kernel is of no interest any more."""
    interval: float = 1.0
    """Seconds between two readings, 0.2 at the least."""


class KernelEnd(Message, frozen=True, kw_only=True):
    """How a kernel died that nobody had asked to end."""

    at: float
    what: str
    action: str


class StreamUpdate(Message, frozen=True, kw_only=True, omit_defaults=True):
    """To the browser on ``heliostat/api/stream``: news of one kernel's runtime.

    Parts without news are left out. The first update after a change of runtime has all of them.
    """

    kernel_id: str
    at: float
    """When the server sent it, by the server's clock."""
    present: bool = True
    """``False``: the kernel has no runtime. What was known of a former one still holds as its last."""
    status: RuntimeStatus | None = None
    samples: list[Sample] = msgspec.field(default_factory=list)
    """New readings, oldest first. Only the newest names processes."""
    nodes: list[Node] | None = None
    cells: list[CellAccount] | None = None
    work: list[Work] | None = None
    ranks: list[Rank] | None = None
    problem: ErrorBody | None = None
    """Why there is no news, in the supervisor's words or ours."""
    kernel_end: KernelEnd | None = None


class LogTail(Message, frozen=True, kw_only=True):
    """Answer of ``GET heliostat/api/runtimes/KERNEL_ID/log``."""

    lines: list[str]


class VersionInfo(Message, frozen=True):
    """Answer of ``GET heliostat/api/version``."""

    version: str
    """Version of the installed distribution."""
    api: str
    """Version of the supervisor's API that is spoken here."""
