"""Where ``snowflake-ml-python`` asks a runtime for its reader; see ``docs/stages.md``."""

from __future__ import annotations

__all__ = ["get_ingester_class"]


def get_ingester_class() -> type:
    """Return the class that reads for ``snowflake.ml.data.DataConnector``."""
    from heliostat.data._snowflake_ml import SnowflakeIngestor

    return SnowflakeIngestor
