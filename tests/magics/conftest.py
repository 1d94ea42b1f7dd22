"""Fixtures for magics: plain shells, and what runs in them."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from tests.magics.support import Cells

if TYPE_CHECKING:
    from collections.abc import Iterator


@pytest.fixture
def cells(capsys: pytest.CaptureFixture[str]) -> Iterator[Cells]:
    """A plain IPython shell with the extension loaded, and a way to run cells in it."""
    cells = Cells(capsys)
    cells.load()
    yield cells
    cells.close()
