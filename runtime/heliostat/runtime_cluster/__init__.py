"""The size of the cluster behind a notebook: same names as in Snowflake's runtime."""

from __future__ import annotations

from heliostat.runtime_cluster import cluster_manager
from heliostat.runtime_cluster.cluster_manager import get_nodes, scale_cluster

__all__ = ["cluster_manager", "get_nodes", "scale_cluster"]
