"""Arguments of ``%runtime``: one parser, whose help is also the magic's docstring."""

from __future__ import annotations

import argparse
import re
from dataclasses import dataclass
from typing import TYPE_CHECKING

from IPython.core.error import UsageError
from IPython.core.magic_arguments import MagicArgumentParser

if TYPE_CHECKING:
    from heliostat._messages import ResizeTarget

__all__ = ["COMMANDS", "SIZE_FLAGS", "RuntimeArguments", "help_text", "parse"]

COMMANDS = {
    "status": "state, address, and what is used of what there is (the default)",
    "steps": "the same, with each step of the boot and each change of state",
    "start": "start a runtime, or wait for the one that is booting",
    "stop": "take it down; variables of the notebook stay",
    "restart": "take it down and boot it again, with other sizes if given",
    "attach": "use the Ray cluster at ADDRESS (host:port); it is never stopped from here",
    "log": "last lines of the runtime's log",
}
SIZE_FLAGS = ("--cpus", "--gpus", "--memory", "--object-store-memory", "--nodes")


@dataclass(frozen=True)
class RuntimeArguments:
    """What was asked for."""

    command: str
    address: str | None
    target: ResizeTarget
    lines: int
    help: bool

    @property
    def sized(self) -> bool:
        """Whether any size was given."""
        return self.target != type(self.target)()


def _memory(text: str) -> int:
    from heliostat._units import parse_bytes
    from heliostat.exceptions import ConfigurationError

    try:
        amount = parse_bytes(text)
    except ConfigurationError:
        amount = 0
    if amount == 0:
        message = f"{text!r} is not an amount of memory; write it like 4GiB or 512MiB"
        raise argparse.ArgumentTypeError(message)
    return amount


def _at_least(minimum: int, text: str) -> int:
    if not re.fullmatch(r"\d+", text) or int(text) < minimum:
        message = f"{text!r} is not a whole number of at least {minimum}"
        raise argparse.ArgumentTypeError(message)
    return int(text)


def _positive(text: str) -> int:
    return _at_least(1, text)


def _natural(text: str) -> int:
    return _at_least(0, text)


def _parser() -> MagicArgumentParser:
    commands = "\n".join(f"  {name:<8}  {what}" for name, what in COMMANDS.items())
    parser = MagicArgumentParser(
        "%runtime",
        usage="%%runtime [COMMAND] [OPTIONS]",
        description=f"Show or steer the Ray runtime behind this notebook.\n\ncommands:\n{commands}",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument(
        "command", nargs="?", default="status", choices=list(COMMANDS), help=argparse.SUPPRESS
    )
    parser.add_argument("address", nargs="?", help=argparse.SUPPRESS)
    sizes = parser.add_argument_group("sizes (start, restart)")
    sizes.add_argument("--cpus", type=_positive, metavar="N", help="logical CPUs in all")
    sizes.add_argument("--gpus", type=_natural, metavar="N", help="GPUs in all")
    sizes.add_argument("--memory", type=_memory, metavar="SIZE", help="memory for tasks, e.g. 8GiB")
    sizes.add_argument(
        "--object-store-memory", type=_memory, metavar="SIZE", help="shared memory for objects"
    )
    sizes.add_argument("--nodes", type=_positive, metavar="N", help="Ray nodes in all")
    others = parser.add_argument_group("other options")
    others.add_argument("-n", "--lines", type=_positive, metavar="N", help="lines to show (log; default 50)")
    others.add_argument("-h", "--help", action="store_true", help="show this text")
    return parser


def help_text() -> str:
    """What ``%runtime --help`` prints and ``%runtime?`` shows."""
    text: str = _parser().format_help()
    return text


def parse(line: str) -> RuntimeArguments:
    """Read the line after ``%runtime``.

    Raises
    ------
    UsageError
        The line cannot be understood; nothing was done.
    """
    from heliostat._messages import ResizeTarget

    given = _parser().parse_argstring(line)
    target = ResizeTarget(
        cpus=given.cpus,
        gpus=given.gpus,
        memory_bytes=given.memory,
        object_store_bytes=given.object_store_memory,
        nodes=given.nodes,
    )
    arguments = RuntimeArguments(given.command, given.address, target, given.lines or 50, given.help)
    if not arguments.help:
        _check(arguments, lines_given=given.lines is not None)
    return arguments


def _check(arguments: RuntimeArguments, *, lines_given: bool) -> None:
    """Refuse what the parser alone lets through: options of another command."""
    command = arguments.command
    if command == "attach" and arguments.address is None:
        msg = "%runtime attach needs the address of a Ray cluster, such as 10.0.0.5:6379"
        raise UsageError(msg)
    if command != "attach" and arguments.address is not None:
        msg = f"%runtime {command} takes no further word, got {arguments.address!r}"
        raise UsageError(msg)
    if arguments.sized and command not in ("start", "restart"):
        msg = f"%runtime {command} takes no sizes; %runtime restart does"
        raise UsageError(msg)
    if lines_given and command != "log":
        msg = "--lines belongs to %runtime log"
        raise UsageError(msg)
