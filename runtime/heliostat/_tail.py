"""The last lines of a log."""

from __future__ import annotations

from pathlib import Path

from heliostat.exceptions import ConfigurationError

__all__ = ["tail"]

_MOST_BYTES = 256 * 1024


def tail(path: str, lines: int) -> list[str]:
    """Return the last ``lines`` lines, of the last 256 KiB. Raises ConfigurationError."""
    try:
        with Path(path).open("rb") as file:
            file.seek(0, 2)
            file.seek(max(file.tell() - _MOST_BYTES, 0))
            text = file.read().decode(errors="replace")
    except OSError as error:
        message = f"The log {path} cannot be read: {error.strerror}."
        raise ConfigurationError(message) from error
    return text.splitlines()[-max(lines, 1) :]
