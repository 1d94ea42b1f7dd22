"""What ``%runtime`` says for states that are hard to bring about."""

from __future__ import annotations

from typing import Any

from heliostat._messages.cluster import BootMode, Provider, Resources
from heliostat._messages.runtime import Failure, Owner, RuntimeState, RuntimeStatus, Step
from heliostat._messages.usage import HostUse, RayUse, Sample
from heliostat.exceptions import RuntimeLostError
from heliostat_magics._view import RuntimeView

NOW = 1_000_000.0
GIB = 2**30


def status(state: RuntimeState, **changes: Any) -> RuntimeStatus:
    """A status as the supervisor sends it."""
    values: dict[str, Any] = {
        "runtime_id": "8b6cd6ae",
        "version": 1,
        "state": state,
        "reason": "because",
        "since": NOW - 10,
        "started_at": NOW - 12,
        "provider": Provider.LOCAL,
        "boot_mode": BootMode.SLIM,
        "owner": Owner(pid=1, started_at=0.0),
        "supervisor_pid": 2,
        "steps": [Step(name="raylet <up>", at=NOW - 11, elapsed=1.25)],
        "transitions": [],
        "address": "127.0.0.1:6379",
        "token_path": None,
        "session_dir": "/nowhere",
        "log_dir": "/nowhere",
        "resources": Resources(cpus=8, gpus=2, memory_bytes=4 * GIB, object_store_bytes=GIB, nodes=1),
        "limits": None,
        "failure": None,
        "resize": None,
    }
    return RuntimeStatus(**(values | changes))


SAMPLE = Sample(
    at=NOW,
    host=HostUse(
        cpu_percent=200,
        cpus=8,
        memory_used_bytes=15 * GIB,
        memory_limit_bytes=16 * GIB,
        shm_used_bytes=None,
        shm_limit_bytes=None,
        disk_used_bytes=None,
        disk_limit_bytes=None,
    ),
    processes=[],
    gpus=None,
    ray=RayUse(
        cpus=8,
        cpus_used=2,
        gpus=2,
        gpus_used=1,
        memory_bytes=4 * GIB,
        memory_used_bytes=0,
        object_store_bytes=GIB,
        object_store_used_bytes=GIB // 4,
        pending=["<b>1 GPU</b>"],
    ),
)


def test_numbers_are_used_of_total() -> None:
    """A ready runtime shows what is used of what there is."""
    text = repr(RuntimeView(status(RuntimeState.READY), SAMPLE, NOW))
    for expected in ("2 of 8 in use", "1 of 2 in use", "25 % of 8 CPUs", "15 GiB of 16 GiB"):
        assert expected in text
    assert "256 MiB of 1 GiB" in text


def test_unknown_is_not_zero() -> None:
    """Without a sample or resources nothing is said to be 0."""
    for sized in (status(RuntimeState.READY), status(RuntimeState.DEGRADED, resources=None)):
        view = RuntimeView(sized, None, NOW)
        used = {fact.label: fact for fact in view.facts}
        for label in ("CPUs", "Ray memory", "Object store", "Machine CPU", "Machine memory"):
            assert used[label].text.startswith("unknown")
            assert used[label].share is None
        assert "unknown" in view._repr_html_()


def test_booting_shows_the_steps_so_far() -> None:
    """While starting, the steps are listed with their times."""
    view = RuntimeView(status(RuntimeState.STARTING, address=None, resources=None), None, NOW)
    assert "1.25 s  raylet <up>" in repr(view)
    assert "CPUs" not in repr(view)


def test_failure_shows_reason_action_and_log() -> None:
    """A failed runtime says what happened, what to do, and shows the log's end."""
    failure = Failure(what="The raylet died.", action="Free some memory.", log_tail=["a", "b"])
    text = repr(RuntimeView(status(RuntimeState.FAILED, failure=failure), None, NOW))
    assert "The raylet died. Free some memory." in text
    assert text.endswith("log\n  a\n  b")


def test_lost_runtime_keeps_its_log() -> None:
    """A runtime whose supervisor is gone is called lost, with the reason and the log."""
    error = RuntimeLostError("The supervisor is gone.", "Start a new one.")
    text = repr(RuntimeView(None, None, NOW, error=error, log_tail=("last words",)))
    assert text == "Runtime lost\nThe supervisor is gone. Start a new one.\nlog\n  last words"


def test_html_escapes_everything() -> None:
    """Names from outside cannot become markup."""
    failure = Failure(what="<script>x</script>", action="", log_tail=["<img src=x>"])
    failed = RuntimeView(status(RuntimeState.FAILED, failure=failure), None, NOW)._repr_html_()
    ready = RuntimeView(status(RuntimeState.READY), SAMPLE, NOW, all_steps=True)._repr_html_()
    for html in (failed, ready):
        assert not any(tag in html for tag in ("<script>", "<img", "<b>", "<up>"))
    assert "&lt;b&gt;1 GPU&lt;/b&gt;" in ready


def test_bars_can_be_read_aloud() -> None:
    """Each bar has its value as text for screen readers."""
    html = RuntimeView(status(RuntimeState.READY), SAMPLE, NOW)._repr_html_()
    assert 'aria-label="25 percent"' in html
    assert 'aria-label="94 percent"' in html
