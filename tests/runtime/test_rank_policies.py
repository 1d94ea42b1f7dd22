"""What is decided about ranks without a rank: how many and where, when to stop, how output folds."""

from __future__ import annotations

import random

import pytest

from heliostat._ranks._decide import LONGEST_WAIT, Limits, Moment, Step, decide
from heliostat._ranks._fold import Folded, Folder, Lines, Piece
from heliostat._ranks._plan import MOST_RANKS, NodeRoom, Wish, plan
from heliostat._ranks._targets import parse_targets, spell
from heliostat._ranks._wire import Request, Wire
from heliostat.exceptions import ConfigurationError

CPUS = [NodeRoom("a", 4, 0)]
GPUS = [NodeRoom("a", 8, 2), NodeRoom("b", 8, 2)]


@pytest.mark.parametrize(
    ("nodes", "wish", "count", "reserved"),
    [
        (CPUS, Wish(), 4, {}),
        (CPUS, Wish(cpus=2), 2, {"CPU": 2}),
        (CPUS, Wish(ranks=7), 7, {}),
        (CPUS, Wish(memory_bytes=5), 4, {"memory": 5}),
        (GPUS, Wish(), 4, {"GPU": 1}),
        (GPUS, Wish(ranks=3), 3, {"GPU": 1}),
        (GPUS, Wish(gpus=2), 2, {"GPU": 2}),
        (GPUS, Wish(gpus=0), 16, {}),
        (GPUS, Wish(ranks=6), 6, {}),
        ([NodeRoom("a", 0.5, 0)], Wish(), 1, {}),
    ],
)
def test_there_are_as_many_ranks_as_gpus_or_else_cpus(
    nodes: list[NodeRoom], wish: Wish, count: int, reserved: dict[str, float]
) -> None:
    """A rank reserves its GPU; CPUs and memory only where they are asked for."""
    chosen = plan(nodes, wish)
    assert (chosen.count, dict(chosen.reserved)) == (count, reserved)
    assert len(chosen.nodes) == count


def test_neighbours_share_a_node_and_threads_are_shared_out() -> None:
    """Ranks fill one node after the other, in proportion to it, and share the CPUs."""
    chosen = plan([NodeRoom("a", 6, 0), NodeRoom("b", 2, 0)], Wish(ranks=4))
    assert chosen.nodes == ("a", "a", "a", "b")
    assert chosen.threads == 2


@pytest.mark.parametrize("wish", [Wish(ranks=0), Wish(ranks=MOST_RANKS + 1), Wish(cpus=5), Wish(gpus=1)])
def test_what_the_runtime_will_never_have_is_refused(wish: Wish) -> None:
    """A wish that is no number, or larger than the runtime, fails before anything starts."""
    with pytest.raises(ConfigurationError):
        plan(CPUS, wish)


@pytest.mark.parametrize(
    ("moment", "step", "wait"),
    [
        (Moment(now=10, began=0, last_news=9.5), Step.WAIT, 1.0),
        (Moment(now=69, began=0, last_news=9), Step.WATCH, 0),
        (Moment(now=68.75, began=0, last_news=9), Step.WAIT, 0.25),
        (Moment(now=10, began=0, last_news=9, failed_at=8), Step.STOP, 0),
        (Moment(now=9.5, began=0, last_news=9, failed_at=8), Step.WAIT, 0.5),
        (Moment(now=10, began=0, last_news=9, stopped_at=9.5), Step.WAIT, 1.0),
        (Moment(now=11.5, began=0, last_news=9, stopped_at=9.5), Step.KILL, 0),
        (Moment(now=10, began=0, last_news=9, stopped_at=9.9, urgent=True), Step.KILL, 0),
        (Moment(now=10, began=0, last_news=-99, stopped_at=9.9), Step.WAIT, 1.0),
    ],
)
def test_what_is_due_follows_from_the_times(moment: Moment, step: Step, wait: float) -> None:
    """Grace, watch and the second interrupt decide; what was told to stop is watched no more."""
    found, seconds = decide(moment, Limits())
    assert found is step
    assert seconds == pytest.approx(wait)


def test_limits_that_are_off_are_never_due() -> None:
    """Without a watch only the timeout counts, and without both there is nothing but news."""
    moment = Moment(now=1e6, began=0, last_news=0)
    assert decide(moment, Limits(watch=None)) == (Step.WAIT, LONGEST_WAIT)
    assert decide(moment, Limits(watch=None, timeout=5))[0] is Step.STOP


def folded(folder: Folder, now: float = float("inf")) -> list[tuple[tuple[int, ...], list[str]]]:
    """What a folder gives out, with neighbours of the same ranks brought together."""
    found: list[tuple[tuple[int, ...], list[str]]] = []
    for each in folder.take(now):
        if found and found[-1][0] == each.ranks:
            found[-1][1].extend(each.lines)
        else:
            found.append((each.ranks, list(each.lines)))
    return found


def test_equal_lines_are_one_whatever_the_pieces() -> None:
    """Ranks whose output arrives in other pieces fold all the same."""
    folder = Folder([0, 1])
    lines = [f"line {number}" for number in range(1000)]
    folder.add(0, Piece("stdout", lines[:]))
    for start in range(0, 1000, 77):
        folder.add(1, Piece("stdout", lines[start : start + 77]))
    assert folded(folder) == [((0, 1), lines)]
    assert not folder.waiting


def test_a_line_waits_for_its_equals_but_not_for_ever() -> None:
    """While another rank is silent a line is held; after a moment it is shown alone."""
    folder = Folder([0, 1], hold=0.25)
    folder.add(0, Piece("stdout", ["a"], at=1.0))
    assert folded(folder, now=1.2) == []
    assert folded(folder, now=1.3) == [((0,), ["a"])]
    folder.add(0, Piece("stdout", ["b"], at=2.0))
    folder.finish(1)
    assert folded(folder, now=2.0) == [((0,), ["b"])]


def test_a_line_of_one_rank_does_not_tear_what_others_share() -> None:
    """What one says between two common lines is shown between them."""
    folder = Folder([0, 1, 2])
    for rank in range(3):
        folder.add(rank, Piece("stdout", ["begin", *(["mine"] if rank == 1 else []), "end"]))
    assert folded(folder) == [((0, 1, 2), ["begin"]), ((1,), ["mine"]), ((0, 1, 2), ["end"])]


def test_stdout_and_stderr_are_told_apart() -> None:
    """Equal text of different streams is not the same line."""
    folder = Folder([0, 1])
    folder.add(0, Piece("stdout", ["x"]))
    folder.add(1, Piece("stderr", ["x"]))
    assert [(each.ranks, each.kind) for each in folder.take(float("inf"))] == [
        ((0,), "stdout"),
        ((1,), "stderr"),
    ]


@pytest.mark.parametrize("seed", range(20))
def test_nothing_is_lost_and_the_order_of_each_rank_is_kept(seed: int) -> None:
    """Whatever ranks say in whatever pieces and at whatever time, each can be read back whole."""
    chance = random.Random(seed)
    said: dict[int, list[str]] = {rank: [] for rank in range(4)}
    shown: dict[int, list[str]] = {rank: [] for rank in range(4)}
    folder = Folder(said)

    def note(parts: list[Folded]) -> None:
        for part in parts:
            for rank in part.ranks:
                shown[rank].extend(part.lines)

    for step in range(200):
        rank = chance.randrange(4)
        lines = [chance.choice("abcdefgh") for _ in range(chance.randrange(6))]
        said[rank] += lines
        folder.add(rank, Piece("stdout", lines, at=step / 10))
        if chance.random() < 0.3:
            note(list(folder.take(step / 10)))
    for rank in said:
        folder.finish(rank)
    note(list(folder.take(float("inf"))))
    assert shown == said
    assert not folder.waiting


def test_a_flood_takes_time_in_proportion() -> None:
    """A hundred thousand lines of four ranks fold in seconds, equal or not."""
    import time

    began = time.process_time()
    for own in ("", "of {}"):
        folder = Folder(range(4))
        for rank in range(4):
            lines = [f"{number} {own.format(rank)}" for number in range(100_000)]
            for start in range(0, 100_000, 5000):
                folder.add(rank, Piece("stdout", lines[start : start + 5000]))
        assert sum(len(part.lines) * len(part.ranks) for part in folder.take(float("inf"))) == 400_000
    assert time.process_time() - began < 5


@pytest.mark.parametrize(
    ("pieces", "lines"),
    [
        (["a", "b\nc"], ["ab", "c"]),
        (["10%\r20%\r", "30%\n"], ["30%"]),
        (["10%", "\r20%", "\r", "30%"], ["30%"]),
        (["a\r\nb\r\n"], ["a", "b"]),
        (["\n\n"], ["", ""]),
    ],
)
def test_lines_are_as_a_terminal_shows_them(pieces: list[str], lines: list[str]) -> None:
    """Pieces become lines, and of a progress bar what it says last is left."""
    made = Lines()
    found = [line for piece in pieces for line in made.feed(piece)]
    assert found + made.finish() == lines


def test_a_line_in_a_million_pieces_stays_cheap() -> None:
    """What grows without an end of line is put together once, and not at each piece."""
    import time

    made, began = Lines(), time.process_time()
    for _ in range(300_000):
        made.feed("xyz")
    assert made.feed("\n") == ["xyz" * 300_000]
    assert time.process_time() - began < 3


@pytest.mark.parametrize(
    ("text", "ranks"),
    [("0", [0]), ("0,2-3", [0, 2, 3]), ("1:3", [1, 2]), (":2", [0, 1]), ("-1", [3]), ("all", [0, 1, 2, 3])],
)
def test_ranks_are_read_as_users_write_them(text: str, ranks: list[int]) -> None:
    """Numbers, ranges with and without their end, from behind, and all."""
    assert list(parse_targets(text, 4)) == ranks
    assert spell(ranks)


def test_messages_are_read_only_with_the_key() -> None:
    """A message of another key, or that was changed, is refused; one in odd bytes is read."""
    first, second = Request.to_each(2, "execute_request", {"code": "1"})
    assert first.id != second.id
    wire = Wire("key")
    frames = wire.frames(first)
    read = wire.read([b"topic", *frames])
    assert (read["msg_type"], read["content"]) == ("execute_request", {"code": "1"})
    for changed in (Wire("other").frames(first), [*frames[:-1], b'{"code": "2"}'], frames[:3]):
        with pytest.raises(ValueError, match="signed"):
            wire.read(changed)
    odd = Request("stream", b'{"text": "\xff"}')
    assert wire.read(wire.frames(odd))["content"] == {"text": "\ufffd"}


def test_ranks_of_a_run_are_spelled_short() -> None:
    """Neighbours become a range."""
    assert spell([0, 1, 2, 5]) == "ranks 0-2, 5"
    assert spell([4]) == "rank 4"
