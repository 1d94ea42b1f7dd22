"""``%dataset``: versions of rows that never change, from a notebook."""

from __future__ import annotations

import argparse
from typing import TYPE_CHECKING, Any

from IPython.core.error import UsageError

from heliostat_magics._base import Magic
from heliostat_magics._format import size
from heliostat_magics._frames import columns, frames, is_frame
from heliostat_magics._grid import Grid
from heliostat_magics._parser import MagicParser

if TYPE_CHECKING:
    from heliostat_magics._parser import Scope

__all__ = ["DatasetMagic"]

_COMMANDS = {
    "list": "all datasets, or the versions of NAME (the default)",
    "create": "store rows as VERSION of NAME: --from, --query, or the SQL of a %%dataset cell",
    "show": "what NAME VERSION is, and its first rows",
    "compare": "schema and rows of NAME VERSION and OTHER",
    "delete": "remove VERSION of NAME, or all of NAME; needs --yes",
}


class DatasetMagic(Magic):
    """``%dataset`` and ``%%dataset``."""

    def parser(self, line: str) -> MagicParser:
        """Make the parser."""
        del line
        commands = "\n".join(f"  {name:<8} {what}" for name, what in _COMMANDS.items())
        parser = MagicParser(
            "%dataset",
            "[COMMAND] [NAME] [VERSION] [OTHER] [OPTIONS]",
            f"Versioned datasets: rows that are stored once and never change.\n\ncommands:\n{commands}",
        )
        create = ("create",)
        parser.add("command", nargs="?", default="list", choices=list(_COMMANDS), help=argparse.SUPPRESS)
        parser.add("name", nargs="?", help="name of the dataset", complete=_names)
        parser.add("version", nargs="?", help="name of the version", complete=_versions)
        parser.add(
            "other", nargs="?", help="the version to compare with", complete=_versions, commands=("compare",)
        )
        parser.add(
            "--from", dest="source", metavar="VARIABLE", complete=frames, commands=create, help="the rows"
        )
        parser.add("--query", metavar="SQL", commands=create, help="the rows, as a query on the session")
        parser.add(
            "--label",
            metavar="COLUMNS",
            complete=columns("--from"),
            commands=create,
            help="columns to predict",
        )
        parser.add(
            "--exclude",
            metavar="COLUMNS",
            complete=columns("--from"),
            commands=create,
            help="columns that are neither features nor labels",
        )
        parser.add("--comment", metavar="TEXT", commands=create, help="what it is")
        parser.add("--shuffle", action="store_true", commands=create, help="store the rows in random order")
        parser.add(
            "--key", metavar="COLUMNS", commands=("compare",), help="columns that say which row is which"
        )
        parser.add("--yes", action="store_true", commands=("delete",), help="really delete")
        return parser

    def run(self, arguments: argparse.Namespace, cell: str | None) -> Any:
        """Do what the command says."""
        command = arguments.command
        if cell is not None and command != "create":
            message = f"%%dataset is for create; write %dataset {command} on a line"
            raise UsageError(message)
        needed = {"list": 0, "create": 2, "show": 1, "compare": 3, "delete": 1}[command]
        given = [each for each in (arguments.name, arguments.version, arguments.other) if each is not None]
        if len(given) < needed:
            wanted = ("NAME", "VERSION", "OTHER")[:needed]
            message = f"%dataset {command} needs {' '.join(wanted)}"
            raise UsageError(message)
        if command == "create":
            return self._create(arguments, cell)
        act = {"list": _listed, "show": _show, "compare": _compare, "delete": _delete}[command]
        return act(arguments)

    def _create(self, arguments: argparse.Namespace, cell: str | None) -> None:
        from heliostat.dataset import create_from_dataframe

        rows = self._rows(arguments, cell)
        create_from_dataframe(
            None,
            arguments.name,
            arguments.version,
            rows,
            label_cols=_split(arguments.label),
            exclude_cols=_split(arguments.exclude),
            comment=arguments.comment,
            shuffle=arguments.shuffle,
        )
        row = _row(arguments.name, arguments.version)
        print(f"{arguments.name} {arguments.version}: {row['rows']:,} rows, {size(row['bytes'])}")

    def _rows(self, arguments: argparse.Namespace, cell: str | None) -> Any:
        texts = [text for text in (arguments.query, cell) if text is not None]
        if len(texts) + (arguments.source is not None) != 1:
            message = "%dataset create needs rows from one place: --from VARIABLE, --query SQL, or the cell"
            raise UsageError(message)
        if arguments.source is not None:
            value = self.namespace.get(arguments.source)
            if value is None or not is_frame(value):
                message = f"there is no table in a variable {arguments.source!r}"
                raise UsageError(message)
            return value
        from heliostat_magics._query import on_session
        from heliostat_magics._sql_text import bind, fill_in

        text, used = bind(fill_in(texts[0], self.namespace), self.namespace, lambda _, name: f"${name}")
        answer = on_session().run(text, used, self.namespace)
        if answer.rows is None:
            message = "the statement returns no rows to store"
            raise UsageError(message)
        return answer.rows


def _listed(arguments: argparse.Namespace) -> Grid:
    from heliostat.dataset import Dataset

    if arguments.name is None:
        rows = []
        for name in _all_names():
            versions = Dataset.load(None, name).list_versions()
            rows.append([name, len(versions), versions[-1] if versions else None])
        return Grid(["dataset", "versions", "latest"], rows, "" if rows else "There are no datasets yet.")
    listed: Any = Dataset.load(None, arguments.name).list_versions(detailed=True)
    head = ["version", "created_on", "rows", "files", "bytes", "label_cols", "comment"]
    rows = [[_said(each[name]) for name in head] for each in listed]
    return Grid([name.replace("_", " ") for name in head], rows)


def _show(arguments: argparse.Namespace) -> Grid:
    from heliostat.dataset import Dataset, load_dataset
    from heliostat_magics._result import preview

    if arguments.version is None:
        versions = Dataset.load(None, arguments.name).list_versions()
        if not versions:
            message = f"{arguments.name} has no version yet; %dataset create makes one"
            raise UsageError(message)
        arguments.version = versions[-1]
    found = load_dataset(None, arguments.name, str(arguments.version))
    grid = preview(found.read)
    row = _row(arguments.name, arguments.version)
    types = ", ".join(f"{field.name} {field.type}" for field in found.read.schema)
    facts = [
        f"{row['rows']:,} rows, {size(row['bytes'])} (files: {row['files']})",
        f"columns: {types}",
    ]
    if row["label_cols"]:
        facts.append(f"labels: {', '.join(row['label_cols'])}")
    if row["comment"]:
        facts.append(f"comment: {row['comment']}")
    title = f"{found.fully_qualified_name} {arguments.version}: {'; '.join(facts)}"
    return Grid(grid.columns, grid.rows, grid.note, title)


def _compare(arguments: argparse.Namespace) -> Grid:
    from heliostat.dataset import load_dataset
    from heliostat_magics._compare import compare

    before, after = (
        load_dataset(None, arguments.name, version).read.to_relation()
        for version in (arguments.version, arguments.other)
    )
    rows = compare(before, after, _split(arguments.key))
    return Grid(["what", arguments.version, arguments.other, "difference"], rows)


def _delete(arguments: argparse.Namespace) -> None:
    from heliostat.dataset import Dataset

    found = Dataset.load(None, arguments.name)
    what = f"{arguments.version} of {arguments.name}" if arguments.version else f"all of {arguments.name}"
    if arguments.version is not None:
        found.select_version(arguments.version)
    if not arguments.yes:
        versions = [arguments.version] if arguments.version else found.list_versions()
        listed = ", ".join(map(str, versions)) or "no versions"
        print(f"This would delete {what} ({listed}); add --yes to do it.")
        return
    if arguments.version is None:
        found.delete()
    else:
        found.delete_version(arguments.version)
    print(f"Deleted {what}.")


def _row(name: str, version: str) -> Any:
    from heliostat.dataset import Dataset

    listed: Any = Dataset.load(None, name).list_versions(detailed=True)
    return next(each for each in listed if each["version"] == version)


def _all_names() -> list[str]:
    from heliostat.dataset._catalog import catalog

    store = catalog()
    found: list[str] = []
    waiting = list(store.list_namespaces())
    while waiting:
        namespace = waiting.pop()
        found += [".".join(name) for name in store.list_tables(namespace)]
        waiting += [each for each in store.list_namespaces(namespace) if len(each) > len(namespace)]
    return sorted(set(found))


def _said(value: Any) -> Any:
    if isinstance(value, list):
        return ", ".join(value)
    return value.strftime("%Y-%m-%d %H:%M") if hasattr(value, "strftime") else value


def _split(text: str | None) -> list[str] | None:
    return None if text is None else [name.strip() for name in text.split(",") if name.strip()]


def _names(scope: Scope) -> list[str]:
    del scope
    return [name for full in _all_names() for name in (full.rpartition(".")[2], full)]


def _versions(scope: Scope) -> list[str]:
    from heliostat.dataset import Dataset

    return [str(version) for version in Dataset.load(None, scope.words[1]).list_versions()]
