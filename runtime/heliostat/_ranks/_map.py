"""``%%distribute map``: a function body for each partition or item, spread over the ranks."""

from __future__ import annotations

import ast
import contextlib
from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Any

from heliostat._ranks._map_parts import is_read_by_ranks, parts_of, share_of
from heliostat.exceptions import ConfigurationError, DataError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from heliostat._ranks._conduct import Options
    from heliostat._ranks._group import RankGroup

__all__ = ["DONE", "WORK", "compile_body", "divide", "map_over", "share", "table_of"]

PARTS_A_RANK = 4
WORK = "_heliostat_work"
DONE = "_heliostat_done"


def divide(over: Any, by: Sequence[str], ranks: int) -> tuple[str, list[tuple[Any, Any, int]]]:
    """Cut what is mapped over into pieces.

    Returns the name that a piece has in the body (``part`` or ``item``) and, for each, its key,
    itself and its weight.

    Raises
    ------
    DataError
        It is neither a table nor a collection, or has no such column.
    """
    frame = _frame(over)
    if frame is None:
        if by:
            message = f"--by needs a table to map over, got {type(over).__name__}."
            raise DataError(message, "Leave --by out to map over the items.")
        if isinstance(over, (str, bytes)) or not isinstance(over, Iterable):
            message = f"{type(over).__name__} is neither a table nor a collection of items."
            raise DataError(message, "Map over a DataFrame, a connector or a list.")
        return "item", [(index, item, 1) for index, item in enumerate(over)]
    missing = [name for name in by if name not in frame.columns]
    if missing:
        message = f"The table has no column {missing[0]!r}."
        raise DataError(message, f"It has: {', '.join(map(str, frame.columns))}.", column=missing[0])
    if by:
        groups = frame.groupby(by[0] if len(by) == 1 else list(by), sort=True, dropna=False)
        return "part", [(key, part, len(part)) for key, part in groups]
    rows = max(1, -(-len(frame) // (ranks * PARTS_A_RANK)))
    starts = range(0, len(frame), rows)
    parts = [frame.iloc[start : start + rows] for start in starts]
    return "part", [(index, part, len(part)) for index, part in enumerate(parts)]


def share(weights: Sequence[int], ranks: int) -> list[list[int]]:
    """Give each piece, the heaviest first, to the rank that has the least so far."""
    loads, shares = [0] * ranks, [[] for _ in range(ranks)]  # type: tuple[list[int], list[list[int]]]
    for index in sorted(range(len(weights)), key=lambda each: -weights[each]):
        rank = loads.index(min(loads))
        loads[rank] += weights[index]
        shares[rank].append(index)
    return [sorted(each) for each in shares]


def compile_body(shell: Any, body: str, name: str) -> Any:
    """Make the function of a cell, in a rank. The value of a last expression is what it returns."""
    source = shell.transform_cell(body)
    file = shell.compile.cache(source, shell.execution_count)
    tree = ast.parse(source, file)
    if tree.body and isinstance(tree.body[-1], ast.Expr):
        last = tree.body[-1]
        tree.body[-1] = ast.copy_location(ast.Return(last.value), last)
    wrapper = ast.parse(f"def _heliostat_body({name}, key):\n    pass", file)
    function = wrapper.body[0]
    assert isinstance(function, ast.FunctionDef)
    function.body = tree.body or function.body
    space: dict[str, Any] = {}
    code = compile(ast.fix_missing_locations(wrapper), file, "exec")
    exec(code, shell.user_ns, space)  # noqa: S102 - the user's own cell
    return space["_heliostat_body"]


def table_of(results: Sequence[tuple[Any, Any]], by: Sequence[str], column: str = "value") -> Any:
    """Put what the pieces returned together as one Arrow table, in the order of pieces.

    Tables are stacked, dictionaries are rows, anything else is a column ``value``. Keys become
    columns, unless the results have them.
    """
    import pandas as pd
    import pyarrow as pa

    frames = []
    for key, value in results:
        if value is None:
            continue
        frame = _frame(value)
        if frame is None:
            frame = pd.DataFrame([dict(value) if isinstance(value, Mapping) else {column: value}])
        keys = dict(zip(by, key if len(by) > 1 else [key], strict=True)) if by else {}
        for position, (name, part) in enumerate(keys.items()):
            if name not in frame.columns:
                frame = frame.copy(deep=False)
                frame.insert(position, name, part)
        frames.append(frame)
    if not frames:
        message = "No piece returned anything."
        raise ConfigurationError(message, "End the cell with the value, or with return.")
    try:
        return pa.Table.from_pandas(pd.concat(frames, ignore_index=True), preserve_index=False)
    except (pa.ArrowInvalid, pa.ArrowTypeError) as error:
        message = f"The results do not make a table: {error}."
        raise DataError(message, "Return tables, dictionaries or numbers of the same kind.") from error


def _frame(value: Any) -> Any:
    """A pandas frame of what is a table; ``None`` for what is not."""
    import pandas as pd
    import pyarrow as pa

    if isinstance(value, pd.DataFrame):
        return value
    if hasattr(value, "__arrow_c_stream__"):
        return pa.table(value).to_pandas()
    to_pandas = getattr(value, "to_pandas", None)
    return to_pandas() if to_pandas is not None and not isinstance(value, (pd.Series, pd.Index)) else None


def map_over(group: RankGroup, body: str, over: Any, by: Sequence[str], options: Options) -> Any:
    """Run ``body`` over the pieces of ``over`` on all ranks; returns one Arrow table.

    Raises
    ------
    DataError
        ``over`` cannot be divided so, or the results make no table.
    RankError
        It failed on a rank.
    """
    from heliostat._ranks._conduct import conduct
    from heliostat._ranks._scope import HELPER

    with contextlib.ExitStack() as stack:
        if is_read_by_ranks(over):
            name = "part"
            pieces = stack.enter_context(parts_of(over, by, group.size, PARTS_A_RANK))
        else:
            name, pieces = divide(over, by, group.size)
        shares = share([weight for _, _, weight in pieces], group.size)
        group.objects.scatter(WORK, [share_of(pieces, each) for each in shares])
        run = group.run(f"{HELPER}.map_work({body!r}, {name!r})")
        run.code = body  # whoever lists it shows what the user wrote
        conduct(group, run, options)
        found = sorted((pair for done in group.objects.pull(DONE) for pair in done), key=lambda pair: pair[0])
    return table_of([(pieces[index][0], value) for index, value in found], by)
