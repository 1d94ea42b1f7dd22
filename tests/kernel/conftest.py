"""Fixtures with real kernels."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from tests.kernel.support import Place, StartedKernel, new_manager

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    StartKernel = Callable[..., StartedKernel]


@pytest.fixture(scope="module")
def plain_kernel(place: Place) -> Iterator[StartedKernel]:
    """A Heliostat kernel that never boots a runtime, shared by a test file."""
    kernel = StartedKernel(new_manager(place), place.environment(), place.path)
    yield kernel
    kernel.end()


@pytest.fixture
def start_kernel(place: Place) -> Iterator[StartKernel]:
    """Start kernels that end with the test: ``start_kernel(name, **environment)``."""
    started: list[StartedKernel] = []

    def start(name: str = "heliostat", **environment: str) -> StartedKernel:
        kernel = StartedKernel(new_manager(place, name), place.environment(**environment), place.path)
        started.append(kernel)
        return kernel

    yield start
    for kernel in started:
        kernel.end()
