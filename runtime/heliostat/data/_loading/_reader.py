"""From a recipe to exact batches: spans of an epoch, windows decoded ahead, and memory bounded."""

from __future__ import annotations

from contextlib import closing
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from heliostat.data._loading._buckets import Buckets
from heliostat.data._loading._cache import UnitCache, cache_directory
from heliostat.data._loading._decode import Decoder
from heliostat.data._loading._forms import Form, Tools, Unit
from heliostat.data._loading._memory import Blocks
from heliostat.data._loading._plan import Key, Shuffle, Window, permutation, span, windows
from heliostat.data._loading._pool import in_order, usable_cpus

if TYPE_CHECKING:
    from collections.abc import Callable, Generator, Iterable, Iterator

MEMORY = 192 << 20
"""Bytes of blocks that are decoded ahead, at most (one window is always decoded)."""
_MOST_THREADS = 8
_ROW_CHUNK = 4096
"""Rows that are cut at a time where single rows are asked for."""


@dataclass(frozen=True)
class Recipe:
    """Everything that decides what is read; picklable, and free of open files."""

    units: tuple[Unit, ...]
    form: Form
    batch_size: int | None
    """``None``: single rows."""
    drop_last: bool
    shuffle: Shuffle
    window: int
    """Units that are permuted together."""
    name: str
    """Shared by all copies of one data set."""
    cache: str | None = None
    """Directory of the local cache, if units are kept there."""
    threads: int | None = None
    owner: Any = field(default=None, compare=False)
    """Keeps files alive that were written for this reading."""

    @property
    def rows(self) -> int:
        """Rows of an epoch, an incomplete last batch counted in."""
        return sum(unit.rows for unit in self.units)

    def place(self, worker: int, workers: int) -> range:
        """Rows of the epoch that one of ``workers`` delivers."""
        size = self.batch_size or 1
        return span(self.rows, size, worker, workers, drop_last=self.drop_last)


def batches(recipe: Recipe, key: Key, place: range, skip: int, workers: int) -> Iterator[Any]:
    """Yield the blocks of one batch each (of some rows each where single rows are asked for).

    Parameters
    ----------
    recipe:
        What to read.
    key:
        Decides the order.
    place:
        Rows of the epoch to deliver.
    skip:
        Batches, or single rows, that were delivered before.
    workers:
        How many processes share this machine's CPUs for it.
    """
    size = recipe.batch_size or 1
    place = range(min(place.start + skip * size, place.stop), place.stop)
    if not place:
        return
    windows_bytes = recipe.form.row_bytes() * recipe.rows // max(len(recipe.units), 1) * recipe.window
    threads, ahead = _width(recipe, windows_bytes, workers)
    tools = _tools(recipe, threads, ahead)
    with closing(_blocks(recipe, key, place, tools, threads=threads, ahead=ahead)) as blocks:
        yield from _exact(recipe, blocks)


def _width(recipe: Recipe, window_bytes: int, workers: int) -> tuple[int, int]:
    """Threads, and windows that are decoded ahead; fewer where windows are large."""
    # One more than CPUs: while one waits for its columns, another moves rows.
    wished = recipe.threads or min(max(usable_cpus() // workers, 1) + 1, _MOST_THREADS)
    fitting = max(MEMORY // max(window_bytes, 1), 1)
    ahead = min(wished + 1, fitting)
    return min(wished, ahead), ahead


def _tools(recipe: Recipe, threads: int, ahead: int) -> Tools:
    cache = None if recipe.cache is None else UnitCache(cache_directory(recipe.cache))
    # With one window at a time its columns are decoded side by side instead.
    return Tools(Decoder(), Blocks(threads + ahead + 2), cache, use_threads=threads == 1 < usable_cpus())


def _blocks(
    recipe: Recipe, key: Key, place: range, tools: Tools, *, threads: int, ahead: int
) -> Generator[tuple[Any, int], None, None]:
    """Yield what each window has of ``place``, with its rows."""
    if recipe.shuffle != "global":
        order = windows([unit.rows for unit in recipe.units], *_cut(recipe, key))
        yield from _loaded(
            recipe.form, order, _window_reader(recipe, key, tools), place, threads=threads, ahead=ahead
        )
        return
    rows = [unit.rows for unit in recipe.units]
    buckets = Buckets(
        recipe.form,
        read=lambda unit: recipe.form.raw(tools, recipe.units[unit]),
        unit_rows=rows,
        key=key,
        rows=max(recipe.window * sum(rows) // max(len(rows), 1), 1),
        directory=cache_directory(recipe.cache),
        name=recipe.name,
    )
    try:
        buckets.prepare(threads)
        yield from _loaded(recipe.form, buckets.windows, buckets.load, place, threads=threads, ahead=ahead)
    finally:
        buckets.close()


def _cut(recipe: Recipe, key: Key) -> tuple[int, Key | None]:
    return (recipe.window, key) if recipe.shuffle == "window" else (1, None)


def _window_reader(recipe: Recipe, key: Key, tools: Tools) -> Callable[[Window], Any]:
    def read(window: Window) -> Any:
        order = permutation(key, window) if recipe.shuffle == "window" else None
        return recipe.form.window(tools, [recipe.units[unit] for unit in window.units], order)

    return read


def _loaded(
    form: Form,
    order: Iterable[Window],
    read: Callable[[Window], Any],
    place: range,
    *,
    threads: int,
    ahead: int,
) -> Iterator[tuple[Any, int]]:
    chosen = [window for window in order if window.stop > place.start and window.first < place.stop]
    with closing(in_order(read, chosen, threads, ahead)) as decoded:
        for window, block in zip(chosen, decoded, strict=True):
            low = max(place.start - window.first, 0)
            high = min(place.stop - window.first, window.rows)
            yield form.part(block, low, high), high - low
            del block


def _exact(recipe: Recipe, blocks: Iterable[tuple[Any, int]]) -> Iterator[Any]:
    """Cut blocks into batches of one size; what a block leaves over goes with the next."""
    form, size = recipe.form, recipe.batch_size or _ROW_CHUNK
    rest: list[Any] = []
    held = 0
    for block, rows in blocks:
        first = 0
        if held:
            first = min(size - held, rows)
            rest.append(form.part(block, 0, first))
            held += first
            if held == size:
                yield form.joined(rest)
                rest, held = [], 0
        while first + size <= rows:
            yield form.part(block, first, first + size)
            first += size
        if first < rows:
            # Copied, so that a few rows do not keep their block.
            rest.append(form.joined([form.part(block, first, rows)]))
            held = rows - first
        del block
    if held:
        yield form.joined(rest)
