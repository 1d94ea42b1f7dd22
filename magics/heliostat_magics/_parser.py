"""Command lines of magics: how they are split, parsed, explained and completed.

A magic declares each argument once, with :meth:`MagicParser.add`; the help, the ``?`` text, the
completion and the check of which flag belongs to which command all come from that.
"""

from __future__ import annotations

import argparse
import difflib
import functools
import io
import shlex
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from IPython.core.error import UsageError
from IPython.core.magic_arguments import MagicArgumentParser

if TYPE_CHECKING:
    from IPython.core.interactiveshell import InteractiveShell

__all__ = ["COMMON_FLAGS", "MagicParser", "Offer", "Scope", "at_least", "first_word", "memory_size", "split"]

_WIDTH = 88
"""Of help: a notebook has no terminal to ask, and the reference page holds the same text."""
COMMON_FLAGS = ("--as", "--help")
"""What every magic knows, beside what it declares."""
_BRACES = {"{": "}", "[": "]"}


@dataclass(frozen=True)
class Scope:
    """What is known when a word is to be completed."""

    shell: InteractiveShell
    words: tuple[str, ...]
    """The whole words before the cursor, without the magic itself."""
    fragment: str
    """The word under the cursor, as far as it is written."""

    @property
    def namespace(self) -> Mapping[str, Any]:
        """The user's variables."""
        namespace: Mapping[str, Any] = self.shell.user_ns
        return namespace

    def value(self, *flags: str) -> str | None:
        """The word that follows one of ``flags``, if it is on the line."""
        for flag, value in zip(self.words, self.words[1:], strict=False):
            if flag in flags:
                return value
        return None


Offer = Callable[[Scope], Iterable[str]]
"""Says which words may stand somewhere; which of them fit the fragment is seen to elsewhere."""


class MagicParser(MagicArgumentParser):
    """Parser of one magic's line.

    Parameters
    ----------
    name:
        The magic with its signs: ``"%sql"`` or ``"%%sql"``.
    usage:
        What follows the name.
    description:
        What it does, as it shall be laid out; the first line is the summary.
    """

    def __init__(self, name: str, usage: str, description: str) -> None:
        super().__init__(
            name,
            usage=f"{name} {usage}".strip().replace("%", "%%"),
            description=description,
            formatter_class=functools.partial(argparse.RawDescriptionHelpFormatter, width=_WIDTH),
        )
        self.allow_abbrev = False
        self._offers: dict[str, Offer] = {}
        self._commands: dict[str, tuple[str, ...]] = {}

    def add(
        self,
        *names: str,
        complete: Offer | Iterable[str] | None = None,
        commands: tuple[str, ...] = (),
        group: str | None = None,
        **options: Any,
    ) -> None:
        """Declare an argument, as ``add_argument`` does.

        Parameters
        ----------
        complete:
            The words that Tab offers for its value; ``choices`` are offered anyway.
        commands:
            The commands (first word of the line) that it belongs to; default is all of them.
        group:
            Heading under which the help lists it.
        """
        if isinstance(options.get("help"), str) and options["help"] != argparse.SUPPRESS:
            options["help"] = options["help"].replace("%", "%%")
        action = self._group(group).add_argument(*names, **options)
        offered = complete if complete is not None else options.get("choices")
        if offered is not None:
            self._offers[action.dest] = offered if callable(offered) else _constant(offered)
        if commands:
            self._commands[action.dest] = commands

    def parse_line(self, line: str) -> argparse.Namespace:
        """Read the line after the magic. Raises UsageError, which names what is wrong."""
        words = split(line)
        self.refuse_unknown(words)
        given = self.parse_args(words)
        for action in self._actions:
            allowed = self._commands.get(action.dest)
            if allowed and getattr(given, action.dest) != action.default and given.command not in allowed:
                what = action.option_strings[-1] if action.option_strings else f"a {action.dest}"
                where = " and ".join(f"{self.prog} {command}" for command in allowed)
                does = "does" if len(allowed) == 1 else "do"
                message = f"{self.prog} {given.command} takes no {what}; {where} {does}"
                raise UsageError(message)
        return given

    def refuse_unknown(self, words: Iterable[str]) -> None:
        """Raise UsageError for a flag that is none of ours, before its value is taken for a word."""
        for word in words:
            flag = word.partition("=")[0]
            if flag.startswith("--") and flag != "--" and flag not in self._option_string_actions:
                self.error(f"unrecognized arguments: {word}")

    def error(self, message: str) -> None:  # type: ignore[override]  # it raises, as in IPython
        """Raise UsageError with the nearest flag that there is."""
        _, _, unknown = message.partition("unrecognized arguments: ")
        flag = unknown.split(" ")[0].partition("=")[0]
        near = difflib.get_close_matches(flag, {*self.flags(), *COMMON_FLAGS}, 1, 0.5)
        hint = f" (did you mean {near[0]}?)" if unknown and near else ""
        raise UsageError(f"{message}{hint}; {self.prog} --help tells more")  # noqa: EM102

    def flags(self) -> list[str]:
        """The long form of each flag."""
        return sorted(action.option_strings[-1] for action in self._actions if action.option_strings)

    def offers(self, scope: Scope) -> list[str]:
        """The words that may stand where the cursor is."""
        waiting, position = self._walk(scope.words)
        if waiting is not None:
            return self._offered(waiting, scope)
        if scope.fragment.startswith("-"):
            return self._free_flags(scope.words)
        positionals = [action for action in self._actions if not action.option_strings]
        action = positionals[min(position, len(positionals) - 1)] if positionals else None
        if action is not None and position >= len(positionals) and action.nargs not in ("*", "+"):
            action = None
        words = self._offered(action, scope) if action is not None else []
        many = action is not None and action.nargs in ("*", "+")
        return [*words, *self._free_flags(scope.words)] if many or not words else words

    def _walk(self, words: tuple[str, ...]) -> tuple[argparse.Action | None, int]:
        """Return the flag whose value is due, and how many positional words there were."""
        waiting: argparse.Action | None = None
        position = 0
        for word in words:
            if waiting is not None:
                waiting = None
                continue
            action = self._option_string_actions.get(word)
            if action is not None:
                waiting = action if action.nargs != 0 else None
            elif not word.startswith("-"):
                position += 1
        return waiting, position

    def _offered(self, action: argparse.Action, scope: Scope) -> list[str]:
        offer = self._offers.get(action.dest)
        return list(offer(scope)) if offer is not None and self._fits(action, scope.words) else []

    def _free_flags(self, words: tuple[str, ...]) -> list[str]:
        free = [
            action
            for action in self._actions
            if action.option_strings
            and not set(action.option_strings) & set(words)
            and self._fits(action, words)
        ]
        return sorted(action.option_strings[-1] for action in free)

    def _fits(self, action: argparse.Action, words: tuple[str, ...]) -> bool:
        allowed = self._commands.get(action.dest)
        return not allowed or (bool(words) and words[0] in allowed)

    def _group(self, title: str | None) -> Any:
        if title is None:
            return self
        found = next((group for group in self._action_groups if group.title == title), None)
        return found or self.add_argument_group(title)


def split(line: str) -> list[str]:
    """Split a line into words as a shell does; ``{...}`` and ``[...]`` stay whole, for JSON."""
    words: list[str] = []
    rest = line.strip()
    while rest:
        word, rest = first_word(rest)
        words.append(word)
    return words


def at_least(minimum: int) -> Callable[[str], int]:
    """Return a ``type=`` for whole numbers of at least ``minimum``."""

    def convert(text: str) -> int:
        if not text.isascii() or not text.isdigit() or int(text) < minimum:
            message = f"{text!r} is not a whole number of at least {minimum}"
            raise argparse.ArgumentTypeError(message)
        return int(text)

    return convert


def memory_size(text: str) -> int:
    """Read an amount of memory, as a ``type=``."""
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


def first_word(text: str) -> tuple[str, str]:
    """Take the first word off a line that begins with one. Raises UsageError for an open quote."""
    value = _json_word(text)
    if value:
        return value, text[len(value) :].lstrip()
    source = io.StringIO(text)
    lexer = shlex.shlex(source, posix=True, punctuation_chars=False)
    lexer.whitespace_split, lexer.commenters = True, ""
    try:
        word = lexer.get_token()
    except ValueError as error:
        message = f"{str(error).lower()} in {text!r}"
        raise UsageError(message) from error
    # The lexer has read to the first blank behind the word, which tells where the rest begins.
    return word or "", source.read().lstrip()


def _json_word(text: str) -> str:
    """The balanced ``{...}`` or ``[...]`` at the start of ``text``; empty if there is none."""
    closing, depth, quote = _BRACES.get(text[0]), 0, ""
    if closing is None:
        return ""
    for index, char in enumerate(text):
        if quote:
            quote = "" if char == quote else quote
        elif char in "'\"":
            quote = char
        elif char in (text[0], closing):
            depth += 1 if char == text[0] else -1
            if depth == 0:
                return text[: index + 1]
    return ""


def _constant(words: Iterable[str]) -> Offer:
    kept = tuple(words)
    return lambda _scope: kept
