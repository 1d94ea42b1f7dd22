"""The last readings, so that a panel opened late still has its history."""

from __future__ import annotations

from collections import deque
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from heliostat._messages.usage import Sample

KEPT = 900
"""Samples kept: 15 minutes at one a second."""


class Ring:
    """Samples of the last ``kept`` readings; the oldest give way."""

    def __init__(self, kept: int = KEPT) -> None:
        self._samples: deque[Sample] = deque(maxlen=kept)

    def add(self, sample: Sample) -> None:
        """Keep ``sample`` as the newest."""
        self._samples.append(sample)

    @property
    def latest(self) -> Sample | None:
        """The newest sample; ``None`` before the first."""
        return self._samples[-1] if self._samples else None

    def since(self, at: float) -> list[Sample]:
        """Samples taken after ``at`` (Unix seconds), oldest first.

        A clock that was set back in between does not hide what came after it: samples are
        searched from the newest, up to the first that is not newer.
        """
        found: list[Sample] = []
        for sample in reversed(self._samples):
            if sample.at <= at:
                break
            found.append(sample)
        found.reverse()
        return found
