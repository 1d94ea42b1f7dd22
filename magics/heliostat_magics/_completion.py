"""Tab for all magics of Heliostat: finds the magic that the cursor is in, and asks it."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

from IPython.core.completer import (
    CompletionContext,
    SimpleCompletion,
    SimpleMatcherResult,
    context_matcher,
)

from heliostat_magics._parser import COMMON_FLAGS, Scope, split

if TYPE_CHECKING:
    from heliostat_magics._base import Kind, Magic, Magics

__all__ = ["matcher"]

_LINE = re.compile(r"^\s*(?:[\w.,\s]+=\s*)?%(?P<name>\w+)\s(?P<rest>.*)$", re.DOTALL)
_CELL = re.compile(r"^\s*%%(?P<name>\w+)(?P<rest>[^\n]*)(?P<body>\n.*)?$", re.DOTALL)
_WORD = re.compile(r"[\w.]*$")


def matcher(magics: Magics) -> Any:
    """Return what IPython's completer calls for the magics of one shell."""

    @context_matcher(identifier="heliostat")  # type: ignore[untyped-decorator]
    def complete(context: CompletionContext) -> SimpleMatcherResult:
        try:
            return _complete(magics, context)
        except Exception:
            # Tab must never print a traceback into the notebook.
            return {"completions": []}

    return complete


def _complete(magics: Magics, context: CompletionContext) -> SimpleMatcherResult:
    lines = context.full_text.split("\n")
    before = "\n".join([*lines[: context.cursor_line], context.line_with_cursor])
    cell = _CELL.match(before)
    if cell is not None:
        magic = _magic(magics, "cell", cell["name"])
        if magic is None:
            return {"completions": []}
        if cell["body"] is not None:
            fragment = _WORD.search(cell["body"])
            scope = _scope(magic, cell["rest"].strip() + " ", fragment[0] if fragment else "")
            return _result(magic.body_offers(scope, cell["body"]), scope.fragment)
        return _on_line(magic, cell["rest"]) if cell["rest"] else {"completions": []}
    line = _LINE.match(context.line_with_cursor)
    magic = _magic(magics, "line", line["name"]) if line is not None else None
    return _on_line(magic, line["rest"]) if magic is not None and line is not None else {"completions": []}


def _magic(magics: Magics, kind: Kind, name: str) -> Magic | None:
    registration = magics.registration(kind, name)
    return None if registration is None else magics.magic(registration)


def _on_line(magic: Magic, rest: str) -> SimpleMatcherResult:
    before, _, fragment = rest.rpartition(" ")
    scope = _scope(magic, before, fragment)
    return _result([*magic.offers(scope), *_common(scope)], fragment)


def _common(scope: Scope) -> list[str]:
    return [*COMMON_FLAGS] if scope.fragment.startswith("-") and not scope.words else []


def _scope(magic: Magic, before: str, fragment: str) -> Scope:
    return Scope(magic.shell, tuple(split(before)), fragment)


def _result(offered: list[str] | None, fragment: str) -> SimpleMatcherResult:
    if offered is None:
        return {"completions": []}
    fitting = dict.fromkeys(word for word in offered if word.startswith(fragment))
    completions = [SimpleCompletion(text=word) for word in fitting]
    return {"completions": completions, "matched_fragment": fragment, "suppress": True}
