"""The ``heliostat`` command: ``status``, ``cancel``, ``doctor``, ``reap``, ``collect`` and ``run``.

Exit codes: 0 done, 1 something failed (a cell, a check), 2 the command line cannot be used,
130 interrupted. Scripts that are run pass their own code on.
"""

from __future__ import annotations

import argparse
import sys
import time
from datetime import timedelta
from pathlib import Path
from typing import TYPE_CHECKING

import msgspec

import heliostat
from heliostat.exceptions import HeliostatError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from heliostat._messages.runtime import Manifest, RuntimeStatus

__all__ = ["main"]

UNKNOWN = "unknown"


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line; return the exit code."""
    given = list(sys.argv[1:] if arguments is None else arguments)
    own, passed_on = _split(given)
    parser = _parser()
    options = parser.parse_args(own)
    if passed_on and options.command != "run":
        parser.error("only heliostat run takes arguments after --")
    try:
        match options.command:
            case "status":
                return _status(as_json=options.json)
            case "doctor":
                from heliostat._doctor import doctor

                return doctor(as_json=options.json)
            case "cancel" | "reap" | "collect":
                return _do(options)
            case _:
                return _run(parser, options, passed_on)
    except HeliostatError as error:
        print(f"heliostat: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        return 130


def _split(arguments: list[str]) -> tuple[list[str], list[str]]:
    if "--" not in arguments:
        return arguments, []
    at = arguments.index("--")
    return arguments[:at], arguments[at + 1 :]


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="heliostat", description="See and use Heliostat runtimes from a terminal."
    )
    parser.add_argument("--version", action="version", version=f"heliostat {heliostat.__version__}")
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")
    status = commands.add_parser("status", help="list your runtimes that are up")
    status.add_argument("--json", action="store_true", help="print the full status as JSON")
    cancel = commands.add_parser("cancel", help="ask a training or other long work to stop")
    cancel.add_argument("id", nargs="?", help="its id or how that begins (default: the only one that runs)")
    doctor = commands.add_parser("doctor", help="check the installation and say how to mend it")
    doctor.add_argument("--json", action="store_true", help="print the checks as JSON")
    commands.add_parser("reap", help="clean up what killed runtimes left behind")
    collect = commands.add_parser("collect", help="remove what killed writers left on stages, in datasets")
    collect.add_argument("name", nargs="*", help="@stage/path or a dataset (default: all stages)")
    collect.add_argument(
        "--older-than", type=_hours, default=24.0, metavar="H", help="hours; younger files stay (default: 24)"
    )
    collect.add_argument("--dry-run", action="store_true", help="only list what would be removed")
    run = commands.add_parser("run", help="run a notebook or a script on a runtime")
    run.add_argument("file", type=Path, help="notebook.ipynb or script.py")
    where = run.add_mutually_exclusive_group()
    where.add_argument("--output", type=Path, help="executed notebook (default: NAME.out.ipynb beside it)")
    where.add_argument("--inplace", action="store_true", help="write the outputs into the notebook itself")
    run.add_argument("--timeout", type=_seconds, metavar="S", help="longest a cell, or the script, may take")
    return parser


def _seconds(text: str) -> float:
    try:
        seconds = float(text)
    except ValueError:
        seconds = 0.0
    if not 0 < seconds < float("inf"):
        message = f"{text!r} is not a number of seconds above 0"
        raise argparse.ArgumentTypeError(message)
    return seconds


def _hours(text: str) -> float:
    try:
        hours = float(text)
    except ValueError:
        hours = -1.0
    if not 0 <= hours < 24 * 36500:
        message = f"{text!r} is not a number of hours"
        raise argparse.ArgumentTypeError(message)
    return hours


def _run(parser: argparse.ArgumentParser, options: argparse.Namespace, passed_on: list[str]) -> int:
    file: Path = options.file
    if not file.is_file():
        parser.error(f"there is no file {file}")
    if file.suffix == ".ipynb":
        from heliostat._notebook_run import run_notebook

        if passed_on:
            parser.error("a notebook takes no arguments; set environment variables instead")
        beside = file.with_name(f"{file.stem}.out.ipynb")
        output = file if options.inplace else options.output or beside
        return run_notebook(file, output, options.timeout)
    if file.suffix == ".py":
        from heliostat._script_run import run_script

        if options.output or options.inplace:
            parser.error("--output and --inplace are for notebooks")
        return run_script(file, passed_on, options.timeout)
    parser.error(f"{file} is neither a notebook (.ipynb) nor a script (.py)")
    return None


def _do(options: argparse.Namespace) -> int:
    if options.command == "cancel":
        from heliostat._cancel import cancel

        done = [cancel(options.id)]
    elif options.command == "reap":
        from heliostat._supervisor.reaper import reap

        done = reap()
    else:
        from heliostat._collect import collect

        done = collect(options.name, timedelta(hours=options.older_than), dry_run=options.dry_run)
    print("\n".join(done) if done else "Nothing to clean up.")
    return 0


def _status(*, as_json: bool) -> int:
    from heliostat._supervisor.manifest import list_manifests

    found = [(manifest, _ask(manifest)) for manifest in list_manifests()]
    if as_json:
        rows = [{"manifest": manifest, "status": status} for manifest, status in found]
        print(msgspec.json.format(msgspec.json.encode(rows), indent=2).decode())
    elif found:
        _print_table([_HEADINGS, *(_row(manifest, status, time.time()) for manifest, status in found)])
    else:
        print("No runtime is up.")
    return 0


def _ask(manifest: Manifest) -> RuntimeStatus | None:
    """Return the status; ``None`` when the supervisor, though alive, does not answer."""
    from heliostat import _calls as calls
    from heliostat._client import SupervisorClient

    try:
        return SupervisorClient(Path(manifest.socket)).ask(calls.status())
    except HeliostatError:
        return None


_HEADINGS = ("ID", "STATE", "OWNER", "CPUS", "GPUS", "RAY MEMORY", "UP", "ADDRESS")


def _row(manifest: Manifest, status: RuntimeStatus | None, now: float) -> tuple[str, ...]:
    from heliostat._units import format_bytes

    resources = status.resources if status else None
    owner = manifest.owner
    return (
        manifest.runtime_id,
        status.state.value if status else "not answering",
        f"pid {owner.pid}" + (f", kernel {owner.kernel_id}" if owner.kernel_id else ""),
        f"{resources.cpus:g}" if resources else UNKNOWN,
        f"{resources.gpus:g}" if resources else UNKNOWN,
        format_bytes(resources.memory_bytes) if resources else UNKNOWN,
        f"{max(now - manifest.created_at, 0) / 60:.0f} min",
        (status.address if status else None) or UNKNOWN,
    )


def _print_table(rows: list[tuple[str, ...]]) -> None:
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
    for row in rows:
        print("  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip())
