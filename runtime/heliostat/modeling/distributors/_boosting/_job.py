"""One worker's part of a training, and what both libraries' workers do with it alike."""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from heliostat.modeling._workers._wire import load
from heliostat.modeling.distributors._boosting._columns import decode
from heliostat.modeling.distributors._boosting._reporting import Reporter

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from heliostat.modeling._workers import WorkerContext
    from heliostat.modeling.distributors._boosting._columns import Columns, Decoded
    from heliostat.modeling.distributors._boosting._report import Checkpoint
    from heliostat.modeling.distributors._boosting._rows import Part
    from heliostat.modeling.distributors._boosting._spec import Spec


@dataclass(frozen=True)
class Job:
    """What one worker is told."""

    spec: Spec
    parts: Mapping[str, Part]
    """``train`` first, then the evaluation sets by name."""
    columns: Mapping[str, Columns]
    threads: int
    gpu: bool
    callbacks: Sequence[Any]
    report_every: int
    """Rounds between two lines of progress; 0 for none."""
    checkpoint_every: int
    start: bytes | None
    """A model of the user's to go on from."""
    checkpoint: Checkpoint | None
    """Where an earlier attempt got to."""

    def watched(self, *asking: str) -> bool:
        """Whether metrics of every round are wanted; those of the training rows cost a tenth of its time.

        ``asking`` are the settings that ask for them.
        """
        asked = {*asking} & {*self.spec.params, *(n for n, v in self.spec.options.items() if v is not None)}
        return bool(len(self.parts) > 1 or asked or self.callbacks or self.report_every)

    @property
    def model(self) -> bytes | None:
        """What to go on from."""
        return self.checkpoint.model if self.checkpoint is not None else self.start

    @property
    def done(self) -> int:
        """Rounds that an earlier attempt has done."""
        return self.checkpoint.rounds if self.checkpoint is not None else 0

    @property
    def history(self) -> dict[str, dict[str, list[float]]]:
        """Metrics of those rounds, as lists of their own."""
        found = self.checkpoint.history if self.checkpoint is not None else {}
        return {name: {m: list(v) for m, v in metrics.items()} for name, metrics in found.items()}

    def kept(self) -> list[Any] | None:
        """Return the callbacks as an earlier attempt left them, if it did."""
        state = self.checkpoint.state if self.checkpoint is not None else b""
        found: list[Any] | None = load(state) if state else None
        return found

    def read(self, context: WorkerContext) -> tuple[dict[str, Decoded], Reporter]:
        """Decode the own rows of each data set, and begin to report."""
        report = Reporter(context, sum(part.rows for part in self.parts.values()), self.spec.rounds)
        began = time.monotonic()
        report.phase("reads")
        decoded = {
            name: decode(part, self.columns[name], lambda: context.stopping, threads=self.threads)
            for name, part in self.parts.items()
        }
        report.phases["decode"] = time.monotonic() - began
        return decoded, report
