"""``%%distribute``: run a cell on many ranks. Thin over ``heliostat._ranks``."""

from __future__ import annotations

import signal
from typing import TYPE_CHECKING, Any

from IPython.core.error import UsageError

from heliostat_magics._base import Magic
from heliostat_magics._modes import MODES, make
from heliostat_magics._parser import MagicParser, Scope, at_least
from heliostat_magics._types import names, seconds, seconds_or_never, signal_name

if TYPE_CHECKING:
    import argparse

    from heliostat._ranks import Options, RankGroup

__all__ = [
    "DistributeMagic",
    "SpmdMode",
    "TorchMode",
    "ensure_group",
    "names",
    "seconds",
    "seconds_or_never",
    "signal_name",
]

MOST_BYTES = 1 << 30


def ensure_group(count: int | None = None) -> RankGroup:
    """Return the ranks, started now if there are none."""
    from heliostat import _ranks

    group = _ranks.current()
    if group is None:
        return _ranks.start(_ranks.Wish(ranks=count))
    if count is not None and count != group.size:
        message = f"there are {group.size} ranks already; %ranks resize {count} changes that"
        raise UsageError(message)
    return group


class DistributeMagic(Magic):
    """``%%distribute``: finds the mode and leaves the rest to it."""

    def __init__(self, shell: Any) -> None:
        super().__init__(shell)
        self._modes: dict[str, Magic] = {}

    def parser(self, line: str) -> MagicParser:
        """The parser of the mode that the line begins with."""
        mode, rest = self._split(line)
        return self._mode(mode).parser(rest)

    def parse(self, line: str, cell: str | None) -> argparse.Namespace:
        """Read the line with the mode's parser. Raises UsageError."""
        mode, rest = self._split(line)
        given = self._mode(mode).parse(rest, cell)
        given.mode = mode
        return given

    def run(self, arguments: argparse.Namespace, cell: str | None) -> Any:
        """Run the mode."""
        if cell is None or not cell.strip():
            message = "%%distribute needs a cell to run; the line is for its options"
            raise UsageError(message)
        mode = self._mode(arguments.mode)
        mode.namespace = self.namespace
        return mode.run(arguments, cell)

    def offers(self, scope: Scope) -> list[str]:
        """The modes first, then what the mode offers."""
        mode = scope.words[0] if scope.words and scope.words[0] in MODES else ""
        rest = Scope(scope.shell, scope.words[1:] if mode else scope.words, scope.fragment)
        found = self._mode(mode).offers(rest)
        return found if scope.words else [*filter(None, MODES), *found]

    def body_offers(self, scope: Scope, body: str) -> list[str] | None:
        """What the mode offers inside of the cell."""
        mode = scope.words[0] if scope.words and scope.words[0] in MODES else ""
        rest = Scope(scope.shell, scope.words[1:] if mode else scope.words, scope.fragment)
        return self._mode(mode).body_offers(rest, body)

    def _mode(self, name: str) -> Magic:
        if name not in self._modes:
            self._modes[name] = make(name, self.shell)
        return self._modes[name]

    def _split(self, line: str) -> tuple[str, str]:
        first, _, rest = line.strip().partition(" ")
        return (first, rest) if first in MODES and first else ("", line)


class SpmdMode(Magic):
    """The same cell on each rank."""

    sign = "%%distribute"
    summary = "Run the cell on every rank: a process with a namespace of its own that stays."
    torch = False

    def parser(self, line: str) -> MagicParser:
        """Make the parser."""
        del line
        modes = "\n".join(
            f"  {f'%%distribute {name}'.rstrip():<20} {what}" for name, (_, what) in MODES.items()
        )
        parser = MagicParser(
            self.sign,
            "[TARGETS] [OPTIONS]",
            f"{self.summary}\n\nrank, local_rank, world_size and device are in scope; in torch mode also\n"
            "dist and torch. Ranks are started when they are first needed: as many as there are\n"
            "GPUs, or else CPUs; %ranks shows and steers them. Stop interrupts all of them.\n\n"
            f"modes:\n{modes}\n\nexamples:\n  %%distribute -t 0,2-3\n  %%distribute -o losses\n"
            "  %%distribute torch --watch 30",
        )
        parser.add("targets", nargs="*", help="ranks, such as 0,2-3 or 1:4 or all (default)", complete=_ranks)
        parser.add(
            "-t", "--targets", dest="flagged", metavar="RANKS", help="the same as a flag", complete=_ranks
        )
        parser.add(
            "-n", "--ranks", type=at_least(1), metavar="N", help="start N ranks, if none are there yet"
        )
        parser.add(
            "-o", "--out", type=names, metavar="NAME", help="bind what the last expression gives on each rank"
        )
        how = "how it runs"
        parser.add("-b", "--block", action="store_true", group=how, help="wait for the ranks (default)")
        parser.add("-a", "--noblock", action="store_true", group=how, help="go on at once; returns a handle")
        parser.add("--local", action="store_true", group=how, help="run the cell in the notebook as well")
        parser.add(
            "--timeout", type=seconds, default=0.0, metavar="S", group=how, help="stop it after S seconds"
        )
        parser.add(
            "--grace",
            type=seconds,
            default=2.0,
            metavar="S",
            group=how,
            help="end ranks that do not stop in S (2)",
        )
        parser.add(
            "--watch",
            type=seconds,
            default=60.0,
            metavar="S",
            group=how,
            help="say who is stuck after S (60; 0: off)",
        )
        parser.add(
            "--signal-on-interrupt",
            type=signal_name,
            default=signal.SIGINT,
            metavar="SIG",
            group=how,
            help="what ranks are sent to stop them (SIGINT)",
        )
        shown = "what it shows"
        parser.add("--stream", action="store_true", group=shown, help="show output as it comes (default)")
        parser.add("--no-stream", action="store_true", group=shown, help="show it at the end")
        parser.add(
            "--group-outputs",
            choices=("engine", "rank", "order", "type"),
            group=shown,
            help="show it at the end, by rank, as it came, or by type",
        )
        parser.add(
            "--progress-after",
            type=seconds_or_never,
            default=2.0,
            metavar="S",
            group=shown,
            help="show a bar after S seconds (2; -1: never)",
        )
        parser.add("--verbose", action="store_true", group=shown, help="tracebacks of all ranks")
        parser.add(
            "--max-bytes", type=at_least(1), default=MOST_BYTES, metavar="N", help="limit of -o (1 GiB)"
        )
        return parser

    def parse(self, line: str, cell: str | None) -> argparse.Namespace:
        """Read the line; refuse flags that contradict each other. Raises UsageError."""
        given = super().parse(line, cell)
        for one, other in (("block", "noblock"), ("stream", "no_stream"), ("stream", "group_outputs")):
            if getattr(given, one) and getattr(given, other):
                message = f"--{one} and --{other.replace('_', '-')} contradict each other; give one of them"
                raise UsageError(message)
        if given.targets and given.flagged:
            message = "the ranks are given twice; write them with -t or without"
            raise UsageError(message)
        if given.noblock and given.local:
            message = "--local waits for the notebook's own part, so it does not go with --noblock"
            raise UsageError(message)
        return given

    def run(self, arguments: argparse.Namespace, cell: str | None) -> Any:
        """Run the cell."""
        from heliostat import _ranks

        assert cell is not None
        group = ensure_group(arguments.ranks)
        text = arguments.flagged or ",".join(arguments.targets) or "all"
        targets = _ranks.parse_targets(text, group.size)
        if self.torch:
            _ranks.join(group)
        keep = bool(arguments.out or arguments.noblock)
        run = group.run(cell, targets, keep=keep, cell=self.shell.displayhook.prompt_count)
        options, single = _options(arguments), len(targets) == 1
        if arguments.noblock:
            handle = _ranks.Handle(group, run, options, single=single)
            if arguments.out:
                self.shell.user_ns[arguments.out] = handle
                return None
            return handle
        here = self.shell.run_cell(cell) if arguments.local else None
        if here is not None and isinstance(here.error_in_exec, KeyboardInterrupt):
            group.stop_run(run)
        _ranks.conduct(group, run, options)
        if here is not None:
            here.raise_error()
        if arguments.out:
            _guard(group.objects.result_size(run), arguments)
            values = group.objects.results(run)
            self.shell.user_ns[arguments.out] = values[0] if single else values
        return None


class TorchMode(SpmdMode):
    """The same, with the process group."""

    sign = "%%distribute torch"
    summary = "Run the cell on every rank, with PyTorch's process group up (gloo, or nccl with GPUs)."
    torch = True


def _options(arguments: argparse.Namespace) -> Options:
    from heliostat._ranks import Limits, Options

    limits = Limits(arguments.grace, arguments.timeout or None, arguments.watch or None)
    by = {"engine": "rank"}.get(arguments.group_outputs, arguments.group_outputs)
    return Options(
        limits,
        by or ("order" if arguments.no_stream else None),
        arguments.verbose,
        arguments.progress_after,
        arguments.signal_on_interrupt,
    )


def _guard(size: int, arguments: argparse.Namespace) -> None:
    if size > arguments.max_bytes:
        message = f"The results take {size:,} bytes, more than --max-bytes {arguments.max_bytes:,}."
        from heliostat.exceptions import DataError

        raise DataError(message, "Return less, or raise --max-bytes.", required=size)


def _ranks(scope: Scope) -> list[str]:
    del scope
    import sys

    module = sys.modules.get("heliostat._ranks")
    group = module.current() if module is not None else None
    return ["all", *([] if group is None else map(str, range(group.size)))]
