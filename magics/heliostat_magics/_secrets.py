"""Passwords that somebody wrote into a cell, which is saved with the notebook."""

from __future__ import annotations

from IPython.core.error import UsageError

__all__ = ["refuse_password", "shown_address"]


def refuse_password(where: str) -> None:
    """Raise UsageError for the URI of a database with a password in it, which it does not quote."""
    if ":" not in where:
        return
    from heliostat._adbc import Address

    if any(secret and not secret.startswith("$") for secret in Address.parse(where).secrets):
        message = (
            "there is a password in the cell, which is saved with the notebook: keep the database by name"
            " with %connections add NAME, which asks for the URI, or write ${VARIABLE} in the password's"
            " place; clear the cell now"
        )
        raise UsageError(message)


def shown_address(where: str | None) -> str:
    """What people may see of a connection: its name, or its URI without what is secret."""
    if where is None:
        return "session"
    if ":" not in where:
        return where
    from heliostat._adbc import Address

    return Address.parse(where).shown
