"""The text of ``%%sql``: what of it is for the magic, what is filled in, what is bound. Pure.

``{{name}}`` becomes part of the text (a Jinja template), ``:name`` becomes a parameter, which no
value can turn into SQL. Neither is looked for in quotes or comments.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

from IPython.core.error import UsageError

from heliostat_magics._parser import first_word

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Mapping

__all__ = ["bind", "divide", "fill_in", "kind_of"]

_ASSIGNED = re.compile(r"(?P<name>[^\s<]+)\s*<<(?:\s+|$)")
_PIECES = re.compile(
    r"""(?P<skip>'(?:[^']|'')*'|"(?:[^"]|"")*"|--[^\n]*|/\*.*?\*/|\$(?P<tag>\w*)\$.*?\$(?P=tag)\$)"""
    r"""|(?P<before>^|[\s(,=<>+*/%|!-]):(?P<name>[^\W\d]\w*)""",
    re.DOTALL,
)
_COMMENTS = re.compile(r"\A(?:\s+|--[^\n]*(?:\n|\Z)|/\*.*?\*/)*", re.DOTALL)


def divide(line: str, valued: Collection[str], known: Callable[[str], bool]) -> tuple[list[str], str]:
    """Part what is for the magic from what is SQL: ``(words, sql)``.

    Parameters
    ----------
    line:
        What follows ``%sql`` or ``%%sql`` on its line.
    valued:
        Flags that take a value.
    known:
        Says of a word whether it names a connection.
    """
    words: list[str] = []
    rest = line.strip()
    connection = False
    while rest:
        assigned = _ASSIGNED.match(rest)
        if assigned is not None:
            words += ["--out", assigned["name"]]
            rest = rest[assigned.end() :]
            continue
        if rest.startswith("-") and not rest.startswith("--\t") and not rest.startswith("-- "):
            word, rest = first_word(rest)
            words.append(word)
            if word in valued and rest:
                word, rest = first_word(rest)
                words.append(word)
            continue
        word = rest.split(None, 1)[0]
        if connection or not known(word):
            break
        connection = True
        words.append(word)
        rest = rest[len(word) :].lstrip()
    return words, rest


def fill_in(text: str, variables: Mapping[str, Any]) -> str:
    """Put variables in place of ``{{name}}``. Raises UsageError for one that is not there."""
    if "{{" not in text and "{%" not in text:
        return text
    import jinja2
    from jinja2.sandbox import SandboxedEnvironment

    environment = SandboxedEnvironment(undefined=jinja2.StrictUndefined, keep_trailing_newline=True)
    try:
        filled: str = environment.from_string(text).render(variables)
    except jinja2.UndefinedError as error:
        message = f"the query needs a variable that is not there: {error.message}"
        raise UsageError(message) from error
    except jinja2.TemplateError as error:
        message = f"the template in the query cannot be read: {error}"
        raise UsageError(message) from error
    return filled


def bind(text: str, values: Mapping[str, Any], mark: Callable[[int, str], str]) -> tuple[str, dict[str, Any]]:
    """Turn each ``:name`` into a parameter; returns the text, and the values in order of first use.

    Parameters
    ----------
    mark:
        Writes a parameter, given its place among the values (from 1) and its name.

    Raises
    ------
    UsageError
        A name has no value.
    """
    used: dict[str, Any] = {}

    def replaced(match: re.Match[str]) -> str:
        if match["skip"] is not None:
            return match[0]
        name = match["name"]
        if name not in values:
            message = f":{name} has no value: there is no variable {name!r} and --params does not give it"
            raise UsageError(message)
        used.setdefault(name, _plain(values[name]))
        return match["before"] + mark(list(used).index(name) + 1, name)

    return _PIECES.sub(replaced, text), used


def kind_of(text: str) -> str:
    """First word of a statement, in upper case, behind its comments."""
    words = _COMMENTS.sub("", text).split(None, 1)
    return words[0].upper().strip("(;") if words else ""


def _plain(value: Any) -> Any:
    """A value as databases take it: NumPy's numbers become Python's."""
    item = getattr(value, "item", None)
    return item() if callable(item) and getattr(value, "ndim", None) == 0 else value
