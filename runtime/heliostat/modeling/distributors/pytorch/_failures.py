"""Errors of a training as a person reads them: which rank, which line, what to do."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from heliostat.exceptions import HeliostatError, TrainingError
from heliostat.modeling.distributors.pytorch._frames import (
    in_collective,
    is_own,
    listing,
    place,
    source,
    user_frames,
)

if TYPE_CHECKING:
    from heliostat.exceptions import ConfigurationError
    from heliostat.modeling.distributors.pytorch._attempt import AttemptEnd
    from heliostat.modeling.distributors.pytorch._job import Frame


def raised_error(end: AttemptEnd, log: str) -> TrainingError:
    """A rank's ``train_func`` raised; the exception is the cause."""
    assert end.outcome is not None, "a rank that raised says what"
    cause = _unpickled(end.outcome.error)
    frames = user_frames(end.outcome.frames)
    fields: dict[str, Any] = {"rank": end.rank, "traceback": listing(frames), "log": log}
    text, action = end.outcome.summary, f"All it printed is in {log}"
    if isinstance(cause, HeliostatError):
        text, action = cause.message, cause.action
    where = ""
    if frames:
        where = f"\n{listing(frames)}"
        fields |= {"line": frames[-1].line, "place": place(frames[-1])}
    # In parentheses behind the text, so that the first line of the error has all of it.
    at = f" ({fields['place']})" if frames else ""
    raised = TrainingError(f"Training failed on rank {end.rank}: {text}{at}{where}", action, **fields)
    raised.__cause__ = cause
    return raised


def lost_error(
    end: AttemptEnd, times: int, log: str, missing: ConfigurationError | None = None
) -> TrainingError:
    """A process was lost once too often, or what is left is ``missing`` something."""
    death = end.death
    text = death.text if death is not None else "the ranks lost each other"
    if death is None and end.outcome is not None:
        text += f" ({end.outcome.summary})"
    action = f"All it printed is in {log}"
    if death is not None and death.out_of_memory:
        action = "Give each worker more memory, use fewer workers, or smaller batches."
    often = "" if times == 1 else f" It was loss number {times}; max_failures allows no more."
    if missing is not None:
        often, action = f" {missing.message}", missing.action
    fields: dict[str, Any] = {"rank": end.rank, "log": log}
    if death is not None:
        fields |= {"exit_code": death.code, "out_of_memory": death.out_of_memory}
    return TrainingError(f"Training failed on rank {end.rank}: {text}.{often}", action, **fields)


def hang_error(end: AttemptEnd, seconds: float) -> TrainingError:
    """Ranks wait for each other."""
    where = {rank: _where(frames) for rank, frames in sorted(end.stacks.items())}
    lines = [f"  rank {rank}: {text}" for rank, text in where.items()]
    message = f"No rank made progress for {seconds:g} s, and there are ranks that wait in a collective:\n"
    action = "All ranks must call the same collectives in the same order; see hang_timeout_s for slow ones."
    return TrainingError(message + "\n".join(lines), action, stacks=where)


def _where(frames: list[Frame]) -> str:
    own = [frame for frame in frames if is_own(frame)]
    if not frames:
        return "gives no answer"
    if not own:
        return "train_func has returned" if in_collective(frames) is False else f"in {frames[-1].function}"
    last, inner = own[-1], frames[-1]
    called = "" if inner == last else f", in {_name(frames)}"
    text = source(last)
    return f"{place(last)}, in {last.function}{called}" + (f": {text}" if text else "")


def _name(frames: list[Frame]) -> str:
    """The function of torch that the user's line called, as far as it is a collective."""
    below = [frame for frame in frames if not is_own(frame)]
    named = [f for f in below if in_collective([f]) and f.function != "wrapper"]
    return (named or below)[0].function


def _unpickled(pickled: bytes | None) -> BaseException | None:
    if pickled is None:
        return None
    from ray import cloudpickle

    try:
        found: BaseException = cloudpickle.loads(pickled)
    except Exception:
        return None
    return found
