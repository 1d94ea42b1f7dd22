"""Feature tests of every private name of Ray that Heliostat leans on.

Run by ``heliostat doctor`` and by the tests. A name that is missing turns off the feature
that needs it, and the fallback named here takes over.
"""

from __future__ import annotations

import importlib
import inspect
from dataclasses import dataclass

from heliostat._cluster.fast_import import import_ray


@dataclass(frozen=True)
class Feature:
    """A private part of Ray: where it is, what must be true of it, what happens without it."""

    name: str
    module: str
    attribute: str
    parameters: tuple[str, ...] = ()
    fallback: str = ""


FEATURES: tuple[Feature, ...] = (
    Feature("slim boot", "ray._private.node", "Node.__init__", ("head", "spawn_reaper"), "stock boot"),
    Feature("no API server", "ray._private.node", "Node.start_api_server", (), "stock boot"),
    Feature(
        "agent stand-ins",
        "ray._private.services",
        "start_ray_process",
        ("command", "process_type"),
        "stock boot",
    ),
    Feature(
        "quick workers",
        "ray._private.parameter",
        "RayParams.__init__",
        ("worker_path", "setup_worker_path", "session_name", "temp_dir"),
        "Ray's own worker entry",
    ),
    Feature(
        "resize in place",
        "ray._raylet",
        "InnerGcsClient.resize_raylet_resource_instances",
        (),
        "adding and draining nodes",
    ),
    Feature("drain", "ray._raylet", "InnerGcsClient.drain_node", (), "ending nodes at once"),
    Feature(
        "cluster state", "ray._raylet", "InnerGcsClient.get_cluster_resource_state", (), "no live figures"
    ),
    Feature(
        "actor table", "ray._raylet", "GlobalStateAccessor.get_actor_table", (), "losses unknown in plans"
    ),
    Feature(
        "notes about deaths",
        "ray._private.worker",
        "print_to_stdstream",
        ("data", "ignore_prefix"),
        "Ray's note stands beside ours",
    ),
    Feature(
        "calls of Ray Train",
        "ray.train.v2._internal.execution.train_fn_utils",
        "set_train_fn_utils",
        ("train_fn_utils",),
        "the functions of ray.train themselves are replaced",
    ),
    Feature(
        "settings of a notebook for its workers",
        "ray._raylet",
        "InnerGcsClient.internal_kv_put",
        ("key", "value", "overwrite", "namespace", "timeout"),
        "workers keep the environment that the runtime was started with",
    ),
    Feature(
        "connect guard", "ray._private.auto_init_hook", "auto_init_lock", (), "wait for the runtime by hand"
    ),
)


def available(feature: Feature) -> str | None:
    """``None`` when the feature is there, else what is wrong with it."""
    import_ray()
    try:
        found: object = importlib.import_module(feature.module)
        for part in feature.attribute.split("."):
            found = getattr(found, part)
    except (ImportError, AttributeError) as error:
        return str(error)
    if feature.parameters and callable(found):
        known = inspect.signature(found).parameters
        missing = [p for p in feature.parameters if p not in known]
        if missing:
            return f"{feature.attribute} no longer takes {', '.join(missing)}"
    return None


def has(name: str) -> bool:
    """Whether the feature called ``name`` can be used with the installed Ray."""
    return available(next(f for f in FEATURES if f.name == name)) is None


def check() -> list[tuple[str, bool, str]]:
    """For each feature its name, whether it is there, and what is wrong or used instead."""
    rows = []
    for feature in FEATURES:
        problem = available(feature)
        detail = f"{feature.module}.{feature.attribute}"
        if problem is not None:
            detail = f"{problem}; instead: {feature.fallback}"
        rows.append((feature.name, problem is None, detail))
    return rows
