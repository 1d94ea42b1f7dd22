"""Fixtures for tests of several parts: homes, and servers that are started once."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from tests.kernel.support import Place
from tests.support.owner import wait_for
from tests.support.postgres import PostgresServer
from tests.support.s3 import S3Server

if TYPE_CHECKING:
    from collections.abc import Iterator


@pytest.fixture(scope="module")
def place() -> Iterator[Place]:
    """A home of its own for the processes of one test file."""
    place = Place()
    yield place
    place.remove()


@pytest.fixture(scope="session")
def postgres() -> Iterator[PostgresServer]:
    """One PostgreSQL server for all tests that need one; they make tables of their own names."""
    server = PostgresServer()
    try:
        wait_for(server.is_up, 30)
        yield server
    finally:
        server.stop()


@pytest.fixture(scope="session")
def s3() -> Iterator[S3Server]:
    """One S3 server with a bucket for all tests that need one; they use prefixes of their own."""
    server = S3Server()
    yield server
    server.stop()
