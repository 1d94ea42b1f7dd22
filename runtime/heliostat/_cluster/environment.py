"""Environment variables that make Ray private, quiet and quick. Set before Ray is imported."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Mapping, MutableMapping
    from pathlib import Path

_SECONDS_TO_SURVIVE_WITHOUT_GCS = "1000000"

QUIET: Mapping[str, str] = {
    # A driver that lost the GCS would exit after 60 s and take the notebook's variables along.
    "RAY_gcs_rpc_server_reconnect_timeout_s": _SECONDS_TO_SURVIVE_WITHOUT_GCS,
    "RAY_DEDUP_LOGS": "0",
    "RAY_USAGE_STATS_ENABLED": "0",
    "RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO": "0",
}
"""For every process that speaks with Ray, attached to a foreign cluster or not."""

LOCAL: Mapping[str, str] = {
    # Every socket on 127.0.0.1; must not be set when attaching to another host.
    "RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER": "0",
    # Ray nices its workers by 15, which starves them beside a browser and a kernel.
    "RAY_worker_niceness": "0",
    "RAY_AUTH_MODE": "token",
}
"""For processes of a cluster that we boot."""


NAMES = (*QUIET, *LOCAL, "RAY_ADDRESS", "RAY_AUTH_TOKEN", "RAY_AUTH_TOKEN_PATH")
"""Every variable that is set or dropped here."""


def local_environment(token_path: Path) -> dict[str, str]:
    """Variables for the supervisor, its Ray processes, and drivers of a local runtime."""
    return {**QUIET, **LOCAL, "RAY_AUTH_TOKEN_PATH": str(token_path)}


def attached_environment(token_path: Path | None) -> dict[str, str]:
    """Variables for drivers of a cluster that somebody else booted."""
    if token_path is None:
        return {**QUIET, "RAY_AUTH_MODE": "token"} if "RAY_AUTH_TOKEN" in os.environ else dict(QUIET)
    return {**QUIET, "RAY_AUTH_MODE": "token", "RAY_AUTH_TOKEN_PATH": str(token_path)}


def enter_attached(token_path: Path | None, target: MutableMapping[str, str]) -> None:
    """Write the variables for a foreign cluster over those of a local runtime before it, if any."""
    for name in (*LOCAL, "RAY_AUTH_TOKEN_PATH"):
        target.pop(name, None)
    apply(attached_environment(token_path), target)


def apply(environment: Mapping[str, str], target: MutableMapping[str, str]) -> None:
    """Write ``environment`` into ``target`` and drop a token that would take precedence."""
    if "RAY_AUTH_TOKEN_PATH" in environment:
        target.pop("RAY_AUTH_TOKEN", None)
    target.update(environment)
