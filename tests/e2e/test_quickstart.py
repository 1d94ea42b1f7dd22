"""The quickstart, as a newcomer runs it: one command, a real kernel, a real runtime, real data."""

from __future__ import annotations

import base64
import os
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import nbformat
import pytest

from heliostat_kernel.install import install

NOTEBOOK = Path(__file__).parents[2] / "examples/quickstart.ipynb"
RESULT = re.compile(r"AUC (0\.\d{3}), accuracy (0\.\d{3}) against (0\.\d{3}) .* on 68,767 flights")


def text(cell: Any) -> str:
    """Everything that a cell printed."""
    return "".join(output["text"] for output in cell.outputs if output.output_type == "stream")


@pytest.fixture(scope="module")
def executed(tmp_path_factory: pytest.TempPathFactory) -> tuple[str, dict[str, Any]]:
    """What the command printed, and the cells of the notebook that it left, by id."""
    home = tmp_path_factory.mktemp("home")
    install(prefix=str(home))
    command = [sys.executable, "-m", "heliostat", "run", str(NOTEBOOK), "--output", str(home / "out.ipynb")]
    environment = {
        **os.environ,
        "HOME": str(home),
        "IPYTHONDIR": str(home / "ipython"),
        "JUPYTER_PATH": str(home / "share/jupyter"),
        "JUPYTER_RUNTIME_DIR": str(home / "run"),
        "HELIOSTAT_WAREHOUSE": str(home / "warehouse.duckdb"),
    }
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=170, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    notebook = nbformat.read(home / "out.ipynb", as_version=4)
    return done.stdout, {cell.id: cell for cell in notebook.cells}


def test_the_stored_notebook_is_tidy() -> None:
    """The notebook in the repository is valid, names our kernel, and has no outputs."""
    notebook = nbformat.read(NOTEBOOK, as_version=nbformat.NO_CONVERT)
    nbformat.validate(notebook)
    assert (notebook.nbformat, notebook.nbformat_minor) == (4, 5)
    assert notebook.metadata.kernelspec.name == "heliostat"
    code = [cell for cell in notebook.cells if cell.cell_type == "code"]
    assert all(not cell.outputs and cell.execution_count is None for cell in code)


@pytest.mark.timeout(240)
def test_the_command_prints_the_result(executed: tuple[str, dict[str, Any]]) -> None:
    """The last line of the notebook is what the command shows; the model beats the base rate and a coin."""
    printed, _ = executed
    found = RESULT.search(printed)
    assert found is not None, printed
    auc, accuracy, base_rate = (float(value) for value in found.groups())
    assert 0.72 < auc < 0.78
    assert base_rate < accuracy < 0.85


@pytest.mark.timeout(240)
def test_no_cell_failed_or_complained(executed: tuple[str, dict[str, Any]]) -> None:
    """Each code cell ran, without an error and with nothing on stderr."""
    _, cells = executed
    for name, cell in cells.items():
        if cell.cell_type != "code":
            continue
        assert cell.execution_count is not None, name
        kinds = [output.get("name", output.output_type) for output in cell.outputs]
        assert not {"stderr", "error"} & set(kinds), (name, cell.outputs)


@pytest.mark.timeout(240)
def test_rows_plot_and_resize_are_shown(executed: tuple[str, dict[str, Any]]) -> None:
    """All flights are loaded, the plot is a picture, and the resources differ before and after."""
    _, cells = executed
    assert "quickstart.flights: 336,776 rows" in text(cells["load"])
    pictures = [
        output.data["image/png"] for output in cells["plot"].outputs if "image/png" in output.get("data", {})
    ]
    assert len(pictures) == 1
    assert len(base64.b64decode(pictures[0])) > 20_000
    before, grown, shrunk = text(cells["resize"]).splitlines()
    assert "node-1" not in before
    assert "node-1" in grown
    assert shrunk.removeprefix("shrunk:").split() == before.removeprefix("before:").split()
