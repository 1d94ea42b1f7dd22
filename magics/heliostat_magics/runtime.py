"""``%runtime``: show and steer the Ray runtime behind the notebook.

Loaded with the extension, before the first cell of every kernel, so it is kept light: what
the magic does lies in ``_actions`` and is imported when it is used.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from IPython.core.completer import (
    CompletionContext,
    SimpleCompletion,
    SimpleMatcherResult,
    context_matcher,
)
from IPython.core.magic import Magics, line_magic, magics_class

from heliostat_magics._arguments import COMMANDS, SIZE_FLAGS, help_text, parse

if TYPE_CHECKING:
    from collections.abc import Iterable

    from IPython.core.interactiveshell import InteractiveShell

    from heliostat_magics._view import RuntimeView

__all__ = ["RuntimeMagic"]

_NAME = "%runtime"


@magics_class
class RuntimeMagic(Magics):
    """Home of ``%runtime``."""

    @classmethod
    def install(cls, shell: InteractiveShell) -> None:
        """Register the magic and the completion of its words."""
        cls.runtime.__doc__ = help_text()
        shell.register_magics(cls)
        shell.Completer.custom_matchers.append(_complete)

    @classmethod
    def uninstall(cls, shell: InteractiveShell) -> None:
        """Remove both."""
        shell.magics_manager.magics["line"].pop("runtime", None)
        shell.Completer.custom_matchers.remove(_complete)

    @line_magic
    def runtime(self, line: str) -> RuntimeView | None:
        """Run ``%runtime``; the parser's help takes the place of this text."""
        assert self.shell is not None
        arguments = parse(line)
        if arguments.help:
            print(help_text())
            return None
        from heliostat_magics._actions import act

        return act(self.shell, arguments)


@context_matcher(identifier="heliostat.runtime")  # type: ignore[untyped-decorator]
def _complete(context: CompletionContext) -> SimpleMatcherResult:
    """Offer the words that may follow; nothing else makes sense on a ``%runtime`` line."""
    line = context.line_with_cursor
    if not line.lstrip().startswith(f"{_NAME} "):
        return {"completions": []}
    *before, fragment = line.split(" ")
    words = [word for word in before if word][1:]
    offered: Iterable[str] = ()
    if not words:
        offered = COMMANDS
    elif words[0] in ("start", "restart"):
        offered = SIZE_FLAGS
    matching = [SimpleCompletion(text=word) for word in offered if word.startswith(fragment)]
    return {"completions": matching, "matched_fragment": fragment, "suppress": True}
