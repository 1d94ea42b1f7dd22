"""``%resize``: change the size of the runtime behind the notebook.

Thin over ``Runtime.plan`` and ``Runtime.resize``.
"""

from __future__ import annotations

import argparse
from dataclasses import dataclass
from typing import TYPE_CHECKING

from IPython.core.error import UsageError

from heliostat_magics._base import Magic
from heliostat_magics._parser import MagicParser

if TYPE_CHECKING:
    from heliostat._messages.resizing import ResizeOperation, ResizePlan, ResizeTarget
    from heliostat_magics._parser import Scope

__all__ = ["ResizeMagic"]

SIZES = ("cpus", "gpus", "memory", "nodes")
_DEFAULT_TIMEOUT = 720.0


@dataclass(frozen=True)
class ResizeArguments:
    """What was asked for."""

    target: ResizeTarget
    dry_run: bool
    force: bool
    cancel: bool
    timeout: float


class ResizeMagic(Magic):
    """``%resize``."""

    def parser(self, line: str) -> MagicParser:
        """Make the parser."""
        del line
        parser = MagicParser(
            "%resize",
            "[cpus=N] [gpus=N] [memory=SIZE] [nodes=N] [OPTIONS]",
            "Bring the runtime behind this notebook to another size, while work runs.\n\n"
            "Totals that are not given stay as they are. Growing starts what waited; shrinking\n"
            "waits for what is in use, and goes back to the former size after --timeout.\n\n"
            "  %resize cpus=4             four CPUs in all\n"
            "  %resize memory=16GiB       what tasks may reserve\n"
            "  %resize nodes=3 --dry-run  only say what would happen",
        )
        parser.add("sizes", nargs="*", help=argparse.SUPPRESS, complete=_free_sizes)
        parser.add("--dry-run", action="store_true", help="show the plan and change nothing")
        parser.add("--force", action="store_true", help="end what is in the way instead of waiting")
        parser.add("--cancel", action="store_true", help="stop the resize that runs, and go back")
        parser.add(
            "--timeout",
            type=float,
            default=_DEFAULT_TIMEOUT,
            metavar="S",
            help=f"seconds after which it goes back ({_DEFAULT_TIMEOUT:g})",
        )
        return parser

    def run(self, arguments: argparse.Namespace, cell: str | None) -> None:
        """Show the plan, then do it with progress."""
        del cell
        wanted = read(arguments)
        import heliostat

        runtime = heliostat.runtime()
        if wanted.cancel:
            print(runtime.cancel_resize().message)
            return
        plan = runtime.plan(wanted.target)
        print(describe(plan))
        if wanted.dry_run or plan.empty:
            return
        operation = runtime.resize(
            wanted.target,
            rollback_after_seconds=wanted.timeout,
            force=wanted.force,
            progress=_Progress().show,
        )
        print(operation.message)


def read(given: argparse.Namespace) -> ResizeArguments:
    """Check what the parser alone lets through. Raises UsageError; nothing was done."""
    from heliostat._sizes import make_target
    from heliostat.exceptions import ConfigurationError

    sizes: dict[str, str] = {}
    for word in given.sizes:
        name, equals, value = word.partition("=")
        if not equals or name not in SIZES:
            msg = f"{word!r} is no size; write {', '.join(f'{size}=…' for size in SIZES)}"
            raise UsageError(msg)
        sizes[name] = value
    try:
        target = make_target(**sizes)
    except ConfigurationError as error:
        raise UsageError(str(error)) from error
    if not given.timeout > 0:
        msg = "--timeout needs seconds above 0"
        raise UsageError(msg)
    if not (sizes or given.cancel):
        msg = "%resize needs a size, such as cpus=4; %resize --help tells more"
        raise UsageError(msg)
    if sizes and given.cancel:
        msg = "%resize --cancel takes no sizes"
        raise UsageError(msg)
    return ResizeArguments(target, given.dry_run, given.force, given.cancel, given.timeout)


def _free_sizes(scope: Scope) -> list[str]:
    return [f"{size}=" for size in SIZES if not any(word.startswith(f"{size}=") for word in scope.words)]


def describe(plan: ResizePlan) -> str:
    """Say in lines what a plan does, loses and waits for."""
    if plan.empty:
        return "The runtime already has that size."
    lines = [f"- {change.text}" for change in plan.changes]
    if plan.losses.actors:
        lines.append(f"- loses {plan.losses.actors} actor(s) on nodes that go")
    lines += [f"- waits for {what}" for what in plan.waits_for]
    return "\n".join([*lines, *plan.warnings])


class _Progress:
    """Prints what a resize waits for, each thing once."""

    def __init__(self) -> None:
        self._said: list[str] = []

    def show(self, operation: ResizeOperation) -> None:
        """Tell news; called with each change of the operation."""
        if operation.waiting_for and operation.waiting_for != self._said:
            self._said = operation.waiting_for
            print(f"waiting for {'; '.join(self._said)}", flush=True)
