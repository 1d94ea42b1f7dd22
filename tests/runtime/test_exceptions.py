"""The exceptions: where they stand, what they carry, and how a notebook shows them."""

from __future__ import annotations

import copy
import io
import pickle
from contextlib import redirect_stdout
from typing import Any

import pytest

from heliostat import exceptions
from heliostat.exceptions import HeliostatError, error_from_body

CLASSES = [found for found in vars(exceptions).values() if isinstance(found, type)]
CLASSES = [found for found in CLASSES if issubclass(found, HeliostatError)]
each_class = pytest.mark.parametrize("cls", CLASSES, ids=lambda cls: cls.__name__)


@each_class
def test_errors_cross_process_borders(cls: type[HeliostatError]) -> None:
    """Message, action and fields survive pickling and copying, also for subclasses of OSError."""
    error = cls("It broke here.", "Mend it.", required=3, available=None, log_tail=["a", "b"])
    protocols = range(pickle.HIGHEST_PROTOCOL + 1)
    for twin in [copy.copy(error), *(pickle.loads(pickle.dumps(error, p)) for p in protocols)]:
        assert type(twin) is cls
        assert str(twin) == "It broke here. Mend it."
        assert (twin.message, twin.action, twin.fields) == (error.message, error.action, error.fields)
        assert (twin.required, twin.available, twin.log_tail) == (3, None, ["a", "b"])
        with pytest.raises(AttributeError, match="has no attribute 'unheard_of'"):
            _ = twin.unheard_of


@each_class
def test_errors_cross_ray_and_the_api(cls: type[HeliostatError]) -> None:
    """What the supervisor describes by name becomes the same class again."""
    error = error_from_body(cls.__name__, "It broke.", "Mend it.", {"required": 3})
    assert type(error) is cls
    assert (error.message, error.action, error.required) == ("It broke.", "Mend it.", 3)


@pytest.mark.parametrize(
    "name", ["SystemExit", "KeyboardInterrupt", "_rebuild", "os", "error_from_body", "Any", "", "__name__"]
)
def test_a_body_never_makes_another_class(name: str) -> None:
    """Whatever name an answer holds, only an exception of Heliostat is built."""
    error = error_from_body(name, "It broke.", "", {})
    assert type(error) is HeliostatError
    assert str(error) == "It broke."


def test_a_body_may_hold_any_facts() -> None:
    """Facts that are called as the arguments are cannot make the rebuilding fail."""
    error = error_from_body("BootError", "It broke.", "Mend it.", {"message": "x", "action": 1, "self": 2})
    assert (type(error), str(error)) == (exceptions.BootError, "It broke. Mend it.")


def test_all_is_sorted_and_whole() -> None:
    """The public names are in order, and each class is among them."""
    assert exceptions.__all__ == sorted(exceptions.__all__)
    assert {cls.__name__ for cls in CLASSES} | {"error_from_body"} == set(exceptions.__all__)


def test_the_tree_in_the_docstring_is_the_real_one() -> None:
    """Each class stands in the drawn tree below its true base, and nothing else does."""
    drawn: dict[str, str | None] = {}
    branch: list[str] = []
    for line in (exceptions.__doc__ or "").splitlines():
        name = line.lstrip(" │├└─").split(" ")[0]
        if not line.startswith("    ") or not name.endswith("Error"):
            continue
        depth = (len(line) - len(line.lstrip(" │├└─")) - 4) // 4
        branch[depth:] = [name]
        drawn[name] = branch[depth - 1] if depth else None
    real = {cls.__name__: cls.__bases__[0].__name__ for cls in CLASSES}
    assert drawn == {**real, "HeliostatError": None}


def _shown(code: str) -> str:
    """Run a cell in a real IPython shell and return what it prints."""
    from IPython.core.interactiveshell import InteractiveShell

    # IPython leaves these untyped.
    shell: Any = InteractiveShell.instance()
    printed = io.StringIO()
    try:
        with redirect_stdout(printed):
            shell.run_cell(code)
    finally:
        shell.history_manager.end_session()
        InteractiveShell.clear_instance()
    return printed.getvalue()


_CELL = """
from heliostat.exceptions import ResizeError
def deep_inside():
    raise ResizeError("No such size.", "Ask for less.")
deep_inside()
"""


def test_a_notebook_shows_sentences(monkeypatch: pytest.MonkeyPatch) -> None:
    """IPython shows class, message, action and the line of the cell, and no stack."""
    monkeypatch.delenv("HELIOSTAT_TRACEBACK", raising=False)
    shown = _shown(_CELL)
    assert 'ResizeError: No such size.\nAsk for less.\nLine 3: raise ResizeError("No' in shown
    assert "Traceback" not in shown
    assert shown.count("\n") == 3
    in_one_line = "from heliostat.exceptions import ResizeError; raise ResizeError('No such size.', '')"
    assert _shown(in_one_line) == "ResizeError: No such size.\n"


def test_the_traceback_can_be_had(monkeypatch: pytest.MonkeyPatch) -> None:
    """With HELIOSTAT_TRACEBACK=1 the stack is shown."""
    monkeypatch.setenv("HELIOSTAT_TRACEBACK", "1")
    shown = _shown(_CELL)
    assert "Traceback (most recent call last)" in shown
    assert "deep_inside" in shown
    assert "No such size." in shown
