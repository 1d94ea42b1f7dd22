"""Shows the output of one cell's ranks: in lines, folded, in time, within limits, and all of it.

The Jupyter server drops output above 1000 messages or 1 MB a second, so text is collected for a
moment and paced. What goes beyond the limit of a cell is written to a file, and the cell says so.
"""

from __future__ import annotations

import json
import time
from typing import TYPE_CHECKING, Any, TextIO

from heliostat._ranks._fold import Folded, Folder, Lines, Piece, visible
from heliostat._ranks._targets import label

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Sequence
    from pathlib import Path

    from heliostat._ranks._screen import Screen

__all__ = ["Output"]

MOST_BYTES = 4_000_000
"""Of one cell on the screen; the rest goes to a file."""
BURST_BYTES = 1_500_000
PIECE = 500_000
"""Of one message."""
BYTES_A_SECOND = 800_000
LIVE_SECONDS = 0.5
"""How long a line without an end is held back before it is shown as it grows."""
LIVE_WIDTH = 160
_WIDGET = "application/vnd.jupyter.widget-view+json"


class Output:
    """From what ranks send to what the cell shows. One thread uses it.

    Parameters
    ----------
    ranks:
        The ranks of the cell; where there is only one, its number is not written.
    group_by:
        ``None`` shows output as it comes. ``"rank"`` and ``"type"`` show it at the end, in that
        order; ``"order"`` at the end as it came.
    """

    def __init__(
        self, ranks: Sequence[int], screen: Screen, file: Callable[[], Path], group_by: str | None = None
    ) -> None:
        self._ranks, self._screen, self._group_by = tuple(ranks), screen, group_by
        self._folder = Folder(ranks)
        self._lines = {(rank, stream): Lines() for rank in ranks for stream in ("stdout", "stderr")}
        self._kept: list[tuple[int, Piece]] = []
        self._text: dict[int, list[str]] = {rank: [] for rank in ranks}
        self._text_bytes = 0
        self._shown_bytes = 0
        self._budget, self._budget_at = float(BURST_BYTES), time.monotonic()
        self._new_file = file
        self._file: TextIO | None = None
        self.path: Path | None = None
        self._live, self._live_at = "", 0.0
        self._since: dict[tuple[int, str], float] = {}

    @property
    def texts(self) -> list[str]:
        """What each rank wrote so far, in the order of ranks; of a flood, the beginning."""
        return ["".join(self._text[rank]) for rank in self._ranks]

    def take(self, rank: int, kind: str, content: dict[str, Any], now: float) -> None:
        """Take an IOPub message of ``rank``."""
        if kind == "stream":
            self._take_text(rank, content["name"], content["text"], now)
            return
        names = {
            "display_data": "display",
            "execute_result": "result",
            "update_display_data": "update",
            "clear_output": "clear",
        }
        if kind not in names:
            return
        self._end_lines(rank, now)
        self._keep_text(rank, content.get("data", {}).get("text/plain", "") + "\n")
        self._add(rank, self._rich(rank, names[kind], content, now))

    def finish(self, rank: int, now: float) -> None:
        """Note that ``rank`` is done."""
        self._end_lines(rank, now)
        self._folder.finish(rank)

    def show(self, now: float, *, all_of_it: bool = False) -> None:
        """Show what is due. Sleeps for a moment where the limits ask for it."""
        if self._group_by is None:
            for part in _in_parts(self._folder.take(float("inf") if all_of_it else now)):
                self._put(part)
            self._show_live(now)
        elif all_of_it:
            for part in _in_parts(self._grouped()):
                self._put(part)
        if all_of_it and self._file is not None and self.path is not None:
            self._file.close()
            size = self.path.stat().st_size
            self._screen.write("stderr", f"The rest of the output is in {self.path} ({size:,} bytes)\n")

    @property
    def holding(self) -> bool:
        """Whether something waits to be shown."""
        return self._folder.waiting or any(lines.rest for lines in self._lines.values())

    def _take_text(self, rank: int, stream: str, text: str, now: float) -> None:
        self._keep_text(rank, text)
        lines = self._lines[rank, stream]
        self._add(rank, Piece(stream, lines.feed(text), now))
        if lines.rest:
            self._since.setdefault((rank, stream), now)
        else:
            self._since.pop((rank, stream), None)

    def _keep_text(self, rank: int, text: str) -> None:
        if self._text_bytes < MOST_BYTES:
            self._text[rank].append(text)
            self._text_bytes += len(text)

    def _add(self, rank: int, piece: Piece) -> None:
        if self._group_by in ("rank", "type"):
            self._kept.append((rank, piece))
        else:
            self._folder.add(rank, piece)

    def _end_lines(self, rank: int, now: float) -> None:
        for stream in ("stdout", "stderr"):
            self._since.pop((rank, stream), None)
            self._add(rank, Piece(stream, self._lines[rank, stream].finish(), now))

    def _rich(self, rank: int, kind: str, content: dict[str, Any], now: float) -> Piece:
        transient = dict(content.get("transient") or {})
        if "display_id" in transient:
            # Each rank has displays of its own under the same name.
            transient["display_id"] = f"{transient['display_id']}-rank-{rank}"
        # The page would look for the widget's model in the notebook's kernel, where it is not.
        data = {form: value for form, value in content.get("data", {}).items() if form != _WIDGET}
        shown = {**content, "data": data, "transient": transient}
        identity = json.dumps([data, content.get("metadata"), transient], sort_keys=True, default=str)
        return Piece(kind, [identity], now, shown)

    def _grouped(self) -> Iterator[Folded]:
        if self._group_by == "order":
            yield from self._folder.take(float("inf"))
        elif self._group_by == "rank":
            for rank, piece in sorted(self._kept, key=lambda each: each[0]):
                yield Folded((rank,), piece.kind, piece.lines, piece.content)
        else:
            kinds = {"stdout": 0, "stderr": 1, "display": 2, "update": 2, "clear": 2, "result": 3}
            for number in range(4):
                folder = Folder(self._ranks)
                for rank, piece in self._kept:
                    if kinds[piece.kind] == number:
                        folder.add(rank, piece)
                yield from folder.take(float("inf"))

    def _put(self, part: Folded) -> None:
        """Show what ranks have in common."""
        head = "" if len(self._ranks) == 1 else label(part.ranks)
        if not part.rich:
            self._write(part.kind, head + f"\n{head}".join(part.lines) + "\n")
        elif part.kind == "clear":
            if len(self._ranks) == 1:
                self._screen.clear(wait=bool(part.content.get("wait")))
        else:
            self._put_object(head, part)

    def _put_object(self, head: str, part: Folded) -> None:
        data, size = part.content.get("data", {}), len(part.lines[0])
        if self._over(size):
            self._to_file(f"{head}{json.dumps(data)}\n")
        elif part.kind == "result" and set(data) == {"text/plain"}:
            text = data["text/plain"]
            self._write(
                "stdout", f"{head.rstrip()}\n{text}\n" if "\n" in text and head else f"{head}{text}\n"
            )
        else:
            if head and part.kind != "update":
                self._write("stdout", f"{head.rstrip()}\n")
            self._pace(size)
            self._screen.show(part.content, update=part.kind == "update")

    def _write(self, stream: str, text: str) -> None:
        if self._live and self._file is None:
            text = "\r" + " " * len(self._live) + "\r" + text
            self._live = ""
        for start in range(0, len(text), PIECE):
            piece = text[start : start + PIECE]
            if self._over(len(piece)):
                self._to_file(piece)
            else:
                self._pace(len(piece))
                self._screen.write(stream, piece)

    def _over(self, size: int) -> bool:
        return self._file is not None or self._shown_bytes + size > MOST_BYTES

    def _to_file(self, text: str) -> None:
        if self._file is None:
            self.path = self._new_file()
            self._file = self.path.open("w", encoding="utf-8", errors="backslashreplace")
            self._screen.write("stderr", f"Further output of this cell goes to {self.path}\n")
        self._file.write(text)

    def _pace(self, size: int) -> None:
        self._shown_bytes += size
        now = time.monotonic()
        self._budget = min(BURST_BYTES, self._budget + (now - self._budget_at) * BYTES_A_SECOND)
        self._budget_at = now
        if self._budget < size:
            time.sleep(min((size - self._budget) / BYTES_A_SECOND, 2.0))
        self._budget -= size

    def _show_live(self, now: float) -> None:
        """Show lines that grow, such as progress bars, on one line that is overwritten."""
        due = [key for key, since in self._since.items() if now - since >= LIVE_SECONDS]
        if not due or now - self._live_at < LIVE_SECONDS / 2 or self._over(LIVE_WIDTH):
            return
        parts = dict.fromkeys(visible(self._lines[key].rest) for key in sorted(due))
        alike: dict[str, list[int]] = {part: [] for part in parts}
        for key in due:
            alike[visible(self._lines[key].rest)].append(key[0])
        single = len(self._ranks) == 1
        shown = " ".join(("" if single else label(ranks)) + part for part, ranks in alike.items())[
            :LIVE_WIDTH
        ]
        if shown != self._live:
            self._pace(len(shown))
            self._screen.write("stdout", "\r" + shown.ljust(len(self._live)))
            self._live, self._live_at = shown, now


def _in_parts(folded: Iterable[Folded]) -> Iterator[Folded]:
    """Bring neighbours of the same ranks and the same kind together, to show them at once."""
    held: list[Folded] = []
    for part in folded:
        if held and (part.ranks != held[0].ranks or part.kind != held[0].kind or part.rich):
            yield _joined(held)
            held = []
        held.append(part)
    if held:
        yield _joined(held)


def _joined(parts: Sequence[Folded]) -> Folded:
    first = parts[0]
    if len(parts) == 1:
        return first
    return Folded(first.ranks, first.kind, [line for part in parts for line in part.lines], first.content)
