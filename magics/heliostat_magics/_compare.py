"""What is different between two tables: columns, numbers of rows, the rows themselves."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from IPython.core.error import UsageError

if TYPE_CHECKING:
    from collections.abc import Sequence

__all__ = ["compare"]


def compare(before: Any, after: Any, key: Sequence[str] | None = None) -> list[list[Any]]:
    """Compare two relations of one connection; each row is what, before, after, difference.

    Rows are compared by the columns that both have. With ``key`` a row of which only other columns
    differ counts as changed.

    Raises
    ------
    UsageError
        A column of ``key`` is not in both.
    """
    types = [dict(zip(each.columns, map(str, each.types), strict=True)) for each in (before, after)]
    rows: list[list[Any]] = []
    for name in dict.fromkeys([*types[0], *types[1]]):
        old, new = types[0].get(name), types[1].get(name)
        if old != new:
            what = "added" if old is None else "removed" if new is None else "other type"
            rows.append([f"column {name}", old or "", new or "", what])
    if not rows:
        rows.append(["columns", len(types[0]), len(types[1]), "the same"])
    counts = [_count(each) for each in (before, after)]
    rows.append(["rows", *counts, counts[1] - counts[0]])
    common = [name for name in types[0] if name in types[1]]
    if common:
        old, new = (each.select(*map(_column, common)) for each in (before, after))
        rows.append(["rows only here", _count(old.except_(new)), _count(new.except_(old)), ""])
    if key is not None:
        missing = [name for name in key if name not in common]
        if missing:
            message = f"--key names {', '.join(missing)}, which is not in both versions"
            raise UsageError(message)
        rows.append(["keys only here", *_keys(before, after, common, key)])
    return rows


def _keys(before: Any, after: Any, common: Sequence[str], key: Sequence[str]) -> tuple[int, int, str]:
    old, new = (each.select(*map(_column, common)) for each in (before, after))
    keys = [each.select(*map(_column, key)).distinct() for each in (before, after)]
    removed, added = _count(keys[0].except_(keys[1])), _count(keys[1].except_(keys[0]))
    touched = new.except_(old).select(*map(_column, key)).distinct()
    changed = _count(touched) - added
    return removed, added, f"{changed} changed"


def _count(relation: Any) -> int:
    found: int = relation.count("*").fetchall()[0][0]
    return found


def _column(name: str) -> Any:
    import duckdb

    return duckdb.ColumnExpression(name)
