"""Fixtures with real runtimes. Each belongs to a process of its own, which a test may kill."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from tests.support.owner import Owner, wait_for
from tests.support.postgres import PostgresServer
from tests.support.s3 import S3Server

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    StartOwner = Callable[..., Owner]


@pytest.fixture
def start_owner(tmp_path: Path) -> Iterator[StartOwner]:
    """Start processes that own a runtime: ``start_owner("cpus=1", HELIOSTAT_GPUS="2")``."""
    owners: list[Owner] = []

    def start(sizes: str = "", **environment: str) -> Owner:
        owner = Owner(tmp_path, sizes, environment)
        owners.append(owner)
        return owner

    yield start
    for owner in owners:
        owner.end()


@pytest.fixture(scope="module")
def owner(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Owner]:
    """One process with a runtime of 2 CPUs, shared by a test file."""
    owner = Owner(tmp_path_factory.mktemp("owner"), "cpus=2", {})
    yield owner
    owner.end()


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
