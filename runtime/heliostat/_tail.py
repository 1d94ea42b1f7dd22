"""The last lines of a log."""

from __future__ import annotations

from pathlib import Path

from heliostat.exceptions import ConfigurationError

__all__ = ["tail", "tail_if_any"]

_MOST_BYTES = 256 * 1024


def tail(path: str, lines: int) -> list[str]:
    """Return the last ``lines`` lines, of the last 256 KiB. Raises ConfigurationError."""
    try:
        return _read(Path(path), lines)
    except OSError as error:
        message = f"The log {path} cannot be read: {error.strerror}."
        raise ConfigurationError(message) from error


def tail_if_any(path: Path, lines: int) -> list[str]:
    """The same of a log that may not be there: then there are no lines."""
    try:
        return _read(path, lines)
    except OSError:
        return []


def _read(path: Path, lines: int) -> list[str]:
    with path.open("rb") as file:
        file.seek(0, 2)
        file.seek(max(file.tell() - _MOST_BYTES, 0))
        text = file.read().decode(errors="replace")
    return text.splitlines()[-max(lines, 1) :]
