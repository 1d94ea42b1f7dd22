"""The wheel as a user gets it, and what an import of the library costs."""

from __future__ import annotations

import json
import os
import statistics
import subprocess
import sys
import sysconfig
import tempfile
import venv
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
HEAVY = ["duckdb", "lightgbm", "numpy", "pandas", "pyarrow", "ray", "sklearn", "torch", "xgboost"]


def run(*command: str | Path, **environment: str) -> str:
    """Run a command and return all that it printed; its failure is the test's."""
    done = subprocess.run(
        [str(part) for part in command],
        env={**os.environ, **environment},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout
    return done.stdout


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The wheel of this checkout, with the lab extension that the set-up built."""
    folder = tmp_path_factory.mktemp("wheel")
    pip = [sys.executable, "-m", "pip", "wheel", "--quiet", "--no-deps", "--no-build-isolation"]
    run(*pip, "--wheel-dir", folder, ROOT, PATH=f"{Path(sys.executable).parent}:{os.environ['PATH']}")
    (found,) = folder.glob("heliostat-*.whl")
    return found


@pytest.fixture(scope="module")
def installed(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The ``bin`` of a fresh environment with the wheel in it.

    Its dependencies are those of the test's environment, whose editable install of this
    checkout is kept out: a ``.pth`` file in a directory that a ``.pth`` names is not read.
    """
    folder = tmp_path_factory.mktemp("fresh")
    venv.create(folder, symlinks=True)
    paths = {"base": str(folder), "platbase": str(folder)}
    site = Path(sysconfig.get_path("purelib", "venv", vars=paths))
    pip = [sys.executable, "-m", "pip", f"--python={folder}", "install", "--quiet", "--no-deps", "--no-index"]
    run(*pip, wheel)
    # After the wheel's own files, so that they come first.
    site.joinpath("zz_dependencies.pth").write_text(sysconfig.get_path("purelib") + "\n")
    return folder / "bin"


def test_wheel_holds_all_parts_and_nothing_else(wheel: Path) -> None:
    """The wheel has the packages, the plug-in module, lab extension, kernelspec, settings and no sources."""
    names = zipfile.ZipFile(wheel).namelist()
    data = "heliostat-0.1.0.data/data/"
    assert {name.split("/")[0] for name in names} == {
        "heliostat",
        "heliostat_kernel",
        "heliostat_lab",
        "heliostat_magics",
        "runtime_external_entities.py",
        "heliostat-0.1.0.data",
        "heliostat-0.1.0.dist-info",
    }
    wanted = {
        "etc/jupyter/jupyter_server_config.d/heliostat.json",
        "share/jupyter/kernels/heliostat/kernel.json",
        "share/jupyter/kernels/heliostat/logo-32x32.png",
        "share/jupyter/kernels/heliostat/logo-64x64.png",
        "share/jupyter/kernels/heliostat/logo-svg.svg",
        "share/jupyter/labextensions/heliostat/install.json",
        "share/jupyter/labextensions/heliostat/package.json",
        "share/jupyter/labextensions/heliostat/schemas/heliostat/runtime.json",
    }
    assert {data + name for name in wanted} <= set(names)
    assert [name for name in names if name.endswith((".ts", ".tsx", ".map", ".pyc"))] == []
    assert len([name for name in names if "static/remoteEntry" in name]) == 1


def test_install_is_all_the_set_up_there_is(installed: Path) -> None:
    """After installing the wheel alone, Jupyter lists kernel, lab extension and server extension."""
    home = str(installed.parent / "home")
    nowhere = {"JUPYTER_CONFIG_DIR": home, "JUPYTER_DATA_DIR": home}
    python = installed / "python"
    where = run(python, "-c", "import heliostat_lab, heliostat; print(heliostat.__file__)", **nowhere)
    assert Path(where.strip()).is_relative_to(installed.parent)

    kernels = run(python, "-m", "jupyter_client.kernelspecapp", "list", "--json", **nowhere)
    listed = json.loads(kernels[kernels.index("{") :])["kernelspecs"]["heliostat"]
    assert Path(listed["resource_dir"]).is_relative_to(installed.parent)

    labs = run(python, "-m", "jupyterlab.labextensions", "list", **nowhere)
    (line,) = [line for line in labs.splitlines() if "heliostat v" in line]
    assert "enabled" in line
    assert "OK" in line
    assert "(python, heliostat)" in line

    short = tempfile.mkdtemp(dir="/tmp")
    task = "import heliostat, ray; heliostat.init(cpus=1); print(ray.get(ray.remote(lambda: 6 * 7).remote()))"
    first = run(python, "-c", f"{task}; heliostat.shutdown()", **nowhere, HELIOSTAT_TMPDIR=short)
    assert first.split()[-1] == "42"

    servers = run(python, "-m", "jupyter_server.extension.serverextension", "list", **nowhere)
    lines = [line for line in servers.splitlines() if "heliostat_lab" in line]
    assert any("enabled" in line for line in lines)
    assert any("OK" in line for line in lines)


def test_import_is_quick_and_light() -> None:
    """Importing the library takes under 150 ms (median of 5) and brings in no heavy package."""
    code = (
        "import sys, time; start = time.perf_counter(); import heliostat; "
        "print(time.perf_counter() - start, [name for name in sys.argv[1:] if name in sys.modules])"
    )
    lines = [run(sys.executable, "-c", code, *HEAVY).strip().split(" ", 1) for _ in range(5)]
    assert {heavy for _, heavy in lines} == {"[]"}
    assert statistics.median(float(seconds) for seconds, _ in lines) < 0.150


def test_public_names_are_sorted_and_complete() -> None:
    """``__all__`` of the library is sorted, and each of its names can be had."""
    import heliostat

    assert list(heliostat.__all__) == sorted(heliostat.__all__)
    assert [name for name in heliostat.__all__ if not hasattr(heliostat, name)] == []
    assert set(heliostat.__all__) <= set(dir(heliostat))
