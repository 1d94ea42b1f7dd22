"""The one base of all magics: registered by a line in a table, made when it is first used.

A magic is a class in a module of its own::

    class JobsMagic(Magic):
        def parser(self, line: str) -> MagicParser: ...
        def run(self, arguments: argparse.Namespace, cell: str | None) -> Any: ...

and a :class:`Registration` in ``heliostat_magics.MAGICS``. Loading the extension imports none of
these modules: the kernel's start is measured. Help (``--help`` and ``?``), completion, unloading,
other names (``--as``) and clashes of names are seen to here.
"""

from __future__ import annotations

import importlib
import re
from collections import ChainMap
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

from IPython.core.error import UsageError
from IPython.core.magic import MAGIC_NO_VAR_EXPAND_ATTR

if TYPE_CHECKING:
    import argparse
    from collections.abc import Callable, Iterable, Mapping, MutableMapping

    from IPython.core.interactiveshell import InteractiveShell

    from heliostat_magics._parser import MagicParser, Scope

__all__ = ["Magic", "Magics", "Registration"]

Kind = Literal["line", "cell"]

_MARK = "_heliostat_magics"
_OWN = "_heliostat_registration"


@dataclass(frozen=True)
class Registration:
    """A magic before anything of it is imported."""

    name: str
    target: str
    """``module:class``."""
    summary: str
    kinds: tuple[Kind, ...] = ("line",)
    expand: bool = True
    """Whether IPython puts the values of ``$name`` and ``{name}`` into the line first."""
    alias: str | None = None
    """A second name that is always there."""

    @property
    def other_name(self) -> str:
        """The name it has where its own is somebody else's."""
        return self.alias or f"h{self.name}"

    @property
    def sign(self) -> str:
        """The name as its help writes it: ``%%sql`` or ``%jobs``."""
        return ("%%" if self.kinds[0] == "cell" else "%") + self.name


class Magic:
    """What a magic does. One object for each shell, made at the first use."""

    def __init__(self, shell: InteractiveShell) -> None:
        self.shell = shell
        self.namespace: MutableMapping[str, Any] = shell.user_ns
        """Variables as the line sees them: those of the function it stands in, then the user's."""

    def parser(self, line: str) -> MagicParser:
        """Make the parser; ``line`` is what was written so far, where that decides which."""
        raise NotImplementedError

    def parse(self, line: str, cell: str | None) -> argparse.Namespace:
        """Read the line. Raises UsageError; nothing was done then."""
        del cell
        return self.parser(line).parse_line(line)

    def run(self, arguments: argparse.Namespace, cell: str | None) -> Any:
        """Do what was asked for and return what is to be shown; ``cell`` is ``None`` for ``%``."""
        raise NotImplementedError

    def offers(self, scope: Scope) -> list[str]:
        """The words that Tab may put where the cursor is, on the magic's line."""
        line = " ".join(scope.words)
        return self.parser(line).offers(scope)

    def body_offers(self, scope: Scope, body: str) -> list[str] | None:
        """The same inside of the cell; ``None`` leaves it to IPython."""
        del scope, body
        return None

    def help_text(self, line: str = "") -> str:
        """What ``--help`` prints and ``?`` shows."""
        text: str = _with_common_flags(self.parser(line)).format_help()
        return text

    def __call__(self, line: str, cell: str | None) -> Any:
        """Serve one use of the magic."""
        if re.search(r"(?:^|\s)(?:--help|-h)(?:\s|$)", line):
            print(self.help_text(line))
            return None
        return self.run(self.parse(line, cell), cell)


class Magics:
    """The magics of one shell."""

    def __init__(self, shell: InteractiveShell) -> None:
        self._shell = shell
        self._made: dict[str, Magic] = {}
        self._names: dict[tuple[Kind, str], Callable[..., Any]] = {}
        self._former: dict[tuple[Kind, str], Callable[..., Any]] = {}
        self._matcher: Any = None
        self._with_body = _body_giver(self)

    @classmethod
    def of(cls, shell: InteractiveShell) -> Magics | None:
        """The magics that are registered in ``shell``, if any."""
        found: Magics | None = getattr(shell, _MARK, None)
        return found

    @classmethod
    def install(cls, shell: InteractiveShell, registrations: Iterable[Registration]) -> list[str]:
        """Register all; returns a sentence for each name that somebody else has."""
        from heliostat_magics._completion import matcher

        magics = cls(shell)
        said = [sentence for each in registrations if (sentence := magics._add(each))]
        magics._matcher = matcher(magics)
        shell.Completer.custom_matchers.append(magics._matcher)
        shell.input_transformers_cleanup.append(magics._with_body)
        setattr(shell, _MARK, magics)
        return said

    def uninstall(self) -> None:
        """Take back every name that is still ours, and give back those that we took."""
        for (kind, name), function in self._names.items():
            table = self._shell.magics_manager.magics[kind]
            if table.get(name) is function:
                del table[name]
                if (kind, name) in self._former:
                    table[name] = self._former[kind, name]
        self._shell.Completer.custom_matchers.remove(self._matcher)
        self._shell.input_transformers_cleanup.remove(self._with_body)
        delattr(self._shell, _MARK)

    def registration(self, kind: Kind, name: str) -> Registration | None:
        """Which of ours answers to a name, if it is one of ours."""
        function = self._shell.magics_manager.magics[kind].get(name)
        found: Registration | None = getattr(function, _OWN, None)
        return found

    def magic(self, registration: Registration) -> Magic:
        """The magic itself, imported and made now if it was not used before."""
        if registration.name not in self._made:
            module, _, name = registration.target.partition(":")
            self._made[registration.name] = getattr(importlib.import_module(module), name)(self._shell)
        return self._made[registration.name]

    def take(self, registration: Registration, name: str) -> None:
        """Have ``name`` answered by a magic of ours, whoever had it before."""
        for kind in registration.kinds:
            function = self._function(registration, name)
            former = self._shell.magics_manager.magics[kind].get(name)
            if former is not None and getattr(former, _OWN, None) is None:
                self._former[kind, name] = former
            self._shell.magics_manager.register_function(function, magic_kind=kind, magic_name=name)
            self._names[kind, name] = function

    def _add(self, registration: Registration) -> str:
        tables = self._shell.magics_manager.magics
        taken = [kind for kind in registration.kinds if registration.name in tables[kind]]
        if registration.alias is not None:
            self.take(registration, registration.alias)
        if not taken:
            self.take(registration, registration.name)
            return ""
        if registration.alias is None:
            self.take(registration, registration.other_name)
        signs = "%%" if "cell" in taken else "%"
        theirs = tables[taken[0]][registration.name]
        return (
            f"{signs}{registration.name} stays with {_origin(theirs)}; Heliostat's is"
            f" {signs}{registration.other_name}, and"
            f" %{registration.other_name} --as {registration.name} gives it the name."
        )

    def _function(self, registration: Registration, name: str) -> Callable[..., Any]:
        """What IPython calls: a plain function, so that ``?`` and ``%lsmagic`` read well."""

        def function(line: str, cell: str | None = None, local_ns: Mapping[str, Any] | None = None) -> Any:
            new_name = _new_name(line)
            if new_name is not None:
                self.take(registration, new_name)
                print(f"{registration.sign} of Heliostat answers to {new_name} now.")
                return None
            magic = self.magic(registration)
            user = self._shell.user_ns
            inside = local_ns is not None and local_ns is not user
            magic.namespace = ChainMap(dict(local_ns), user) if inside and local_ns is not None else user
            return magic(line, cell)

        function.__name__ = function.__qualname__ = name
        function.__doc__ = registration.summary
        extra: Any = function
        extra.getdoc = lambda: self.magic(registration).help_text()
        extra.needs_local_scope = True
        setattr(function, _OWN, registration)
        if not registration.expand:
            setattr(function, MAGIC_NO_VAR_EXPAND_ATTR, True)
        return function


def _body_giver(magics: Magics) -> Callable[[list[str]], list[str]]:
    """Give ``%%name --help`` that stands alone a body: without one IPython does not ask us."""

    def with_body(lines: list[str]) -> list[str]:
        name = lines[0][2:].split(maxsplit=1) if len(lines) == 1 and lines[0].startswith("%%") else []
        return [*lines, "\n"] if name and magics.registration("cell", name[0]) else lines

    # A terminal that asks whether a cell is complete shall go on to wait for its body.
    with_body.has_side_effects = True  # type: ignore[attr-defined]
    return with_body


def _new_name(line: str) -> str | None:
    """The name that ``--as NAME`` asks for. Raises UsageError."""
    if not re.match(r"--as(?:\s|=|$)", line.strip()):
        return None
    name = line.strip().removeprefix("--as").strip(" =")
    if not name.isidentifier():
        message = f"--as needs the name that the magic shall have, got {name!r}"
        raise UsageError(message)
    return name


def _with_common_flags(parser: MagicParser) -> MagicParser:
    parser.add("--as", metavar="NAME", help="have the magic answer to NAME as well, and do nothing else")
    parser.add("-h", "--help", action="store_true", help="show this text")
    return parser


def _origin(function: Any) -> str:
    """Whose a magic is, as the user would know it."""
    owner = getattr(function, "__self__", function)
    module = getattr(owner, "__module__", None) or type(owner).__module__
    return f"{module.partition('.')[0]} ({module})" if "." in module else str(module)
