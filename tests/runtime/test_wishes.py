"""What a wish for a size becomes, or why it cannot be had."""

from __future__ import annotations

import itertools

import pytest

from heliostat._cluster.control import ClusterView, NodeView
from heliostat._messages.cluster import Limits, Resources
from heliostat._messages.resizing import ResizeTarget
from heliostat._supervisor.wishes import (
    SMALLEST_MEMORY,
    complete,
    refuse_object_store_change,
    without_in_place,
)
from heliostat.exceptions import ResizeError

GIB = 1 << 30
LIMITS = Limits(cpus=8, gpus=4, memory_bytes=32 * GIB, object_store_bytes=8 * GIB, nodes=4)
NOW = Resources(cpus=4, gpus=2, memory_bytes=16 * GIB, object_store_bytes=GIB, nodes=2)


@pytest.mark.parametrize(
    ("target", "expected"),
    [
        (ResizeTarget(), (4, 2, 16 * GIB, 2)),
        (ResizeTarget(cpus=6), (6, 2, 16 * GIB, 2)),
        (ResizeTarget(cpus=9), (9, 2, 16 * GIB, 2)),
        (ResizeTarget(nodes=4), (6, 2, 16 * GIB, 4)),
        (ResizeTarget(nodes=1), (3, 2, 16 * GIB, 1)),
        (ResizeTarget(cpus=3, nodes=3), (3, 2, 16 * GIB, 3)),
        (ResizeTarget(gpus=0), (4, 0, 16 * GIB, 2)),
        (ResizeTarget(gpus=4), (4, 4, 16 * GIB, 2)),
        (ResizeTarget(memory_bytes=SMALLEST_MEMORY), (4, 2, SMALLEST_MEMORY, 2)),
    ],
)
def test_a_wish_becomes_totals(target: ResizeTarget, expected: tuple[float, ...]) -> None:
    """What is not wished for stays; a node brings a CPU and takes it along."""
    found = complete(NOW, target, LIMITS)
    assert (found.cpus, found.gpus, found.memory_bytes, found.nodes) == expected


@pytest.mark.parametrize(
    ("target", "says"),
    [
        (ResizeTarget(cpus=0), "the least is 1"),
        (ResizeTarget(cpus=-(10**18)), "the least is 1"),
        (ResizeTarget(cpus=10), "10 CPUs were asked for"),
        (ResizeTarget(cpus=10**18), "CPUs were asked for"),
        (ResizeTarget(cpus=1), "each needs one"),
        (ResizeTarget(nodes=0), "the least is 1"),
        (ResizeTarget(nodes=5), "Ask for at most 4"),
        (ResizeTarget(gpus=-1), "the least is 0"),
        (ResizeTarget(gpus=5), "Ask for at most 4"),
        (ResizeTarget(memory_bytes=0), "too little"),
        (ResizeTarget(memory_bytes=SMALLEST_MEMORY - 1), "too little"),
        (ResizeTarget(memory_bytes=33 * GIB), "Ask for at most 32 GiB"),
        (ResizeTarget(object_store_bytes=9 * GIB), "Ask for at most 8 GiB"),
    ],
)
def test_impossible_wishes(target: ResizeTarget, says: str) -> None:
    """What cannot be had is refused with the figures, and with what to ask for instead."""
    with pytest.raises(ResizeError) as caught:
        complete(NOW, target, LIMITS)
    assert says in str(caught.value)
    assert caught.value.required is not None
    assert caught.value.available is not None
    assert caught.value.action


def test_completing_is_stable() -> None:
    """Whatever can be had is within the limits, and asking for it again changes nothing."""
    accepted = 0
    for cpus, nodes, gpus in itertools.product(
        (None, *range(-1, 14)), (None, *range(-1, 6)), (None, 0, 4, 5)
    ):
        try:
            found = complete(NOW, ResizeTarget(cpus=cpus, nodes=nodes, gpus=gpus), LIMITS)
        except ResizeError:
            continue
        accepted += 1
        assert 1 <= found.nodes <= LIMITS.nodes
        assert found.nodes <= found.cpus <= LIMITS.cpus + found.nodes - 1
        again = ResizeTarget(cpus=int(found.cpus), nodes=found.nodes, gpus=int(found.gpus))
        assert complete(found, again, LIMITS) == complete(found, ResizeTarget(), LIMITS) == found
    assert accepted > 50


def test_the_object_store_keeps_its_size() -> None:
    """Another size is refused with the command that boots with it; the same size is no change."""
    refuse_object_store_change(NOW, ResizeTarget(object_store_bytes=GIB))
    with pytest.raises(ResizeError, match="%runtime restart --object-store-memory"):
        refuse_object_store_change(NOW, ResizeTarget(object_store_bytes=2 * GIB))


def test_without_in_place_resize_cpus_are_nodes() -> None:
    """A Ray that cannot resize a raylet: CPUs become nodes, less than the head has is refused."""
    head = NodeView("head", True, "alive", "127.0.0.1", {"CPU": 2.0}, {"CPU": 2.0})
    view = ClusterView((head, NodeView("node", False, "alive", "127.0.0.1", {"CPU": 1.0}, {"CPU": 1.0})))
    assert without_in_place(view, ResizeTarget(cpus=5)).nodes == 4
    assert without_in_place(view, ResizeTarget(nodes=3)) == ResizeTarget(nodes=3)
    for target in (
        ResizeTarget(cpus=1),
        ResizeTarget(cpus=5, nodes=2),
        ResizeTarget(memory_bytes=GIB),
    ):
        with pytest.raises(ResizeError, match="%runtime restart"):
            without_in_place(view, target)
