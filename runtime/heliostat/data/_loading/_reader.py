"""From a recipe to exact batches: spans of an epoch, windows decoded ahead, and memory bounded."""

from __future__ import annotations

import functools
import threading
from collections import deque
from contextlib import closing
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from heliostat.data._loading._buckets import Buckets
from heliostat.data._loading._cache import UnitCache, cache_directory
from heliostat.data._loading._decode import PART_BYTES, READ_BYTES, Decoder
from heliostat.data._loading._forms import Form, Tools, Unit
from heliostat.data._loading._memory import Blocks
from heliostat.data._loading._plan import Key, Shuffle, Window, permutation, span, windows
from heliostat.data._loading._pool import in_order, usable_cpus
from heliostat.data._rank import rank_cpus

if TYPE_CHECKING:
    from collections.abc import Callable, Generator, Iterable, Iterator, Sequence

MEMORY = 256 << 20
"""Bytes that decoding may take, about; one unit is always decoded, and one window held."""
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
    in_turn: bool = False
    """Whether units are read one after the other: a place in them is reached only by what precedes it."""
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
    threads, ahead = _width(recipe, workers)
    tools = _tools(recipe, threads, ahead)
    with closing(_blocks(recipe, key, place, tools, threads=threads, ahead=ahead)) as blocks:
        yield from _exact(recipe, blocks)


def _width(recipe: Recipe, workers: int) -> tuple[int, int]:
    """Threads, and units that are decoded ahead; fewer where units are large."""
    if recipe.in_turn:
        return 1, 2
    # One more than CPUs: while one waits for its columns, another moves rows.
    cpus = max(rank_cpus(usable_cpus()) // workers, 1)
    wished = recipe.threads or min(cpus + 1, _MOST_THREADS)
    row = recipe.form.row_bytes()
    unit = row * max(unit.rows for unit in recipe.units)
    block = {"none": unit, "window": unit * recipe.window, "global": PART_BYTES}[recipe.shuffle]
    # A unit is held as columns and as rows; one block is held beside by whoever uses it.
    fitting = (MEMORY - min(block, MEMORY // 2)) // (2 * unit + READ_BYTES)
    threads = max(min(wished, fitting), 1)
    return threads, min(threads + 1, max(fitting, 1))


def _tools(recipe: Recipe, threads: int, ahead: int) -> Tools:
    cache = None if recipe.cache is None else UnitCache(cache_directory(recipe.cache))
    # With one unit at a time its columns are decoded side by side instead.
    use_threads = threads == 1 < usable_cpus()
    return Tools(Decoder(), Blocks(ahead + 1), cache, use_threads=use_threads, in_turn=recipe.in_turn)


def _blocks(
    recipe: Recipe, key: Key, place: range, tools: Tools, *, threads: int, ahead: int
) -> Generator[tuple[Any, int], None, None]:
    """Yield what each window has of ``place``, with its rows."""
    if recipe.shuffle != "global":
        order = windows([unit.rows for unit in recipe.units], *_cut(recipe, key))
        chosen = _touched(order, place)

        def filling(window: Window) -> _Filling:
            places = functools.partial(permutation, key, window) if recipe.shuffle == "window" else None
            return _Filling(recipe.form, tools, [recipe.units[unit] for unit in window.units], places)

        yield from _delivered(recipe.form, chosen, filling, place, threads=threads, ahead=ahead)
        return
    buckets = Buckets(
        recipe.form,
        tools=tools,
        units=recipe.units,
        key=key,
        rows=max(PART_BYTES // max(recipe.form.row_bytes(), 1), 1),
        directory=cache_directory(recipe.cache),
        name=recipe.name,
    )
    try:
        buckets.prepare(threads)
        chosen = _touched(buckets.windows, place)
        yield from _delivered(
            recipe.form,
            chosen,
            lambda window: _Loading(buckets, window),
            place,
            threads=threads,
            ahead=ahead,
        )
    finally:
        buckets.close()


def _cut(recipe: Recipe, key: Key) -> tuple[int, Key | None, list[int] | None]:
    if recipe.shuffle == "none":
        return 1, None, None
    return recipe.window, key, [unit.origin for unit in recipe.units]


def _touched(order: Iterable[Window], place: range) -> list[Window]:
    return [window for window in order if window.stop > place.start and window.first < place.stop]


class _Filling:
    """A window in the making: its units are read side by side, into one block."""

    def __init__(
        self, form: Form, tools: Tools, units: Sequence[Unit], places: Callable[[], Any] | None
    ) -> None:
        self._form, self._tools, self._units, self._permuted = form, tools, units, places
        self._lock = threading.Lock()
        self._missing = len(units)
        self._places: Any = None
        self.block: Any = None

    def steps(self) -> list[Callable[[], None]]:
        """Return what has to be done, all in any order and in any thread, until ``block`` is whole."""
        return [functools.partial(self._read, number) for number in range(len(self._units))]

    def _read(self, number: int) -> None:
        with self._lock:
            if self.block is None:
                self._places = None if self._permuted is None else self._permuted()
                self.block = self._form.new(self._tools, self._units)
        self._form.fill(self._tools, self.block, self._units, number, self._places)
        with self._lock:
            self._missing -= 1
            if not self._missing:
                self.block = self._form.finished(self.block, self._places)


class _Loading:
    """A bucket of a global shuffle in the making."""

    def __init__(self, buckets: Buckets, window: Window) -> None:
        self._buckets, self._window = buckets, window
        self.block: Any = None

    def steps(self) -> list[Callable[[], None]]:
        """Return what has to be done."""
        return [self._read]

    def _read(self) -> None:
        self.block = self._buckets.load(self._window)


def _delivered(
    form: Form,
    chosen: Sequence[Window],
    begin: Callable[[Window], _Filling | _Loading],
    place: range,
    *,
    threads: int,
    ahead: int,
) -> Iterator[tuple[Any, int]]:
    """Make windows ahead, and yield of each what lies in ``place``."""
    begun: deque[tuple[_Filling | _Loading, int]] = deque()

    def steps() -> Iterator[Callable[[], None]]:
        for window in chosen:
            job = begin(window)
            found = job.steps()
            begun.append((job, len(found)))
            yield from found

    with closing(in_order(lambda step: step(), steps(), threads, ahead)) as done:
        for window in chosen:
            next(done)
            job, count = begun.popleft()
            for _ in range(count - 1):
                next(done)
            block = job.block
            del job
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
