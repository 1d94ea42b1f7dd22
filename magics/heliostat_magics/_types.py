"""What flags of ``%%distribute`` and its family take, for ``type=`` of a parser."""

from __future__ import annotations

import argparse
import signal

__all__ = ["amount", "names", "seconds", "seconds_or_never", "signal_name"]


def amount(text: str) -> float:
    """``type=`` for a finite number of at least 0."""
    return _not_negative(text, "an amount of at least 0")


def seconds(text: str) -> float:
    """``type=`` for seconds; 0 is off."""
    return _not_negative(text, "a number of seconds")


def seconds_or_never(text: str) -> float | None:
    """``type=`` for seconds; -1 is never."""
    return None if text.strip() == "-1" else seconds(text)


def signal_name(text: str) -> signal.Signals:
    """``type=`` for a signal: ``SIGUSR1``, ``USR1`` or ``10``."""
    name = text.upper()
    try:
        return (
            signal.Signals(int(text)) if text.isdigit() else signal.Signals[f"SIG{name.removeprefix('SIG')}"]
        )
    except (KeyError, ValueError):
        message = f"{text!r} is not a signal, such as SIGINT or SIGUSR1"
        raise argparse.ArgumentTypeError(message) from None


def names(text: str) -> str:
    """``type=`` for the name of a variable."""
    if not text.isidentifier():
        message = f"{text!r} is not the name of a variable"
        raise argparse.ArgumentTypeError(message)
    return text


def _not_negative(text: str, what: str) -> float:
    try:
        value = float(text)
    except ValueError:
        value = -1.0
    if not 0 <= value < float("inf"):
        message = f"{text!r} is not {what}"
        raise argparse.ArgumentTypeError(message)
    return value
