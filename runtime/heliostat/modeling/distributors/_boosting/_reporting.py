"""What a worker tells of itself while it trains: rounds, metrics, memory, checkpoints."""

from __future__ import annotations

import os
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

from heliostat.modeling.distributors._boosting._callbacks import snapshot
from heliostat.modeling.distributors._boosting._driving import Line, Round, Seen
from heliostat.modeling.distributors._boosting._report import Checkpoint

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from heliostat.modeling._workers import WorkerContext

GLANCES = 10
"""How often the metrics of a training that nobody asked them of are computed, for its progress."""
_ROUND_S = 0.05
_SEEN_S = 1.0


def glances(rounds: int) -> int:
    """Every which round a training looks at metrics that nobody asked for; alike on all ranks."""
    return max(rounds // GLANCES, 1)


class Reporter:
    """Sends what is new to the driver, and no more often than somebody could look at it."""

    def __init__(self, context: WorkerContext, rows: int, total: int) -> None:
        self.context, self._rows, self._total = context, rows, total
        self.phases: dict[str, float] = {}
        self._phase = ""
        self._round_at = self._seen_at = 0.0

    def phase(self, name: str) -> None:
        """Begin another part of the work."""
        self._phase = name
        self._tell_seen()

    def round(self, done: int, metrics: Mapping[str, float], report_every: int) -> None:
        """A round is done. Only rank 0 tells of it; all tell of their memory now and then."""
        now = time.monotonic()
        if now - self._seen_at > _SEEN_S:
            self._tell_seen()
        if self.context.rank:
            return
        if now - self._round_at > _ROUND_S or done == self._total:
            self._round_at = now
            self.context.send(Round(done, {name: float(value) for name, value in metrics.items()}))
        if report_every and (done % report_every == 0 or done == self._total):
            shown = "\t".join([f"[{done - 1}]", *(f"{name}:{value:.5f}" for name, value in metrics.items())])
            self.context.send(Line(shown))

    def checkpoint_due(self, rounds: int, every: int) -> bool:
        """Whether this rank should send a checkpoint after so many rounds."""
        return self.context.rank == 0 and bool(every) and rounds % every == 0 and rounds < self._total

    def checkpoint(
        self, rounds: int, model: bytes, history: Mapping[str, Mapping[str, Any]], callbacks: Sequence[Any]
    ) -> None:
        """Send what is needed to go on after this round."""
        copied = {name: {m: list(v) for m, v in found.items()} for name, found in history.items()}
        self.context.send(Checkpoint(rounds, model, copied, snapshot(callbacks)))

    def pickled(self, callbacks: Sequence[Any]) -> bytes:
        """Callbacks with what they learned, for the user's own objects."""
        return snapshot(callbacks)

    def _tell_seen(self) -> None:
        self._seen_at = time.monotonic()
        self.context.send(Seen(os.getpid(), self._rows, _resident_bytes(), self._phase))


def _resident_bytes() -> int:
    try:
        return int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")
    except OSError:
        return 0
