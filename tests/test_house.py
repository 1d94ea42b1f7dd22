"""The repository itself: what no file may hold, and what must agree with what."""

from __future__ import annotations

import json
import re
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

ROOT = Path(__file__).resolve().parent.parent
# Escaped, so that this file does not hold what it looks for.
REGISTRY = re.compile(r"registry\.(?:npmjs|yarnpkg)|files\.python[h]osted|//py[p]i\.|deb\.[d]ebian")
MACHINE_PATH = re.compile(r"(?<![\w.$}~-])/(?:home|root|work|Users)/\w")


RAY_INTERNAL = re.compile(r"ray\._(?:private|raylet|common)|ray\.core\.generated")


def test_only_the_cluster_touches_the_inside_of_ray() -> None:
    """Private names of Ray appear in the one package that is the seam to it, and nowhere else."""
    roots = ("runtime", "kernel", "magics", "labextension/heliostat_lab")
    files = [file for root in roots for file in (ROOT / root).rglob("*.py")]
    outside = [
        file for file in files if "_cluster" not in file.parts and RAY_INTERNAL.search(file.read_text())
    ]
    assert len(files) > 50
    assert outside == []


def tracked_texts() -> list[tuple[str, str]]:
    """Return path and text of every file that is, or would be, in the repository."""
    command = ["git", "ls-files", "--cached", "--others", "--exclude-standard", "-z"]
    listed = subprocess.run(command, cwd=ROOT, check=True, capture_output=True, text=True).stdout
    found = []
    for name in filter(None, listed.split("\0")):
        file = ROOT / name
        if file.is_file() and file.suffix not in (".png", ".parquet"):
            found.append((name, file.read_text()))
    return found


@pytest.mark.parametrize(("what", "pattern"), [("registry", REGISTRY), ("machine path", MACHINE_PATH)])
def test_no_file_names_a_registry_or_a_machine(what: str, pattern: re.Pattern[str]) -> None:
    """No file holds the host of a package registry or a path of somebody's machine."""
    texts = tracked_texts()
    assert len(texts) > 50
    hits = [f"{name}: {match[0]}" for name, text in texts for match in pattern.finditer(text)]
    assert hits == [], what


def test_lock_file_has_hashes_and_no_addresses() -> None:
    """The npm lock file pins every package by hash and says nothing of where it came from."""
    packages = json.loads((ROOT / "package-lock.json").read_text())["packages"]
    del packages[""]
    assert packages
    assert [name for name, entry in packages.items() if "resolved" in entry] == []
    assert [name for name, entry in packages.items() if "integrity" not in entry] == []


def test_links_between_documents_lead_somewhere() -> None:
    """Every relative link of a Markdown file names a file that exists."""
    broken: list[str] = []
    for name, text in tracked_texts():
        if not name.endswith(".md"):
            continue
        targets = [t for t in re.findall(r"\]\(([^)#\s]+)", text) if "://" not in t]
        folder = (ROOT / name).parent
        broken += [f"{name}: {target}" for target in targets if not folder.joinpath(target).exists()]
    assert broken == []


def test_versions_agree() -> None:
    """Wheel, library and lab extension carry the same version."""
    import heliostat

    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    package = json.loads((ROOT / "package.json").read_text())
    assert project["version"] == package["version"] == heliostat.__version__


def test_typescript_types_are_those_of_the_messages() -> None:
    """The generated TypeScript is what the Python messages give."""
    command = [sys.executable, str(ROOT / "scripts" / "generate_types.py"), "--check"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize("name", ["cpu", "gpu"])
def test_every_requirement_is_pinned(name: str) -> None:
    """Each requirement of each extra has a pin in the environment, and the pin satisfies it."""
    lines = (ROOT / "environments" / f"{name}.txt").read_text().splitlines()
    pins = dict(line.split("==") for line in lines if line and not line.startswith("#"))
    settings = tomllib.loads((ROOT / "pyproject.toml").read_text())
    project = settings["project"]
    texts = [*project["dependencies"], *settings["build-system"]["requires"]]
    texts += [text for extra in project["optional-dependencies"].values() for text in extra]
    requirements = [r for r in map(Requirement, texts) if r.name != project["name"]]
    assert len(requirements) > 30
    unpinned = [str(r) for r in requirements if pins.get(canonicalize_name(r.name), "") not in r.specifier]
    assert unpinned == []
