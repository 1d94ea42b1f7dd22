"""Resolve every extra of the project and write the pins to ``environments/*.txt``.

``make lock`` runs it. It asks pip for a resolution without installing anything.
``environments/cpu.in`` holds what the resolution must keep to; ``gpu.txt`` is the same set
with the CUDA packages of ``gpu.in`` added, because resolving those means fetching them.
"""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
import tomllib
from pathlib import Path
from typing import Any

from packaging.requirements import Requirement
from packaging.utils import canonicalize_name
from packaging.version import Version

ROOT = Path(__file__).resolve().parent.parent
EXTRAS = ("all", "bench", "demo", "test")
HEADER = """\
# Every package of heliostat[{extras}] on Python {python}, pinned. Made by `make lock`; do not edit.
# Use as constraints: pip install -c environments/{name}.txt ...
"""


def requirements_of(project: dict[str, Any], extras: tuple[str, ...]) -> list[str]:
    """List the requirements of ``project`` with ``extras``, extras of its own written out."""
    own = canonicalize_name(project["name"])
    found = set(project["dependencies"])
    waiting, seen = list(extras), set(extras)
    while waiting:
        for text in project["optional-dependencies"][waiting.pop()]:
            requirement = Requirement(text)
            if canonicalize_name(requirement.name) != own:
                found.add(text)
                continue
            waiting += requirement.extras - seen
            seen |= requirement.extras
    return sorted(found)


def resolve(requirements: list[str], constraints: Path) -> dict[str, str]:
    """Ask pip which versions fit together; nothing is installed."""
    with tempfile.TemporaryDirectory() as folder:
        report = Path(folder, "report.json")
        command = [sys.executable, "-m", "pip", "install", "--dry-run", "--ignore-installed", "--quiet"]
        command += ["--report", str(report), "--constraint", str(constraints), *requirements]
        subprocess.run(command, check=True)
        items = json.loads(report.read_text())["install"]
    # The local part of a version names one machine's build of it.
    return {canonicalize_name(i["metadata"]["name"]): Version(i["metadata"]["version"]).public for i in items}


def read_pins(file: Path) -> dict[str, str]:
    """Read ``name==version`` lines; comments and empty lines are passed over."""
    lines = (line.strip() for line in file.read_text().splitlines())
    pairs = (line.split("==") for line in lines if line and not line.startswith("#"))
    return {canonicalize_name(name): version for name, version in pairs}


def render(name: str, pins: dict[str, str]) -> str:
    """Write pins as a constraints file."""
    python = f"{sys.version_info.major}.{sys.version_info.minor}"
    lines = [f"{package}=={version}" for package, version in sorted(pins.items())]
    return HEADER.format(extras=",".join(EXTRAS), name=name, python=python) + "\n".join(lines) + "\n"


def main() -> None:
    """Write both constraint sets."""
    folder = ROOT / "environments"
    settings = tomllib.loads((ROOT / "pyproject.toml").read_text())
    requirements = requirements_of(settings["project"], EXTRAS) + settings["build-system"]["requires"]
    cpu = resolve(requirements, folder / "cpu.in")
    gpu = cpu | read_pins(folder / "gpu.in")
    folder.joinpath("cpu.txt").write_text(render("cpu", cpu))
    folder.joinpath("gpu.txt").write_text(render("gpu", gpu))


if __name__ == "__main__":
    main()
