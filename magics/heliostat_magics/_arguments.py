"""Arguments of ``%runtime``."""

from __future__ import annotations

import argparse
from dataclasses import dataclass
from typing import TYPE_CHECKING

from IPython.core.error import UsageError

from heliostat_magics._parser import MagicParser, at_least, memory_size

if TYPE_CHECKING:
    from heliostat._messages.resizing import ResizeTarget

__all__ = ["COMMANDS", "RuntimeArguments", "make_parser", "read"]

COMMANDS = {
    "status": "state, address, and what is used of what there is (the default)",
    "steps": "the same, with each step of the boot and each change of state",
    "start": "start a runtime, or wait for the one that is booting",
    "stop": "take it down; variables of the notebook stay",
    "restart": "take it down and boot it again, with other sizes if given",
    "attach": "use the Ray cluster at ADDRESS (host:port); it is never stopped from here",
    "log": "last lines of the runtime's log",
}
_SIZED = ("start", "restart")


@dataclass(frozen=True)
class RuntimeArguments:
    """What was asked for."""

    command: str
    address: str | None
    target: ResizeTarget
    lines: int

    @property
    def sized(self) -> bool:
        """Whether any size was given."""
        return self.target != type(self.target)()


def make_parser() -> MagicParser:
    """Make the parser of ``%runtime``."""
    commands = "\n".join(f"  {name:<8}  {what}" for name, what in COMMANDS.items())
    parser = MagicParser(
        "%runtime",
        "[COMMAND] [OPTIONS]",
        f"Show or steer the Ray runtime behind this notebook.\n\ncommands:\n{commands}",
    )
    parser.add("command", nargs="?", default="status", choices=list(COMMANDS), help=argparse.SUPPRESS)
    parser.add("address", nargs="?", help=argparse.SUPPRESS)
    for flag, kind, metavar, text in (
        ("--cpus", at_least(1), "N", "logical CPUs in all"),
        ("--gpus", at_least(0), "N", "GPUs in all"),
        ("--memory", memory_size, "SIZE", "memory for tasks, e.g. 8GiB"),
        ("--object-store-memory", memory_size, "SIZE", "shared memory for objects"),
        ("--nodes", at_least(1), "N", "Ray nodes in all"),
    ):
        parser.add(
            flag, type=kind, metavar=metavar, help=text, commands=_SIZED, group="sizes (start, restart)"
        )
    parser.add(
        "-n",
        "--lines",
        type=at_least(1),
        metavar="N",
        default=50,
        help="lines to show (log; default 50)",
        commands=("log",),
    )
    return parser


def read(given: argparse.Namespace) -> RuntimeArguments:
    """Check what the parser alone lets through. Raises UsageError; nothing was done."""
    from heliostat._messages.resizing import ResizeTarget

    if given.command == "attach" and given.address is None:
        msg = "%runtime attach needs the address of a Ray cluster, such as 10.0.0.5:6379"
        raise UsageError(msg)
    if given.command != "attach" and given.address is not None:
        msg = f"%runtime {given.command} takes no further word, got {given.address!r}"
        raise UsageError(msg)
    target = ResizeTarget(
        cpus=given.cpus,
        gpus=given.gpus,
        memory_bytes=given.memory,
        object_store_bytes=given.object_store_memory,
        nodes=given.nodes,
    )
    return RuntimeArguments(given.command, given.address, target, given.lines)
