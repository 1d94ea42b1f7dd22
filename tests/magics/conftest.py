"""Fixtures for magics: plain shells, and what runs in them."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from tests.magics.support import Cells
from tests.support.owner import wait_for
from tests.support.postgres import PostgresServer

if TYPE_CHECKING:
    from collections.abc import Iterator


@pytest.fixture
def cells(capsys: pytest.CaptureFixture[str]) -> Iterator[Cells]:
    """A plain IPython shell with the extension loaded, and a way to run cells in it."""
    cells = Cells(capsys)
    cells.load()
    yield cells
    cells.close()


@pytest.fixture(scope="session")
def postgres() -> Iterator[PostgresServer]:
    """One PostgreSQL server for all tests that need one; they make tables of their own names."""
    server = PostgresServer()
    try:
        wait_for(server.is_up, 30)
        yield server
    finally:
        server.stop()
