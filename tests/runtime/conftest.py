"""Fixtures with real runtimes. Each belongs to a process of its own, which a test may kill."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from tests.support.owner import Owner

from heliostat import _handle

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    import pandas as pd

    from heliostat._runtime import Runtime

    AsRank = Callable[[int, int], None]
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


@pytest.fixture(scope="module")
def runtime() -> Iterator[Runtime]:
    """A local runtime of two CPUs, owned by the process of the tests."""
    yield _handle.init(cpus=2)
    _handle.shutdown()


@pytest.fixture(scope="session")
def tumours() -> pd.DataFrame:
    """569 real rows; see :func:`tests.support.tables.tumours`."""
    from tests.support import tables

    return tables.tumours()


@pytest.fixture
def as_rank(monkeypatch: pytest.MonkeyPatch) -> AsRank:
    """Make this process one rank of several: ``as_rank(1, 4)``."""

    def become(rank: int, world_size: int) -> None:
        monkeypatch.setenv("RANK", str(rank))
        monkeypatch.setenv("WORLD_SIZE", str(world_size))

    return become
