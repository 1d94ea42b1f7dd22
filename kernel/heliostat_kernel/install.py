"""``python -m heliostat_kernel install``: tell another Jupyter about the kernel.

``pip install heliostat`` registers the kernel with the Jupyter of the same environment. This
command is for the other case, a server in one environment and the kernel in another: the
spec that it writes names this environment's Python by its full path.
"""

from __future__ import annotations

import argparse
import json
import shutil
import sys
import sysconfig
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Any

from jupyter_client.kernelspec import KernelSpecManager

from heliostat.exceptions import ConfigurationError

if TYPE_CHECKING:
    from collections.abc import Sequence

__all__ = ["install", "main", "template_directory"]

KERNEL_NAME = "heliostat"


def template_directory() -> Path:
    """Directory of the kernelspec that came with the package: of the checkout, or the wheel's.

    Raises
    ------
    ConfigurationError
        The package was installed without its data files.
    """
    candidates = (
        Path(__file__).parent.parent / "spec",
        Path(sysconfig.get_path("data")) / "share/jupyter/kernels" / KERNEL_NAME,
    )
    for candidate in candidates:
        if (candidate / "kernel.json").is_file():
            return candidate
    message = f"The kernelspec of Heliostat is not in {candidates[-1]}."
    action = "Install the package again: pip install --force-reinstall --no-deps heliostat."
    raise ConfigurationError(message, action)


def install(
    *,
    user: bool = False,
    prefix: str | None = None,
    name: str = KERNEL_NAME,
    display_name: str | None = None,
) -> Path:
    """Write the kernelspec and return its directory; an older one of that name is replaced.

    Parameters
    ----------
    user:
        Into the user's own Jupyter directory.
    prefix:
        Into ``PREFIX/share/jupyter/kernels``, for a Jupyter that is installed in ``PREFIX``.
    name, display_name:
        What the kernel is called in files and in the launcher.
    """
    template = template_directory()
    spec: dict[str, Any] = json.loads((template / "kernel.json").read_text(encoding="utf-8"))
    spec["argv"][0] = sys.executable
    if display_name:
        spec["display_name"] = display_name
    with tempfile.TemporaryDirectory() as scratch:
        staged = Path(scratch) / name
        shutil.copytree(template, staged)
        (staged / "kernel.json").write_text(json.dumps(spec, indent=2) + "\n", encoding="utf-8")
        manager = KernelSpecManager()
        where: str = manager.install_kernel_spec(str(staged), kernel_name=name, user=user, prefix=prefix)
    return Path(where)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m heliostat_kernel install",
        description="Register this environment's Heliostat kernel with a Jupyter server.",
    )
    where = parser.add_mutually_exclusive_group()
    where.add_argument("--user", action="store_true", help="for this user's Jupyter, whichever it is")
    where.add_argument("--sys-prefix", action="store_true", help=f"for the Jupyter in {sys.prefix} (default)")
    where.add_argument("--prefix", help="for the Jupyter that is installed in PREFIX")
    parser.add_argument("--name", default=KERNEL_NAME, help="name of the kernelspec (default: %(default)s)")
    parser.add_argument("--display-name", help="name in the launcher (default: Heliostat)")
    return parser


def main(arguments: Sequence[str]) -> int:
    """Run the command line; return the exit code."""
    options = _parser().parse_args(arguments)
    prefix = None if options.user else options.prefix or sys.prefix
    try:
        where = install(
            user=options.user, prefix=prefix, name=options.name, display_name=options.display_name
        )
    except (ConfigurationError, OSError) as error:
        print(f"The kernelspec was not installed: {error}", file=sys.stderr)
        return 1
    print(f"Installed the kernelspec {options.name} in {where}")
    return 0
