"""Which of the user's variables can be read as tables, told without importing what they are of."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from heliostat_magics._parser import Offer, Scope

__all__ = ["columns", "columns_of", "frames", "is_frame", "variables"]

_FRAMES = {
    ("pandas", "DataFrame"),
    ("polars", "DataFrame"),
    ("polars", "LazyFrame"),
    ("pyarrow", "Table"),
    ("pyarrow", "RecordBatch"),
    ("pyarrow", "RecordBatchReader"),
    ("duckdb", "DuckDBPyRelation"),
    ("_duckdb", "DuckDBPyRelation"),
    ("heliostat", "DataConnector"),
    ("ray", "Dataset"),
    ("ray", "MaterializedDataset"),
}


def is_frame(value: Any) -> bool:
    """Whether ``value`` has rows and columns."""
    if isinstance(value, type):
        return False
    kinds = ((kind.__module__.partition(".")[0], kind.__name__) for kind in type(value).__mro__)
    return any(kind in _FRAMES for kind in kinds) or hasattr(value, "__arrow_c_stream__")


def columns_of(value: Any) -> list[str]:
    """Names of the columns; empty where that would need more than a look."""
    if type(value).__name__ in ("LazyFrame", "Dataset", "MaterializedDataset"):
        return []
    found = getattr(value, "column_names", None)
    if found is None:
        found = getattr(value, "columns", None)
    return [str(name) for name in found] if found is not None and not callable(found) else []


def frames(scope: Scope) -> list[str]:
    """Offer variables that hold tables."""
    return _named(scope.namespace, only_frames=True)


def variables(scope: Scope) -> list[str]:
    """Offer the user's variables, for a comma-separated list too."""
    return _listed(scope, _named(scope.namespace, only_frames=False))


def columns(*flags: str) -> Offer:
    """Offer the columns of the table that one of ``flags`` names, for a comma-separated list too."""

    def offer(scope: Scope) -> list[str]:
        frame = scope.namespace.get(scope.value(*flags) or "")
        return _listed(scope, columns_of(frame)) if frame is not None else []

    return offer


def _named(namespace: Mapping[str, Any], *, only_frames: bool) -> list[str]:
    hidden = {"In", "Out", "exit", "quit", "get_ipython", "open"}
    return sorted(
        name
        for name, value in list(namespace.items())
        if not name.startswith("_") and name not in hidden and (not only_frames or is_frame(value))
    )


def _listed(scope: Scope, words: Iterable[str]) -> list[str]:
    """Words that may go on a list which is partly written."""
    before, comma, _ = scope.fragment.rpartition(",")
    taken = before.split(",")
    return [before + comma + word for word in words if word not in taken]
