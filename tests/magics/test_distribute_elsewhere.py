"""``%%distribute`` without our kernel: in plain IPython, and under nbclient."""

from __future__ import annotations

import subprocess
import sys
from typing import TYPE_CHECKING

import nbclient
import nbformat
import pytest
from nbclient.exceptions import CellExecutionError

if TYPE_CHECKING:
    from pathlib import Path

_SCRIPT = """
%load_ext heliostat
%ranks start -n 2
get_ipython().run_cell_magic("distribute", "", "print('same')\\nrank * 2")
"""


def test_plain_ipython_shows_text(tmp_path: Path) -> None:
    """In a terminal's IPython, output of ranks is plain text."""
    script = tmp_path / "cells.ipy"
    script.write_text(_SCRIPT)
    command = [sys.executable, "-m", "IPython", "--no-banner", "--colors=NoColor", str(script)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=90, check=False)
    assert done.stdout.endswith("[ranks 0-1] same\n[rank 0] 0\n[rank 1] 2\n"), done.stdout + done.stderr


@pytest.mark.filterwarnings("ignore::ResourceWarning")
def test_nbclient_stops_at_the_cell_that_fails() -> None:
    """Run-All ends where a rank failed, and the notebook has the output of the cells before."""
    sources = [
        "%load_ext heliostat\n%ranks start -n 2",
        "%%distribute\nrank",
        "%%distribute\n1/0",
        "print(1)",
    ]
    notebook = nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell(each) for each in sources])
    with pytest.raises(CellExecutionError, match="ZeroDivisionError"):
        nbclient.NotebookClient(notebook, kernel_name="python3", timeout=90).execute()
    shown = ["".join(output.get("text", "") for output in cell.outputs) for cell in notebook.cells]
    assert shown[1] == "[rank 0] 0\n[rank 1] 1\n"
    assert notebook.cells[3].outputs == []
