"""``%connections``: databases by name, and the connectors of the notebook."""

from __future__ import annotations

import argparse
from typing import TYPE_CHECKING, Any

from IPython.core.error import UsageError

from heliostat_magics._base import Magic
from heliostat_magics._grid import Grid
from heliostat_magics._parser import MagicParser
from heliostat_magics._secrets import refuse_password

if TYPE_CHECKING:
    from heliostat_magics._parser import Scope

__all__ = ["ConnectionsMagic"]

_COMMANDS = {
    "list": "databases by name, and connectors among the variables (the default)",
    "add": "keep a database as NAME; without URI, it is asked for where nobody sees it",
    "test": "open the database NAME, and close it",
    "remove": "forget NAME",
}
_NAMED = ("add", "test", "remove")


class ConnectionsMagic(Magic):
    """``%connections``."""

    def parser(self, line: str) -> MagicParser:
        """Make the parser."""
        del line
        commands = "\n".join(f"  {name:<7} {what}" for name, what in _COMMANDS.items())
        parser = MagicParser(
            "%connections",
            "[COMMAND] [NAME] [URI]",
            "Databases by name, for %%sql NAME. Passwords are never shown.\n\ncommands:\n"
            f"{commands}\n\nA password does not belong into a cell, which is saved with the notebook:\n"
            "leave URI out, or write ${VARIABLE} where the password stands.",
        )
        parser.add("command", nargs="?", default="list", choices=list(_COMMANDS), help=argparse.SUPPRESS)
        parser.add("name", nargs="?", help="name of a connection", complete=_names, commands=_NAMED)
        parser.add("uri", nargs="?", help="postgresql://user@host/db or sqlite:///path", commands=("add",))
        parser.add("--replace", action="store_true", help="replace one that is there", commands=("add",))
        return parser

    def run(self, arguments: argparse.Namespace, cell: str | None) -> Any:
        """Do what the command says."""
        del cell
        if arguments.command == "list":
            return self._listed()
        if arguments.name is None:
            message = f"%connections {arguments.command} needs the name of a connection"
            raise UsageError(message)
        from heliostat import _connections

        if arguments.command == "remove":
            _connections.remove(arguments.name)
            print(f"{arguments.name} is forgotten.")
        elif arguments.command == "test":
            _connections.connect(arguments.name).close()
            print(f"{arguments.name} can be opened.")
        else:
            added = _connections.add(arguments.name, self._uri(arguments), replace=arguments.replace)
            print(f"{added.name}: {added.shown}")
        return None

    def _uri(self, arguments: argparse.Namespace) -> str:
        uri: str | None = arguments.uri
        if uri is None:
            from getpass import getpass

            return getpass(f"URI of {arguments.name}: ").strip()
        refuse_password(uri)
        return uri

    def _listed(self) -> Grid:
        from heliostat._connections import connections

        rows = [[name, each.kind, each.shown, each.origin] for name, each in connections().items()]
        for name, value in sorted(self.shell.user_ns.items()):
            kinds = [kind.__name__ for kind in type(value).__mro__]
            if "DataConnector" in kinds and not name.startswith("_"):
                rows.append([name, "connector", ", ".join(value.columns), "variable"])
        note = "" if rows else "There are none yet: %connections add NAME, %connect NAME SOURCE."
        return Grid(["name", "kind", "what", "from"], rows, note)


def _names(scope: Scope) -> list[str]:
    from heliostat._connections import connections

    return list(connections())
