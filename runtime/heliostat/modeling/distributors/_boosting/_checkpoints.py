"""Where the checkpoints of a training are written, so that they outlive this process."""

from __future__ import annotations

import contextlib
import secrets
import time
from typing import TYPE_CHECKING

from heliostat._stages import open_location
from heliostat.exceptions import DataError

if TYPE_CHECKING:
    from heliostat._location import Location

DEFAULT = "@user/trees/checkpoints"
_KEPT = 10


class Checkpoints:
    """The latest checkpoint of one training.

    Parameters
    ----------
    location:
        Directory, stage or URL that the user named: the file has a fixed name there, and stays.
        ``None``: a file of its own in the user's stage, which is removed when the training is
        through; of those that were left behind by processes that died the latest ten stay.
    name:
        Name of the file.
    """

    def __init__(self, location: str | None, name: str) -> None:
        self._passing = location is None
        self._directory = open_location(location or DEFAULT)
        if self._passing:
            name = f"{time.strftime('%Y%m%d-%H%M%S')}-{secrets.token_hex(3)}-{name}"
        self._file: Location = self._directory.join(name)
        self.where: str | None = None
        """Name of the place that has one; ``None`` while there is none."""

    def write(self, model: bytes) -> None:
        """Replace the checkpoint. Raises DataError where the user's location cannot be written."""
        with contextlib.suppress(*((DataError,) if self._passing else ())):
            if self._passing and self.where is None:
                self._prune()
            self._file.write_bytes(model)
            self.where = self._file.url

    def done(self) -> None:
        """Remove what nobody needs any more, since the model is there."""
        if self._passing and self.where is not None:
            self.where = None
            with contextlib.suppress(DataError):
                self._file.delete()

    def _prune(self) -> None:
        for entry in self._directory.list()[: 1 - _KEPT]:
            entry.location.delete()
