"""The private names of Ray that we lean on: all there, and missed aloud when they are not."""

from __future__ import annotations

import pytest

from heliostat._cluster import compat
from heliostat._cluster.compat import FEATURES, Feature


@pytest.mark.parametrize("feature", FEATURES, ids=lambda feature: feature.name)
def test_the_installed_ray_has_every_feature(feature: Feature) -> None:
    """Each name is where we look for it and takes the arguments that we pass."""
    assert compat.available(feature) is None
    assert compat.has(feature.name)
    assert feature.fallback, "each feature says what is done without it"


def test_names_are_unique() -> None:
    """A feature is asked for by name, so no two share one."""
    assert len({feature.name for feature in FEATURES}) == len(FEATURES)


@pytest.mark.parametrize(
    ("feature", "says"),
    [
        (Feature("x", "ray.no_such_module", "f", (), "the slow way"), "No module named 'ray.no_such_module'"),
        (Feature("x", "ray._private.node", "Node.levitate", (), "the slow way"), "levitate"),
        (Feature("x", "ray._private.node", "Nodule", (), "the slow way"), "Nodule"),
        (
            Feature("x", "ray._private.node", "Node.__init__", ("head", "wings"), "the slow way"),
            "Node.__init__ no longer takes wings",
        ),
    ],
)
def test_what_is_missing_is_reported_with_its_fallback(
    monkeypatch: pytest.MonkeyPatch, feature: Feature, says: str
) -> None:
    """A module, name or argument that is gone turns the feature off and names what takes over."""
    monkeypatch.setattr(compat, "FEATURES", (*FEATURES, feature))
    assert not compat.has("x")
    name, there, detail = compat.check()[-1]
    assert (name, there) == ("x", False)
    assert says in detail
    assert detail.endswith("instead: the slow way")
    assert all(there for _, there, _ in compat.check()[:-1])
