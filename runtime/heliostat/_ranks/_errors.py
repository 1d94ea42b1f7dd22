"""What a cell on ranks raises: the first failure in full, the others in a line each."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from heliostat._ranks._targets import label, spell
from heliostat.exceptions import HeliostatError, RankError, RuntimeLostError

if TYPE_CHECKING:
    from heliostat._ranks._run import Outcome, Run

__all__ = ["cell_error", "interrupt", "runtime_lost"]

_CONNECTION_LOST = ("Connection closed by peer", "Connection reset by peer", "Broken pipe", "Socket closed")


def runtime_lost() -> RuntimeLostError | None:
    """Make the error of a cell whose runtime went away, if that is what happened."""
    from heliostat import _handle

    runtime = _handle.current()
    if runtime is None or not runtime.alive or runtime.failed:
        message = "The runtime was lost while the cell ran, and its ranks with it."
        return RuntimeLostError(message, "Start it again with %runtime start, then run the cell again.")
    return None


def interrupt() -> KeyboardInterrupt:
    """Make an interrupt that shows no traceback of ours."""
    error: Any = KeyboardInterrupt("the cell was interrupted")
    error._render_traceback_ = lambda: ["KeyboardInterrupt"]
    interrupt: KeyboardInterrupt = error
    return interrupt


def cell_error(run: Run, failed: list[int], why: dict[int, str], *, verbose: bool) -> HeliostatError:
    """Make the error of a cell: the first failure in full, the others in a line each."""
    outcomes = run.outcomes
    order = sorted(
        [*failed, *why], key=lambda number: (_consequence(outcomes[number]), outcomes[number].at, number)
    )
    groups: dict[str, list[int]] = {}
    for number in order:
        said = f"died: {why[number]}" if number in why else _said(outcomes[number])
        groups.setdefault(said, []).append(number)
    first, *others = groups.items()
    said, ranks = first
    message = f"{spell(ranks).capitalize()} {said}" if ranks[0] in why else f"{label(ranks)}{said}"
    more = "; ".join(f"{spell(numbers)} {text}" for text, numbers in others)
    action = f"Also: {more}." if more else ""
    if why:
        action = f"{action} The rank is started anew, without its variables.".strip()
    shown = [numbers[0] for _, numbers in groups.items()] if verbose else ranks[:1]
    traceback: list[str] = []
    for number in shown:
        lines = outcomes[number].traceback
        traceback += [f"[{spell([number])}]", *lines] if verbose and lines else lines
    return RankError(
        message if message.endswith(".") else f"{message}.",
        action,
        ranks=sorted([*failed, *why]),
        rank=ranks[0],
        ename=outcomes[ranks[0]].ename or "Death",
        evalue=outcomes[ranks[0]].evalue or why.get(ranks[0], ""),
        traceback=traceback,
    )


def _said(outcome: Outcome) -> str:
    value = outcome.evalue.strip()
    return f"{outcome.ename}: {value}" if value else outcome.ename


def _consequence(outcome: Outcome) -> bool:
    """Whether it failed because another rank had gone."""
    return any(sign in outcome.evalue for sign in _CONNECTION_LOST)
