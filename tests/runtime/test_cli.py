"""The ``heliostat`` command, run as people run it."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
from typing import TYPE_CHECKING, Any

import nbformat
import pytest
from tests.kernel.support import Place, wait_until

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

SECONDS = 90


@pytest.fixture
def place() -> Iterator[Place]:
    """A home of its own."""
    place = Place()
    yield place
    place.remove()


def environment(place: Place, **more: str) -> dict[str, str]:
    """Environment in which kernels boot runtimes."""
    return place.environment(**{"HELIOSTAT_AUTOSTART": "1", **more})


def heliostat(place: Place, *arguments: str, **more: str) -> subprocess.CompletedProcess[str]:
    """Run the command to its end."""
    return subprocess.run(
        [sys.executable, "-m", "heliostat", *arguments],
        env=environment(place, **more),
        cwd=place.path,
        capture_output=True,
        text=True,
        timeout=SECONDS,
        check=False,
    )


def write_notebook(path: Path, *cells: str) -> Path:
    """Write a notebook of code cells."""
    notebook = nbformat.v4.new_notebook()  # type: ignore[no-untyped-call]
    notebook.cells = [nbformat.v4.new_code_cell(cell) for cell in cells]  # type: ignore[no-untyped-call]
    nbformat.write(notebook, path)  # type: ignore[no-untyped-call]
    return path


def outputs(path: Path) -> list[list[dict[str, Any]]]:
    """Outputs of each cell of a notebook file."""
    return [cell["outputs"] for cell in json.loads(path.read_text())["cells"]]


class TestNotebook:
    """``heliostat run notebook.ipynb``."""

    def test_runs_on_the_runtime(self, place: Place) -> None:
        """Cells use Ray; the last result is printed and the notebook lies beside its source."""
        source = write_notebook(
            place.path / "good.ipynb",
            "import ray; x = ray.get(ray.remote(lambda: 42).remote())",
            "print('hi')\nx",
        )
        before = source.read_bytes()
        done = heliostat(place, "run", "good.ipynb")
        assert done.returncode == 0, done.stderr
        assert done.stdout == "hi\n42\nExecuted notebook: good.out.ipynb\n"
        assert outputs(place.path / "good.out.ipynb")[1][1]["data"]["text/plain"] == ["42"]
        assert source.read_bytes() == before

    def test_failing_cell_is_kept_and_told(self, place: Place) -> None:
        """A cell that fails ends the run with 1; everything up to it is saved."""
        write_notebook(place.path / "bad.ipynb", "print('first')", "1/0", "print('never')")
        done = heliostat(place, "run", "bad.ipynb", "--inplace")
        assert done.returncode == 1
        assert "ZeroDivisionError: division by zero" in done.stderr
        first, failed, never = outputs(place.path / "bad.ipynb")
        assert first[0]["text"] == ["first\n"]
        assert failed[-1]["ename"] == "ZeroDivisionError"
        assert never == []

    def test_timeout_is_for_each_cell(self, place: Place) -> None:
        """A cell over the limit ends the run; what it printed is kept."""
        write_notebook(place.path / "slow.ipynb", "print('begun', flush=True)\nimport time; time.sleep(60)")
        done = heliostat(place, "run", "slow.ipynb", "--timeout", "3", "--output", "out.ipynb")
        assert done.returncode == 1
        assert "--timeout" in done.stderr
        assert outputs(place.path / "out.ipynb")[0][0]["text"] == ["begun\n"]

    def test_interrupt_keeps_the_outputs(self, place: Place) -> None:
        """Ctrl-C interrupts the cell, and the notebook is saved with its traceback."""
        begun = place.path / "begun"
        cells = (
            f"import time\nprint('kept')\nopen({str(begun)!r}, 'w').close()\ntime.sleep(60)",
            "print('never')",
        )
        write_notebook(place.path / "long.ipynb", *cells)
        process = subprocess.Popen(
            [sys.executable, "-m", "heliostat", "run", "long.ipynb"],
            env=environment(place),
            cwd=place.path,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        wait_until(begun.exists, 60, "the cell runs")
        process.send_signal(signal.SIGINT)
        assert process.wait(30) == 130
        stopped, never = outputs(place.path / "long.out.ipynb")
        assert stopped[0]["text"] == ["kept\n"]
        assert "KeyboardInterrupt" in [shown.get("ename") for shown in stopped], stopped
        assert never == []

    def test_dead_kernel_keeps_the_outputs(self, place: Place) -> None:
        """A kernel that dies ends the run with 1, and the cells before it are saved."""
        write_notebook(place.path / "dies.ipynb", "print('kept')", "import os; os._exit(1)")
        done = heliostat(place, "run", "dies.ipynb", HELIOSTAT_AUTOSTART="0")
        assert done.returncode == 1
        assert "The kernel died." in done.stderr
        assert outputs(place.path / "dies.out.ipynb")[0][0]["text"] == ["kept\n"]

    def test_refuses_before_it_works(self, place: Place) -> None:
        """What cannot be read or written is told before a kernel is started."""
        write_notebook(place.path / "good.ipynb", "1")
        (place.path / "broken.ipynb").write_text("{")
        unwritable = heliostat(place, "run", "good.ipynb", "--output", "/proc/nowhere/out.ipynb")
        assert unwritable.returncode == 1
        assert "--output" in unwritable.stderr
        unreadable = heliostat(place, "run", "broken.ipynb")
        assert unreadable.returncode == 1
        assert "is not a readable notebook" in unreadable.stderr


class TestScript:
    """``heliostat run script.py``."""

    def test_runs_like_python(self, place: Place) -> None:
        """Arguments, module path, ``__main__`` and exit code are the script's; Ray is there."""
        (place.path / "helper.py").write_text("VALUE = 5\n")
        (place.path / "script.py").write_text(
            "import sys, ray, helper\n"
            "@ray.remote\n"
            "def add(x): return x + helper.VALUE\n"
            "print(sys.argv[1:], __name__, ray.get(add.remote(1)))\n"
            "sys.exit(3)\n"
        )
        done = heliostat(place, "run", "script.py", "--", "a", "--output")
        assert (done.stdout, done.returncode) == ("['a', '--output'] __main__ 6\n", 3), done.stderr
        assert heliostat(place, "status").stdout == "No runtime is up.\n"

    def test_error_is_the_scripts_own(self, place: Place) -> None:
        """A failing script exits with 1 and shows its own frames, none of ours."""
        (place.path / "fails.py").write_text("def f(): 1/0\nf()\n")
        done = heliostat(place, "run", "fails.py")
        assert done.returncode == 1
        assert "ZeroDivisionError" in done.stderr
        assert "_script_run" not in done.stderr


def test_status_lists_what_is_up(place: Place) -> None:
    """A runtime of another process is listed with its owner, as a table and as JSON."""
    code = "import heliostat, sys; heliostat.init(cpus=1); print('up', flush=True); sys.stdin.read()"
    with subprocess.Popen(
        [sys.executable, "-c", code],
        env=environment(place),
        cwd=place.path,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    ) as owner:
        assert owner.stdout is not None
        assert owner.stdout.readline() == "up\n"
        mine = [line for line in heliostat(place, "status").stdout.splitlines() if f"pid {owner.pid}" in line]
        assert len(mine) == 1
        assert mine[0].split()[1] == "ready"
        rows = json.loads(heliostat(place, "status", "--json").stdout)
        (row,) = (row for row in rows if row["manifest"]["owner"]["pid"] == owner.pid)
        assert row["status"]["resources"]["cpus"] == 1
        owner.communicate("")


def test_reap_cleans_after_a_killed_supervisor(place: Place) -> None:
    """What a killed supervisor left is removed and named; a second reap finds nothing of it."""
    code = (
        "import heliostat, os, signal, time; r = heliostat.init(cpus=1); s = r.status()\n"
        "print(s.runtime_id, flush=True); os.kill(s.supervisor_pid, signal.SIGKILL); os._exit(0)"
    )
    owner = subprocess.run(
        [sys.executable, "-c", code],
        env=environment(place),
        capture_output=True,
        text=True,
        timeout=60,
        check=True,
    )
    runtime_id = owner.stdout.strip()
    assert runtime_id in heliostat(place, "reap").stdout
    assert runtime_id not in heliostat(place, "reap").stdout


class TestDoctor:
    """``heliostat doctor``."""

    def test_names_every_check(self, place: Place) -> None:
        """Each check has a level and a detail; what is not well has an action."""
        findings = json.loads(heliostat(place, "doctor", "--json").stdout)
        by_name = {finding["check"]: finding for finding in findings}
        for name in (
            "Python",
            "Ray",
            "kernel",
            "loopback",
            "GPUs",
            "disk",
            "shared memory",
            "private directory",
        ):
            assert name in by_name
        for name in ("Python", "kernel", "loopback", "private directory", "runtime directory"):
            assert by_name[name]["level"] == "ok", by_name[name]
        assert all(finding["action"] for finding in findings if finding["level"] != "ok")

    def test_fails_where_nothing_can_be_written(self, place: Place) -> None:
        """A runtime directory that cannot be made fails, with the variable to set."""
        done = heliostat(place, "doctor", JUPYTER_RUNTIME_DIR="/proc/nowhere")
        assert done.returncode == 1
        (line,) = (line for line in done.stdout.splitlines() if line.startswith("fail  runtime directory"))
        assert "/proc/nowhere" in line
        assert "JUPYTER_RUNTIME_DIR" in done.stdout


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        ((), "required: COMMAND"),
        (("run", "nothing.ipynb"), "there is no file nothing.ipynb"),
        (("run", "run"), "there is no file run"),
        (("run", "share"), "there is no file share"),
        (("status", "--", "x"), "only heliostat run takes arguments after --"),
        (("run", "x.py", "--timeout", "-1"), "'-1' is not a number of seconds above 0"),
    ],
)
def test_usage_errors(place: Place, arguments: tuple[str, ...], expected: str) -> None:
    """A command line that cannot be used exits with 2 and says what is wrong with it."""
    done = heliostat(place, *arguments)
    assert done.returncode == 2
    assert expected in done.stderr
