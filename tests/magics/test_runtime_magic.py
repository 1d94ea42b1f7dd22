"""``%runtime`` in a real kernel, from boot to stop."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from tests.kernel.support import Place, StartedKernel, new_manager

from heliostat_magics._arguments import COMMANDS

if TYPE_CHECKING:
    from collections.abc import Iterator


@pytest.fixture(scope="module", params=["heliostat", "python3"])
def kernel(place: Place, request: pytest.FixtureRequest) -> Iterator[StartedKernel]:
    """Our kernel without a runtime, and IPython's own with the extension loaded."""
    kernel = StartedKernel(new_manager(place, request.param), place.environment(), place.path)
    if request.param == "python3":
        assert kernel.run("%load_ext heliostat").status == "ok"
    yield kernel
    kernel.end()


def test_says_that_there_is_no_runtime(kernel: StartedKernel) -> None:
    """Without a runtime it says how to start one, as text and as HTML."""
    shown = kernel.run("%runtime").data[-1]
    assert shown["text/plain"] == "No runtime\nStart one with %runtime start."
    assert "%runtime start" in shown["text/html"]
    assert kernel.run("%runtime stop").stdout == "There is no runtime to stop.\n"
    assert "no runtime" in kernel.run("%runtime log").error


@pytest.mark.parametrize(
    ("line", "expected"),
    [
        ("bogus", "invalid choice: 'bogus'"),
        ("start --cpus many", "'many' is not a whole number of at least 1"),
        ("start --cpus 0", "'0' is not a whole number of at least 1"),
        ("start --gpus -1", "argument --gpus"),
        ("restart --memory lots", "'lots' is not an amount of memory"),
        ("restart --memory 0", "'0' is not an amount of memory"),
        ("restart --nope", "unrecognized arguments: --nope"),
        ("status --cpus 2", "%runtime status takes no --cpus; %runtime start and %runtime restart do"),
        ("attach", "needs the address of a Ray cluster"),
        ("start 10.0.0.5:6379", "takes no further word"),
        ("status -n 3", "%runtime status takes no --lines; %runtime log does"),
    ],
)
def test_refuses_what_it_does_not_understand(kernel: StartedKernel, line: str, expected: str) -> None:
    """Bad arguments are usage errors that name what is wrong, without a traceback."""
    outcome = kernel.run(f"%runtime {line}")
    assert outcome.error.startswith("UsageError") or "UsageError" in outcome.stderr
    assert expected in outcome.stderr + outcome.error
    assert "Traceback" not in outcome.stderr


def test_help_is_one_text(kernel: StartedKernel) -> None:
    """``--help`` and the docstring are the parser's own words."""
    text = kernel.run("%runtime --help").stdout
    assert text.startswith("usage: %runtime [COMMAND] [OPTIONS]")
    assert all(f"{name:<8}  {what}" in text for name, what in COMMANDS.items())
    documentation = kernel.reply(kernel.client.inspect("%runtime"))["content"]["data"]["text/plain"]
    assert all(f"{name:<8}  {what}" in documentation for name, what in COMMANDS.items())


@pytest.mark.parametrize(
    ("line", "expected"),
    [
        ("%runtime st", ["start", "status", "steps", "stop"]),
        ("%runtime ", sorted(COMMANDS)),
        ("%runtime restart --c", ["--cpus"]),
    ],
)
def test_completes_its_words(kernel: StartedKernel, line: str, expected: list[str]) -> None:
    """Tab offers subcommands, and the sizes where they may stand."""
    content = kernel.reply(kernel.client.complete(line))["content"]
    assert line[content["cursor_start"] : content["cursor_end"]] == line.rsplit(" ", 1)[1]
    assert sorted(content["matches"]) == expected


def test_unloads(kernel: StartedKernel) -> None:
    """Unloading takes the magic back, loading again brings one back, once."""
    assert kernel.run("%unload_ext heliostat").status == "ok"
    assert "not found" in kernel.run("%runtime").stderr
    assert kernel.run("%load_ext heliostat").status == "ok"
    count = "len(get_ipython().events.callbacks['post_run_cell'])"
    before = kernel.run(count).text
    again = "import heliostat_magics as m; m.load_ipython_extension(get_ipython())"
    assert kernel.run(again).status == "ok"
    assert kernel.run(count).text == before
    assert kernel.run("%runtime").text.startswith("No runtime")


def test_from_start_to_stop(kernel: StartedKernel) -> None:
    """Start prints its steps; status, steps and log tell; accounts are kept; stop ends it."""
    started = kernel.run("%runtime start --cpus 1")
    assert started.status == "ok", started.error
    assert " s  " in started.stdout
    assert started.text.startswith("Runtime ready for")
    assert "of 1 in use" in started.text
    assert "UsageError" in kernel.run("%runtime start --cpus 2").stderr
    shown = kernel.run("%runtime steps").data[-1]
    assert "boot\n" in shown["text/plain"]
    assert "States" in shown["text/html"]
    assert kernel.run("%runtime log -n 1").stdout.count("\n") == 1
    accounts = "import heliostat; [cell.cell_id for cell in heliostat.runtime().cells()]"
    assert "execution-" in kernel.run(accounts).text
    assert kernel.run("%runtime stop").stdout.startswith("The runtime is stopped")
    assert kernel.run("%runtime").text.startswith("No runtime")


def test_starts_again_in_the_same_process(kernel: StartedKernel) -> None:
    """After a stop the next start works, and restart changes the size."""
    assert kernel.run("%runtime start --cpus 1").text.startswith("Runtime ready")
    assert "of 2 in use" in kernel.run("%runtime restart --cpus 2").text
    assert kernel.run("import ray; ray.get(ray.remote(lambda: 1).remote())").text == "1"
    assert kernel.run("%runtime stop").status == "ok"
