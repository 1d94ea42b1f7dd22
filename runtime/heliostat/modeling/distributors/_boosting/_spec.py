"""What to train, as both libraries' plans say it, and what they decide alike."""

from __future__ import annotations

import contextlib
import difflib
import operator
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from heliostat.exceptions import ConfigurationError

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Mapping

_ROUNDS = 100


@dataclass(frozen=True)
class Spec:
    """A plan. ``options`` has what the library's ``train`` takes beside its parameters."""

    rounds: int
    params: Mapping[str, Any]
    objective: Any
    classifier: bool
    options: Mapping[str, Any] = field(default_factory=dict)


def merge(
    n_estimators: Any,
    objective: Any,
    params: Mapping[str, Any] | None,
    *,
    elsewhere: Mapping[str, str],
    default: str,
) -> tuple[int, dict[str, Any]]:
    """Return rounds and parameters; keys of ``params`` go before arguments, ``None`` is no value.

    ``elsewhere`` has for each parameter that is no parameter here what is to be used in its place.

    Raises
    ------
    ConfigurationError
        A parameter is set elsewhere, or the number of rounds is none.
    """
    merged = dict(params or {})
    for name in merged:
        if name in elsewhere:
            message = f"params[{name!r}] is not taken."
            raise ConfigurationError(message, f"Use {elsewhere[name]}.")
    rounds = [merged.pop("n_estimators", None), n_estimators, _ROUNDS]
    objectives = [merged.get("objective"), objective, default]
    merged["objective"] = next(each for each in objectives if each is not None)
    return at_least_one("n_estimators", next(each for each in rounds if each is not None)), merged


def whole(value: Any) -> int | None:
    """Return a whole number of Python or numpy as an int; ``None`` for anything else."""
    with contextlib.suppress(TypeError):
        return None if isinstance(value, bool) else operator.index(value)
    return None


def at_least_one(name: str, value: Any) -> int:
    """Return a number of rounds. Raises ConfigurationError for what is none."""
    number = whole(value)
    if number is None or number < 1:
        message = f"{name}={value!r} is not a number of rounds."
        raise ConfigurationError(message, "Pass 1 or more.")
    return number


def leave_out(unknown: Iterable[str], known: Collection[str]) -> str:
    """Advise on parameters that a library does not know: those of its own that look alike, or none."""
    near = [match for name in unknown for match in difflib.get_close_matches(name, known, 1)]
    return f"Did you mean {', '.join(map(repr, near))}? Else leave them out." if near else "Leave them out."


def check_objective(chosen: Any, library: str, example: str) -> None:
    """Raise ConfigurationError unless it is a name or a function."""
    if not isinstance(chosen, str) and (not callable(chosen) or isinstance(chosen, type)):
        message = f"objective={chosen!r} is not an objective."
        action = f'Pass a name that {library} knows, such as "{example}", or a function.'
        raise ConfigurationError(message, action)
