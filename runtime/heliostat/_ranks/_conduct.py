"""Sees a cell through on its ranks: shows output, stops, ends, raises.

One loop does everything, so that nothing happens twice: it waits for news, shows them, and does
what :mod:`heliostat._ranks._decide` says is due.
"""

from __future__ import annotations

import contextlib
import os
import queue
import signal
import threading
import time
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from heliostat import _progress as progress
from heliostat._ranks._decide import Limits, Moment, Step, decide
from heliostat._ranks._errors import cell_error, interrupt, runtime_lost
from heliostat._ranks._output import Output
from heliostat._ranks._run import Ended, Run, Said, Woken
from heliostat._ranks._screen import Screen, cell_header, pinned
from heliostat._ranks._targets import label, spell
from heliostat._ranks._watch import describe
from heliostat.exceptions import HeliostatError, RankError, TaskCancelledError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from heliostat._ranks._group import RankGroup

__all__ = ["Options", "conduct"]

_TICK_SECONDS = 0.1
"""How often held output is looked at."""
_NEWS_SECONDS = 1.5
_PROGRESS_SECONDS = 1.0


@dataclass(frozen=True)
class Options:
    """How a cell is seen through."""

    limits: Limits = field(default_factory=Limits)
    group_by: str | None = None
    verbose: bool = False
    """Whether the tracebacks of all ranks are shown, not only that of the first."""
    progress_after: float | None = 2.0
    """After how many seconds a bar tells how many ranks are done; ``None``: never."""
    signal: int = signal.SIGINT
    """What ranks are sent when the cell is to stop."""


class _Conductor:
    def __init__(
        self, group: RankGroup, run: Run, options: Options, screen: Screen, task: progress.Task
    ) -> None:
        self.group, self.run, self.options, self.screen, self.task = group, run, options, screen, task
        self.output = Output(run.ranks, screen, lambda: _output_file(run), options.group_by)
        self._header = cell_header()
        self.reason = ""
        """Why the ranks were told to stop; empty while nobody told them."""
        self._stopped_at: float | None = None
        self._urgent = False
        self._last_news = self._last_told = run.began
        self._killed: list[int] = []
        self._done: set[int] = set()

    def loop(self) -> None:
        """Return when all ranks are done."""
        while len(self._done) < len(self.run.ranks):
            step, wait = decide(self._moment(), self.options.limits)
            if step is Step.WAIT:
                self._wait(min(wait, _TICK_SECONDS if self.output.holding else wait))
            elif step is Step.STOP:
                self.stop("a rank failed" if self._failed_at() is not None else "the time is up")
            elif step is Step.KILL:
                self._kill()
                self._wait(_TICK_SECONDS)
            else:
                self._watch()
            self.output.show(time.monotonic())
            self._tell_progress()
        self.output.show(time.monotonic(), all_of_it=True)

    def stop(self, reason: str) -> None:
        """Tell the ranks to stop; the second time, end them at once."""
        if self._stopped_at is not None:
            self._urgent = True
            return
        self.reason, self._stopped_at = reason, time.monotonic()
        self.group.stop_run(self.run, self.options.signal)

    def _moment(self) -> Moment:
        return Moment(
            now=time.monotonic(),
            began=self.run.began,
            last_news=self._last_news,
            failed_at=self._failed_at(),
            stopped_at=self._stopped_at,
            urgent=self._urgent,
        )

    def _failed_at(self) -> float | None:
        bad = [each.at for each in self.run.outcomes.values() if each.how in (Ended.FAILED, Ended.DIED)]
        return min(bad, default=None)

    def _wait(self, seconds: float) -> None:
        """Wait for news, then take all that there are."""
        try:
            event = self.run.events.get(timeout=seconds)
        except queue.Empty:
            return
        now = self._last_news = time.monotonic()
        while True:
            self._take(event, now)
            try:
                event = self.run.events.get_nowait()
            except queue.Empty:
                return

    def _take(self, event: Said | Woken | int, now: float) -> None:
        if isinstance(event, Said):
            self.output.take(event.rank, event.kind, event.content, now)
        elif isinstance(event, Woken):
            self.stop(event.reason)
        elif event not in self._done:
            self._done.add(event)
            self.output.finish(event, now)
            self.task.update(done=len(self._done))
            if self._stopped_at is not None:
                # Who waits in a collective for this one has no better news than its leaving.
                self.group.tell([event], "rank_drop_request")

    def _kill(self) -> None:
        for number in self.run.pending:
            self._killed.append(number)
            self.group.kill_rank(number)

    def _tell_progress(self) -> None:
        """Have the bar drawn though nothing changed: it is due, or shows how long the cell takes."""
        now, after = time.monotonic(), self.options.progress_after
        if after is None or now - self.run.began < after or now - self._last_told < _PROGRESS_SECONDS:
            return
        self._last_told = now
        self.task.update(done=len(self._done))

    def _watch(self) -> None:
        self._last_news = time.monotonic()
        for line in describe(self.group, self.run.pending):
            self.screen.write("stderr", f"{line}\n")

    def conclude(self) -> None:
        """Raise what the cell raises, after saying what was lost."""
        self.run.late = self._show_late
        lost = sorted({*self._killed, *self._dead()})
        gone = self._runtime_lost() if self._dead() else None
        dead = self._dead() if gone is None else []
        why = {number: self.group.ranks[number].why_dead() for number in dead}
        if gone is None and lost:
            for number in lost:
                self.group.respawn(number)
        if self.reason:
            self._say_stopped(lost)
        if gone is not None:
            raise gone
        failed = [number for number in self.run.ranks if self.run.outcomes[number].how is Ended.FAILED]
        if failed or why:
            raise cell_error(self.run, failed, why, verbose=self.options.verbose)
        if self.reason == "cancelled":
            message = "The cell was cancelled."
            raise TaskCancelledError(message, task_id=self.task.snapshot.task_id)
        if self.reason == "the time is up":
            message = f"The cell was stopped after --timeout {self.options.limits.timeout:g} s."
            raise RankError(
                message, "Give it more time, or none: leave --timeout out.", ranks=list(self.run.ranks)
            )
        if self.reason:
            raise interrupt()

    def _runtime_lost(self) -> HeliostatError | None:
        """Whether the ranks died with their runtime; where all did, the news may take a moment."""
        patience = _NEWS_SECONDS if len(self._dead()) == len(self.run.ranks) else 0.0
        deadline = time.monotonic() + patience
        while (found := runtime_lost()) is None and time.monotonic() < deadline:
            time.sleep(_TICK_SECONDS / 2)
        return found

    def _show_late(self, said: Said) -> None:
        """Show output of a thread under its own cell, though that has ended."""
        if said.kind == "stream":
            head = "" if len(self.run.ranks) == 1 else label([said.rank])
            lines = said.content["text"].splitlines(keepends=True)
            with pinned(self._header):
                self.screen.write(said.content["name"], "".join(head + line for line in lines))

    def _dead(self) -> list[int]:
        return [number for number in self.run.ranks if self.run.outcomes[number].how is Ended.DIED]

    def _say_stopped(self, lost: list[int]) -> None:
        stopped = [
            number
            for number in self.run.ranks
            if self.run.outcomes[number].how in (Ended.STOPPED, Ended.DIED)
        ]
        if not stopped:
            return
        seconds = time.monotonic() - (self._stopped_at or 0)
        text = f"{spell(stopped).capitalize()} stopped after {seconds:.1f} s"
        kept = [number for number in stopped if number not in lost]
        if kept:
            text += f"; {spell(kept)} kept all variables" if lost else ", all variables kept"
        killed = [number for number in lost if number in self._killed]
        if killed:
            text += (
                f"; {spell(killed)} could not be interrupted and was ended: its variables are lost,"
                " and it is started anew"
                if len(killed) == 1
                else f"; {spell(killed)} could not be interrupted and were ended: their variables are"
                " lost, and they are started anew"
            )
        self.screen.write("stderr", f"{text}.\n")


def conduct(
    group: RankGroup,
    run: Run,
    options: Options = Options(),
    screen: Screen | None = None,
    started: Callable[[Output], None] | None = None,
) -> Output:
    """See a cell through and return what it showed; ``started`` gets that before there is any.

    On the main thread an interrupt (Ctrl-C, the stop button) stops the ranks, and the second
    one ends at once those that are left.

    Raises
    ------
    RankError
        It failed on a rank, a rank died, or its time was up.
    RuntimeLostError
        The runtime went away.
    TaskCancelledError
        Somebody cancelled it.
    KeyboardInterrupt
        It was interrupted.
    """
    with progress.task(
        "distribute",
        _name(run.code),
        total=len(run.ranks),
        unit="ranks",
        shown_after=options.progress_after,
    ) as task:
        conductor = _Conductor(group, run, options, screen or Screen(), task)
        if started is not None:
            started(conductor.output)
        task.on_cancel(lambda: run.events.put(Woken("cancelled")))
        with _interrupts_as_events(run):
            conductor.loop()
        conductor.conclude()
    return conductor.output


@contextlib.contextmanager
def _interrupts_as_events(run: Run) -> Iterator[None]:
    """Have SIGINT wake the loop instead of tearing it up wherever it is."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    former = signal.signal(signal.SIGINT, lambda *_: run.events.put(Woken("interrupted")))
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, former)


def _name(code: str) -> str:
    line = next((line.strip() for line in code.splitlines() if line.strip()), "cell")
    return line if len(line) <= 60 else f"{line[:59]}…"


def _output_file(run: Run) -> Path:
    from heliostat._paths import data_directory

    folder = data_directory() / "outputs"
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    return folder / f"{time.strftime('%Y%m%d-%H%M%S')}-{os.getpid()}-{run.number}.txt"
