"""Sizes as people write them, and as they read them."""

from __future__ import annotations

import re
from fractions import Fraction

from heliostat.exceptions import ConfigurationError

_LARGEST = 2**63 - 1
_TEXT = re.compile(r"\s*(\d+(?:\.\d+)?)\s*([a-z]*)\s*", re.IGNORECASE | re.ASCII)
_PREFIXES = "kmgtp"
_FACTORS = {"": 1, "b": 1}
for _power, _prefix in enumerate(_PREFIXES, start=1):
    _FACTORS[_prefix] = _FACTORS[f"{_prefix}b"] = 1000**_power
    _FACTORS[f"{_prefix}i"] = _FACTORS[f"{_prefix}ib"] = 1024**_power

_ACTION = 'Give a number of bytes or text such as "4GiB" (1024-based) or "4GB" (1000-based).'


def parse_bytes(size: int | str, what: str = "size") -> int:
    """Read a size.

    Parameters
    ----------
    size:
        Bytes, or a number with a unit: ``B``, ``k M G T P`` with or without ``B`` (powers of
        1000), ``Ki Mi Gi Ti Pi`` with or without ``B`` (powers of 1024). Case does not matter.
        Fractions of a byte are cut off.
    what:
        Name of the setting or argument, for the error.

    Raises
    ------
    ConfigurationError
        ``size`` is negative, not a number, of an unknown unit, or beyond 63 bits.
    """
    if isinstance(size, bool) or not isinstance(size, int | str):
        msg = f"{what} is {size!r}, which is not a size."
        raise ConfigurationError(msg, _ACTION)
    number = size if isinstance(size, int) else _number_of(size, what)
    if not 0 <= number <= _LARGEST:
        msg = f"{what} is {size!r}, which no machine can have."
        raise ConfigurationError(msg, _ACTION)
    return number


def _number_of(text: str, what: str) -> int:
    match = _TEXT.fullmatch(text)
    factor = _FACTORS.get(match[2].lower()) if match else None
    if match is None or factor is None:
        msg = f"{what} is {text!r}, which is not a size."
        raise ConfigurationError(msg, _ACTION)
    return int(Fraction(match[1]) * factor)


def format_bytes(size: int) -> str:
    """Write a size for people, 1024-based, with at most one decimal: ``1.2 GiB``."""
    if abs(size) < 1024:
        return f"{size} B"
    amount, unit = float(size), "B"
    for prefix in _PREFIXES.upper():
        if abs(amount) < 1023.95:
            break
        amount, unit = amount / 1024, f"{prefix}iB"
    return f"{amount:.1f}".removesuffix(".0") + f" {unit}"
