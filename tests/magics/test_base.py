"""What all magics have in common: names, help, flags and completion."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from IPython.core.error import UsageError
from IPython.core.magic import Magics as IPythonMagics
from IPython.core.magic import line_cell_magic, magics_class
from tests.kernel.support import Place, StartedKernel, new_manager
from tests.magics.support import Cells

from heliostat_magics._base import Magics
from heliostat_magics._modes import MODES
from heliostat_magics._parser import split
from heliostat_magics._table import MAGICS

if TYPE_CHECKING:
    from heliostat_magics._base import Registration


@magics_class
class TheirMagic(IPythonMagics):
    """What JupySQL registers: a bound method of its module, for the line and the cell."""

    @line_cell_magic("sql")  # type: ignore[arg-type]
    def execute(self, line: str, cell: str = "") -> str:
        """Say whose it is."""
        return f"theirs {line}{cell}"


def test_a_name_that_is_taken_is_left_and_said(capsys: pytest.CaptureFixture[str]) -> None:
    """Ours comes under another name, says so, takes the name when asked, and gives it back in the end."""
    cells = Cells(capsys)
    TheirMagic.__module__ = "sql.magic"
    cells.shell.register_magics(TheirMagic)
    cells.shell.magics_manager.register_function(lambda line: f"theirs {line}", "line", "runtime")
    said = cells.load()
    assert "%%sql stays with sql (sql.magic); Heliostat's is %%hsql, and %hsql --as sql" in said
    assert "%runtime stays with " in said
    assert "Heliostat's is %hruntime" in said
    assert cells.run("%%sql\nSELECT 1").result == "theirs SELECT 1\n"
    assert cells.run("%runtime x").result == "theirs x"
    assert "1 row." in repr(cells.run("%hsql SELECT 1 AS a").result._repr_mimebundle_())
    assert "No runtime" in repr(cells.run("%hruntime").result)
    assert "answers to runtime now" in cells.run("%hruntime --as runtime").stdout
    assert "No runtime" in repr(cells.run("%runtime").result)
    assert isinstance(cells.run("%runtime --as 3x").error, UsageError)
    cells.close()
    assert cells.run("%runtime x").result == "theirs x"
    tables = cells.shell.magics_manager.magics
    assert not {"hruntime", "resize", "hsql"} & set(tables["line"])


def test_an_interrupt_of_our_code_shows_the_lines_of_the_cell(
    cells: Cells, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whoever presses Stop while we wait sees where the cell was, and our stack only when asked for."""
    waits = (
        "import signal\nfrom heliostat import _progress\n"
        "with _progress.task('test', 'waits') as task:\n"
        "    task.on_cancel(lambda: signal.raise_signal(signal.SIGINT))\n"
        "    task.cancel()"
    )
    shown = cells.run(waits).stdout
    assert shown.rstrip().endswith("KeyboardInterrupt:")
    assert "task.cancel()" in shown
    assert "_progress.py" not in shown
    monkeypatch.setenv("HELIOSTAT_TRACEBACK", "1")
    assert "_progress.py" in cells.run(waits).stdout


@pytest.mark.parametrize(
    ("registration", "mode"),
    [(each, mode) for each in MAGICS for mode in (MODES if each.name == "distribute" else [""])],
    ids=lambda each: each if isinstance(each, str) else each.name,
)
def test_help_is_complete(cells: Cells, registration: Registration, mode: str) -> None:
    """``--help``, ``?`` and the reference page are one text that names every flag and command."""
    magics = Magics.of(cells.shell)
    assert magics is not None
    magic = magics.magic(registration)
    text = magic.help_text(mode)
    assert text.startswith(f"usage: {registration.sign} {mode}".rstrip())
    parser = magic.parser(mode)
    words = [*parser.flags(), *(getattr(sys.modules[type(magic).__module__], "_COMMANDS", ()))]
    assert [word for word in words if not re.search(rf"{word}\b", text)] == []
    assert not [line for line in text.splitlines() if len(line) > 100]
    assert cells.run(f"{registration.sign} {mode} --help").stdout == f"{text}\n"
    function = cells.shell.magics_manager.magics[registration.kinds[0]][registration.name]
    assert function.__doc__ == registration.summary
    assert mode or function.getdoc() == text
    page = (Path(__file__).resolve().parents[2] / "docs" / "magics.md").read_text()
    assert f"```text\n{text.rstrip()}\n```" in page
    wrong = cells.run(f"{registration.sign} {mode} --hepl")
    assert isinstance(wrong.error, UsageError)
    assert "did you mean --help?" in str(wrong.error)


def test_the_nearest_flag_is_named(cells: Cells) -> None:
    """A flag that is misspelt is refused with the one that was meant."""
    ran = cells.run("%resize cpus=2 --dry-rum")
    assert isinstance(ran.error, UsageError)
    assert "did you mean --dry-run?" in str(ran.error)
    assert "%resize --help tells more" in str(ran.error)


@pytest.mark.parametrize(
    ("line", "words"),
    [
        ('a "b c" --x', ["a", "b c", "--x"]),
        ('--params {\'a\': 1, "b": {"c": 2}} -n 3', ["--params", '{\'a\': 1, "b": {"c": 2}}', "-n", "3"]),
        ("name << rest", ["name", "<<", "rest"]),
        ("C:\\\\x #tag", ["C:\\x", "#tag"]),
        ("", []),
    ],
)
def test_lines_are_split_as_a_shell_does(line: str, words: list[str]) -> None:
    """Quotes group, JSON needs none, and nothing is a comment."""
    assert split(line) == words


def test_an_open_quote_is_a_usage_error() -> None:
    """A quote that is not closed is refused in words."""
    with pytest.raises(UsageError, match="no closing quotation"):
        split('a "b')


def test_completion_knows_commands_flags_and_assignments(cells: Cells) -> None:
    """Tab offers what may stand there, behind ``x = %`` too, and leaves other lines alone."""
    assert cells.complete("%runtime st") == ["start", "status", "steps", "stop"]
    assert cells.complete("view = %runtime restart --c") == ["--cpus"]
    assert "--lines" not in cells.complete("%runtime start -")
    assert cells.complete("%resize cpus=2 ")[:3] == ["gpus=", "memory=", "nodes="]
    assert "--as" in cells.complete("%resize --")
    assert "cpus=" not in cells.complete("x = 1; ")


def test_loading_imports_no_magic() -> None:
    """The extension loads without the modules of its magics, so the kernel starts as fast as before."""
    code = (
        "import sys; from IPython.core.interactiveshell import InteractiveShell as S; s = S();"
        "import heliostat_magics as m; m.load_ipython_extension(s);"
        "print([n for n in sys.modules if n.startswith('heliostat_magics.') and not '._' in n])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_tab_and_question_mark_in_a_kernel() -> None:
    """A real kernel's complete_request offers flags, names, columns and connections; ``?`` shows the help."""
    place = Place()
    environment = place.environment(HELIOSTAT_CONNECTION_SALES="sqlite:///nowhere.db")
    kernel = StartedKernel(new_manager(place), environment, place.path)
    try:
        kernel.run("import pyarrow as pa; flights = pa.table({'origin': ['JFK'], 'delay': [1]})")
        for line, offered in {
            "%%sql --ex": ["--explain"],
            "%%sql sal": ["sales"],
            "%%sql\nSELECT * FROM fli": ["flights"],
            "%%sql\nSELECT flights.or": ["flights.origin"],
            "%connect c fl": ["flights"],
            "%connect c t --connection ": ["sales"],
            "%dataset create a b --from flights --label ": ["delay", "origin"],
            "%%distribute xgboost --data flights --label de": ["delay"],
            "%resources --by ": ["cell", "job", "node", "rank"],
            "%connections te": ["test"],
            "%%distribute --gra": ["--grace"],
            "%push fl": ["flights"],
        }.items():
            matches = kernel.reply(kernel.client.complete(line, len(line)))["content"]["matches"]
            assert sorted(matches) == offered, line
        for name in ("%sql", "%jobs", "%%distribute"):
            shown = kernel.reply(kernel.client.execute(f"{name}?"))["content"]["payload"][0]["data"]
            assert "usage: %" in shown["text/plain"]
    finally:
        kernel.end()
        place.remove()
