"""``%resize`` in a real kernel."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

import pytest
from tests.kernel.support import Place, StartedKernel, new_manager

if TYPE_CHECKING:
    from collections.abc import Iterator


@pytest.fixture(scope="module")
def kernel(place: Place) -> Iterator[StartedKernel]:
    """A kernel with a runtime of one CPU that may have four."""
    environment = place.environment(HELIOSTAT_MAX_CPUS="4")
    kernel = StartedKernel(new_manager(place), environment, place.path)
    kernel.run("%runtime start --cpus 1", timeout=90)
    yield kernel
    kernel.end()


def test_grows_and_shrinks(kernel: StartedKernel) -> None:
    """The plan is printed, then done; Ray has the new size."""
    shown = kernel.run("%resize cpus=2 nodes=2")
    assert shown.error == ""
    assert "adds 1 node of 1 CPU" in shown.stdout
    assert "has the size that was asked for" in shown.stdout
    assert kernel.run("import ray; ray.cluster_resources()['CPU']").text == "2.0"
    assert "drains node" in kernel.run("%resize nodes=1 cpus=1").stdout
    assert kernel.run("ray.cluster_resources()['CPU']").text == "1.0"


def test_dry_run_changes_nothing(kernel: StartedKernel) -> None:
    """A dry run prints the plan and leaves the runtime alone; the plan's own command works."""
    assert kernel.run("%resize cpus=3 --dry-run").stdout == "- adds 2 CPUs\n"
    assert kernel.run("ray.cluster_resources()['CPU']").text == "1.0"
    command = kernel.run("import heliostat; heliostat.runtime().plan(cpus=3).command").text.strip("'")
    assert kernel.run(command).error == ""
    assert kernel.run("ray.cluster_resources()['CPU']").text == "3.0"
    assert kernel.run(command).stdout == "The runtime already has that size.\n"
    kernel.run("%resize cpus=1")


@pytest.mark.parametrize(
    ("line", "expected"),
    [
        ("", "needs a size"),
        ("4", "'4' is no size"),
        ("disks=4", "'disks=4' is no size"),
        ("cpus=four", "not a whole number"),
        ("memory=lots", "not a size"),
        ("cpus=2 --timeout 0", "seconds above 0"),
        ("cpus=2 --cancel", "takes no sizes"),
        ("cpus=2 --nope", "unrecognized arguments: --nope"),
        ("cpus=64", "this machine has 4"),
        ("--cancel", "No resize is running"),
    ],
)
def test_refuses_by_name(kernel: StartedKernel, line: str, expected: str) -> None:
    """What cannot be understood or had is refused in a sentence, and nothing is changed."""
    outcome = kernel.run(f"%resize {line}")
    assert expected in outcome.error + outcome.stderr
    assert kernel.run("ray.cluster_resources()['CPU']").text == "1.0"


def test_resources_are_shown_by_whoever_uses_them(kernel: StartedKernel) -> None:
    """The table of now, and one each by cell, process, and node, as text and as HTML."""
    shown = kernel.run("%resources").data[-1]
    assert "█" in shown["text/plain"] or "░" in shown["text/plain"]
    assert "Measured at" in shown["text/plain"]
    assert "<table>" in shown["text/html"]
    used = kernel.run("%resources --by cell").text
    assert "peak memory" in used
    assert re.search(
        r"execution-\d+ +%resources +\d\d:\d\d:\d\d +[\d.]+ s +[\d.]+ s +[█░]+ +[\d.]+ [KMG]iB", used
    )
    assert "owner" in kernel.run("%resources --by rank").text
    assert "(head)" in kernel.run("%resources --by node").text
    assert "invalid choice: 'user'" in kernel.run("%resources --by user").stderr


def test_help_and_completion(kernel: StartedKernel) -> None:
    """The help names every size and flag, and Tab offers what is not on the line yet."""
    text = kernel.run("%resize --help").stdout
    assert all(word in text for word in ("cpus=", "gpus=", "memory=", "nodes=", "--dry-run", "--force"))
    line = "%resize cpus=2 "
    message = kernel.client.complete(line, len(line))
    matches = kernel.reply(message)["content"]["matches"]
    assert matches[:3] == ["gpus=", "memory=", "nodes="]
