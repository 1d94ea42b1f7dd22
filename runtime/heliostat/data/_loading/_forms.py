"""What a batch looks like: one dense matrix with labels, or arrays by column name.

A form turns units into blocks (many rows at once) and blocks into batches; ``_dense`` and ``_named``
have one each.
"""

from __future__ import annotations

import os
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol, TypeAlias

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    import numpy as np

    from heliostat.data._loading._cache import UnitCache
    from heliostat.data._loading._decode import Decoder
    from heliostat.data._loading._memory import Blocks
    from heliostat.data._shards import RowSlice

Array: TypeAlias = "np.ndarray[Any, Any]"


@dataclass(frozen=True)
class Unit:
    """Neighbouring slices that are read together, and the name they have in the local cache."""

    slices: tuple[RowSlice, ...]
    rows: int
    origin: int = 0
    """Shared by the parts of one large row group, which follow each other."""


@dataclass
class Tools:
    """What reading needs in one process; made anew in each."""

    decoder: Decoder
    blocks: Blocks
    cache: UnitCache | None
    use_threads: bool = False
    in_turn: bool = False
    """Whether parts of a row group come one after the other, so that pyarrow reaches them as well."""


@dataclass(frozen=True)
class Stored:
    """Some rows in a file of ours."""

    file: int
    offset: int
    size: int

    def read_into(self, buffer: Any, skip: int) -> None:
        """Fill ``buffer`` from ``skip`` bytes on. Raises OSError."""
        view = memoryview(buffer).cast("B")
        while view.nbytes:
            count = os.preadv(self.file, [view], self.offset + skip)
            if not count:
                message = "a stored unit ends early"
                raise OSError(message)
            view, skip = view[count:], skip + count

    def content(self) -> bytes:
        """Everything. Raises OSError."""
        found = bytearray(self.size)
        self.read_into(found, 0)
        return bytes(found)


class Form(Protocol):
    """Turns units into blocks, and blocks into batches. Blocks are opaque to everybody else.

    ``places`` say where each row of a block goes; ``None``: all stay in order.
    """

    def new(self, tools: Tools, units: Sequence[Unit]) -> Any:
        """Make a block for the rows of ``units``, without them yet."""
        ...

    def fill(
        self, tools: Tools, block: Any, units: Sequence[Unit], number: int, places: Array | None
    ) -> None:
        """Read one of the units into its rows of the block. May be called from several threads at once."""
        ...

    def finished(self, block: Any, places: Array | None) -> Any:
        """Return the block once all of its units are in it."""
        ...

    def raw(self, tools: Tools, unit: Unit, places: Array) -> Any:
        """Read a unit as it is stored: ``part`` and ``dump`` know it, and ``load`` reads that."""
        ...

    def part(self, block: Any, start: int, stop: int) -> Any:
        """Some rows, without a copy."""
        ...

    def joined(self, blocks: list[Any]) -> Any:
        """One block of several."""
        ...

    def dump(self, block: Any) -> list[Any]:
        """Buffers that hold the block."""
        ...

    def load(self, tools: Tools, pieces: Iterable[tuple[Stored, int]], rows: int, places: Array) -> Any:
        """Make one block of dumped ones, each given with its number of rows. Raises OSError."""
        ...

    def row_bytes(self) -> int:
        """Size of a row, to bound memory by."""
        ...
