"""What ``%runtime`` shows: a picture of the runtime at one moment, as text and as HTML.

:func:`facts` decides what is said; the text here and :mod:`heliostat_magics._html` only lay
it out, so a terminal and a notebook read the same.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from heliostat._messages.cluster import Provider
from heliostat._messages.runtime import RuntimeState
from heliostat.exceptions import RuntimeLostError
from heliostat_magics._format import UNKNOWN, count, duration, percent, share, size

if TYPE_CHECKING:
    from heliostat._messages.runtime import RuntimeStatus
    from heliostat._messages.usage import Sample
    from heliostat.exceptions import HeliostatError

__all__ = ["Fact", "RuntimeView", "facts"]

LOG_LINES = 10


@dataclass(frozen=True)
class Fact:
    """One line: what it is about, what is so, and how full that is (0..1)."""

    label: str
    text: str
    share: float | None = None
    harmful: bool = False
    """Whether something is killed, or spilled, when it is full."""


@dataclass(frozen=True, repr=False)
class RuntimeView:
    """The runtime as it was when ``%runtime`` ran.

    ``status`` is ``None`` where there is no runtime or it cannot be reached; ``error`` then
    says why, if there is a reason.
    """

    status: RuntimeStatus | None
    sample: Sample | None
    now: float
    error: HeliostatError | None = None
    log_tail: tuple[str, ...] = ()
    all_steps: bool = False

    @property
    def state(self) -> str:
        """State of the runtime in a word, ``lost`` and ``none`` counted in."""
        if self.status is None:
            return "lost" if isinstance(self.error, RuntimeLostError) else "none"
        return self.status.state.value

    @property
    def title(self) -> str:
        """State and since when, in a line."""
        if self.status is None:
            return "Runtime lost" if self.state == "lost" else "No runtime"
        return f"Runtime {self.state} for {duration(self.now - self.status.since)}"

    @property
    def message(self) -> str:
        """What to know beyond the state: a reason, or what to do."""
        if self.status is None:
            return str(self.error) if self.error else "Start one with %runtime start."
        failure = self.status.failure
        if failure is not None:
            return f"{failure.what} {failure.action}".strip()
        return "" if self.status.state is RuntimeState.READY else self.status.reason

    @property
    def facts(self) -> list[Fact]:
        """Everything that is measured or counted."""
        return [] if self.status is None else facts(self.status, self.sample, self.now)

    @property
    def steps(self) -> list[tuple[str, str]]:
        """Steps of the boot as (time, name): all of them while they matter."""
        status = self.status
        if status is None:
            return []
        booting = status.state in (RuntimeState.STARTING, RuntimeState.FAILED)
        if not (booting or self.all_steps):
            return []
        return [(f"{step.elapsed:.2f} s", step.name) for step in status.steps]

    @property
    def transitions(self) -> list[tuple[str, str]]:
        """Changes of state as (seconds since start, state and reason); for ``%runtime steps``."""
        status = self.status
        if status is None or not self.all_steps:
            return []
        return [
            (f"{change.at - status.started_at:.2f} s", f"{change.state.value}: {change.reason}")
            for change in status.transitions
        ]

    @property
    def log(self) -> tuple[str, ...]:
        """Last lines of the log, where something failed."""
        failure = self.status.failure if self.status else None
        lines = tuple(failure.log_tail) if failure and failure.log_tail else self.log_tail
        return lines[-LOG_LINES:]

    def __repr__(self) -> str:
        width = max((len(fact.label) for fact in self.facts), default=0)
        lines = [f"{self.title} ({self.status.runtime_id})" if self.status else self.title]
        if self.message:
            lines.append(self.message)
        lines += [f"  {fact.label:<{width}}  {fact.text}" for fact in self.facts]
        for heading, rows in (("boot", self.steps), ("states", self.transitions)):
            if rows:
                lines.append(heading)
                lines += [f"  {at:>9}  {text}" for at, text in rows]
        if self.log:
            lines += ["log", *(f"  {line}" for line in self.log)]
        return "\n".join(lines)

    def _repr_html_(self) -> str:
        from heliostat_magics._html import render

        return render(self)


def facts(status: RuntimeStatus, sample: Sample | None, now: float) -> list[Fact]:
    """What can be said of a runtime in numbers; pure."""
    rows = [Fact("Address", _address(status)), Fact("Up", duration(now - status.started_at))]
    if status.state in (RuntimeState.STARTING, RuntimeState.FAILED, RuntimeState.STOPPED):
        return rows if status.address else rows[1:]
    if status.boot_mode is not None and status.steps:
        steps = ", ".join(f"{step.name} {duration(step.elapsed)}" for step in status.steps)
        rows.append(Fact("Boot", f"{status.boot_mode.value}: {steps}"))
    rows += _given_out(status, sample)
    rows += _machine(sample)
    if status.resources is not None:
        rows.append(Fact("Nodes", count(status.resources.nodes)))
    if sample is not None and sample.ray is not None and sample.ray.pending:
        rows.append(Fact("Waiting", "; ".join(sample.ray.pending)))
    if status.resize is not None and not status.resize.state.finished:
        rows.append(Fact("Resize", _resize(status)))
    return rows


def _address(status: RuntimeStatus) -> str:
    kind = "attached, not ours to stop" if status.provider is Provider.ATTACHED else "local"
    return f"{status.address or UNKNOWN} ({kind})"


def _resize(status: RuntimeStatus) -> str:
    resize = status.resize
    assert resize is not None
    waits = "; waits for " + ", ".join(resize.waiting_for) if resize.waiting_for else ""
    return f"{resize.state.value}: {resize.message}{waits}"


def _given_out(status: RuntimeStatus, sample: Sample | None) -> list[Fact]:
    """What Ray has to give, and what of it is given out."""
    total = status.resources
    use = sample.ray if sample else None
    if total is None:
        return [Fact(label, UNKNOWN) for label in ("CPUs", "GPUs", "Ray memory", "Object store")]
    cpus, gpus, memory, objects = (
        (use.cpus_used, use.gpus_used, use.memory_used_bytes, use.object_store_used_bytes)
        if use
        else (None, None, None, None)
    )
    gpu_text = f"{count(gpus)} of {count(total.gpus)} in use" if total.gpus else "none"
    return [
        Fact("CPUs", f"{count(cpus)} of {count(total.cpus)} in use", share(cpus, total.cpus)),
        Fact("GPUs", gpu_text, share(gpus, total.gpus)),
        Fact(
            "Ray memory",
            f"{size(memory)} of {size(total.memory_bytes)} reserved",
            share(memory, total.memory_bytes),
        ),
        Fact(
            "Object store",
            f"{size(objects)} of {size(total.object_store_bytes)}",
            share(objects, total.object_store_bytes),
            harmful=True,
        ),
    ]


def _machine(sample: Sample | None) -> list[Fact]:
    """What the machine, or the container around us, really uses."""
    if sample is None:
        return [Fact("Machine CPU", UNKNOWN), Fact("Machine memory", UNKNOWN)]
    host = sample.host
    load = share(host.cpu_percent, host.cpus * 100)
    return [
        Fact(
            "Machine CPU",
            f"{percent(None if load is None else load * 100)} of {count(host.cpus)} CPUs",
            load,
        ),
        Fact(
            "Machine memory",
            f"{size(host.memory_used_bytes)} of {size(host.memory_limit_bytes)}",
            share(host.memory_used_bytes, host.memory_limit_bytes),
            harmful=True,
        ),
    ]
