"""``%resize``: change the size of the runtime behind the notebook.

Thin over ``Runtime.plan`` and ``Runtime.resize``. As light as ``runtime`` at load.
"""

from __future__ import annotations

import argparse
import shlex
from dataclasses import dataclass
from typing import TYPE_CHECKING

from IPython.core.completer import (
    CompletionContext,
    SimpleCompletion,
    SimpleMatcherResult,
    context_matcher,
)
from IPython.core.error import UsageError
from IPython.core.magic import Magics, line_magic, magics_class
from IPython.core.magic_arguments import MagicArgumentParser

if TYPE_CHECKING:
    from IPython.core.interactiveshell import InteractiveShell

    from heliostat._messages import ResizeOperation, ResizePlan, ResizeTarget

__all__ = ["ResizeMagic", "parse"]

SIZES = ("cpus", "gpus", "memory", "nodes")
FLAGS = ("--cancel", "--dry-run", "--force", "--help", "--timeout")
_NAME = "%resize"
_DEFAULT_TIMEOUT = 720.0


@dataclass(frozen=True)
class ResizeArguments:
    """What was asked for."""

    target: ResizeTarget
    dry_run: bool
    force: bool
    cancel: bool
    timeout: float
    help: bool


def _parser() -> MagicArgumentParser:
    parser = MagicArgumentParser(
        _NAME,
        usage="%%resize [cpus=N] [gpus=N] [memory=SIZE] [nodes=N] [OPTIONS]",
        description="Bring the runtime behind this notebook to another size, while work runs.\n\n"
        "Totals that are not given stay as they are. Growing starts what waited; shrinking\n"
        "waits for what is in use, and goes back to the former size after --timeout.\n\n"
        "  %%resize cpus=4             four CPUs in all\n"
        "  %%resize memory=16GiB       what tasks may reserve\n"
        "  %%resize nodes=3 --dry-run  only say what would happen",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("sizes", nargs="*", help=argparse.SUPPRESS)
    parser.add_argument("--dry-run", action="store_true", help="show the plan and change nothing")
    parser.add_argument("--force", action="store_true", help="end what is in the way instead of waiting")
    parser.add_argument("--cancel", action="store_true", help="stop the resize that runs, and go back")
    parser.add_argument(
        "--timeout",
        type=float,
        default=_DEFAULT_TIMEOUT,
        metavar="S",
        help=f"seconds after which it goes back ({_DEFAULT_TIMEOUT:g})",
    )
    parser.add_argument("-h", "--help", action="store_true", help="show this text")
    return parser


def help_text() -> str:
    """What ``%resize --help`` prints and ``%resize?`` shows."""
    text: str = _parser().format_help()
    return text


def parse(line: str) -> ResizeArguments:
    """Read the line after ``%resize``.

    Raises
    ------
    UsageError
        The line cannot be understood; nothing was done.
    """
    from heliostat._sizes import make_target
    from heliostat.exceptions import ConfigurationError

    given = _parser().parse_argstring(" ".join(shlex.quote(word) for word in shlex.split(line)))
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
    if not (sizes or given.cancel or given.help):
        msg = "%resize needs a size, such as cpus=4; %resize --help tells more"
        raise UsageError(msg)
    if sizes and given.cancel:
        msg = "%resize --cancel takes no sizes"
        raise UsageError(msg)
    return ResizeArguments(target, given.dry_run, given.force, given.cancel, given.timeout, given.help)


@magics_class
class ResizeMagic(Magics):
    """Home of ``%resize``."""

    @classmethod
    def install(cls, shell: InteractiveShell) -> None:
        """Register the magic and the completion of its words."""
        cls.resize.__doc__ = help_text()
        shell.register_magics(cls)
        shell.Completer.custom_matchers.append(_complete)

    @classmethod
    def uninstall(cls, shell: InteractiveShell) -> None:
        """Remove both."""
        shell.magics_manager.magics["line"].pop("resize", None)
        shell.Completer.custom_matchers.remove(_complete)

    @line_magic
    def resize(self, line: str) -> None:
        """Run ``%resize``; the parser's help takes the place of this text."""
        arguments = parse(line)
        if arguments.help:
            print(help_text())
            return
        import heliostat

        runtime = heliostat.runtime()
        if arguments.cancel:
            print(runtime.cancel_resize().message)
            return
        plan = runtime.plan(arguments.target)
        print(describe(plan))
        if arguments.dry_run or plan.empty:
            return
        progress = _Progress()
        operation = runtime.resize(
            arguments.target,
            rollback_after_seconds=arguments.timeout,
            force=arguments.force,
            progress=progress.show,
        )
        print(operation.message)


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


@context_matcher(identifier="heliostat.resize")  # type: ignore[untyped-decorator]
def _complete(context: CompletionContext) -> SimpleMatcherResult:
    """Offer sizes and flags that are not on the line yet."""
    line = context.line_with_cursor
    if not line.lstrip().startswith(f"{_NAME} "):
        return {"completions": []}
    *before, fragment = line.split(" ")
    offered = [f"{size}=" for size in SIZES if not any(word.startswith(f"{size}=") for word in before)]
    offered += [flag for flag in FLAGS if flag not in before]
    matching = [SimpleCompletion(text=word) for word in offered if word.startswith(fragment)]
    return {"completions": matching, "matched_fragment": fragment, "suppress": True}
