"""What can happen to a cell on ranks, one case after the other on the same four ranks."""

from __future__ import annotations

import json
import re
import stat
import time
from pathlib import Path
from typing import TYPE_CHECKING

import psutil
import pytest
from jupyter_client.blocking.client import BlockingKernelClient
from tests.kernel.support import wait_until
from tests.magics.ranks import little_memory, on_ranks, press, rank_kernel, shown_by

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.kernel.support import StartedKernel


@pytest.fixture(scope="module")
def kernel() -> Iterator[StartedKernel]:
    """Our kernel with four ranks on two CPUs."""
    with rank_kernel() as kernel:
        yield kernel


def pids(kernel: StartedKernel) -> list[int]:
    """Processes of the ranks, in their order."""
    rows = kernel.run("%ranks").stdout.splitlines()[1:]
    return [int(re.split(r"\s{2,}", row)[2]) for row in rows]


def settled(text: str) -> list[str]:
    """The lines that a terminal is left with: a line that grew was overwritten."""
    return [line.rpartition("\r")[2] for line in text.split("\n")]


def test_a_second_interrupt_acts_at_once(kernel: StartedKernel) -> None:
    """Whatever the grace, the second Stop ends what did not stop, and says whose variables are lost."""
    assert on_ranks(kernel, "kept = rank").status == "ok"
    body = "import ctypes\nif rank == 1: ctypes.PyDLL(None).sleep(100)\nimport time; time.sleep(100)"
    seconds, error, said = press(kernel, body, "--grace 60", times=2)
    assert error == "KeyboardInterrupt"
    assert seconds < 5
    assert "rank 1 could not be interrupted" in said
    assert "its variables are lost" in said
    assert on_ranks(kernel, "'kept' in globals()", "-o there").status == "ok"
    assert kernel.run("there").text == "[True, False, True, True]"


def test_cancel_ends_it_on_the_ranks(kernel: StartedKernel) -> None:
    """What the panel's button and %cancel do stops the ranks and keeps their variables."""
    on_ranks(kernel, "kept = rank")
    kernel.run(
        "import threading\nfrom heliostat import _progress\n"
        "threading.Timer(0.7, lambda: _progress.tasks()[-1].cancel()).start()"
    )
    cancelled = on_ranks(kernel, "import time; time.sleep(100)")
    assert cancelled.error.startswith("TaskCancelledError"), cancelled
    assert on_ranks(kernel, "import time; time.sleep(100)", "--noblock -o job").status == "ok"
    assert "time.sleep(100)" in kernel.run("%jobs").text
    assert "was asked to stop" in kernel.run("%cancel").stdout
    wait_until(lambda: kernel.run("job.status").text == "'cancelled'", 10, "it is cancelled")
    assert on_ranks(kernel, "kept").stdout.count("[rank") == 4


def test_verbose_shows_every_traceback(kernel: StartedKernel) -> None:
    """--verbose tells where each rank failed; without it the first one does, by the notebook's cell."""

    def traceback(line: str) -> str:
        body = "if rank == 0:\n    [][1]\n\n\n\nelif rank == 1:\n    {}['k']"
        request = kernel.client.execute(f"%%distribute {line}\n{body}", stop_on_error=False)
        number = kernel.reply(request)["content"]["execution_count"]
        errors = [m for m in shown_by(kernel, request) if m["msg_type"] == "error"]
        text = re.sub(r"\x1b\[[0-9;]*m", "", "\n".join(errors[0]["content"]["traceback"]))
        assert f"In[{number}]" in text
        return text

    short, long = traceback(""), traceback("--verbose")
    assert ("[][" in short) != ("{}[" in short)
    for part in ("[][", "{}[", "[rank 0]", "[rank 1]"):
        assert part in long
    for part in ("IndexError", "KeyError"):
        assert part in short
    assert "_ranks/" not in long


def test_no_stream_waits_for_the_end(kernel: StartedKernel) -> None:
    """--no-stream shows everything at once; by default the first line is there before the second."""
    body = "import time\nprint('first', flush=True); time.sleep(0.7); print('second')"

    def pieces(line: str) -> list[str]:
        request = kernel.client.execute(f"%%distribute {line}\n{body}")
        kernel.reply(request)
        return [m["content"]["text"] for m in shown_by(kernel, request) if m["msg_type"] == "stream"]

    assert pieces("--no-stream -t 0") == ["first\nsecond\n"]
    assert pieces("-t 0") == ["first\n", "second\n"]


def test_progress_after_says_when_there_is_a_bar(kernel: StartedKernel) -> None:
    """A bar tells how many ranks are done, after the seconds that were asked for, or never."""
    body = "import time; time.sleep(1.6 if rank else 0)"
    assert on_ranks(kernel, body, "--progress-after -1").data == []
    assert on_ranks(kernel, body, "--progress-after 100").data == []
    shown = on_ranks(kernel, body, "--progress-after 0.3")
    assert any("text/html" in data for data in shown.data), shown


def test_another_signal_can_stop_it(kernel: StartedKernel) -> None:
    """--signal-on-interrupt sends that one, for programs that handle it."""
    body = (
        "import signal, time\n"
        "def heard(*_):\n    global got\n    got = True\n    raise SystemError('usr1')\n"
        "signal.signal(signal.SIGUSR1, heard)\ntime.sleep(100)"
    )
    seconds, error, _ = press(kernel, body, "--signal-on-interrupt USR1")
    assert error == "KeyboardInterrupt"
    assert seconds < 3
    assert on_ranks(kernel, "got", "-o got").status == "ok"
    assert kernel.run("got").text == "[True, True, True, True]"
    assert "not a signal" in on_ranks(kernel, "1", "--signal-on-interrupt NOPE").stderr


def test_targets_are_a_few_of_them(kernel: StartedKernel) -> None:
    """Numbers and ranges go together, and -o keeps their order."""
    assert on_ranks(kernel, "rank", "-t 0,2-3 -o some").status == "ok"
    assert kernel.run("some").text == "[0, 2, 3]"


def test_a_console_attaches_with_what_is_printed(kernel: StartedKernel) -> None:
    """Who reads the private file that is named is a client of the rank, and nobody else."""
    assert on_ranks(kernel, "where = f'rank {rank}'").status == "ok"
    said = kernel.run("%ranks console 2").stdout
    path = Path(re.search(r"--existing (\S+)", said)[1])  # type: ignore[index]
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    client = BlockingKernelClient()
    client.load_connection_file(str(path))
    client.start_channels()
    try:
        client.wait_for_ready(timeout=20)
        reply = client.execute("print(where)", reply=True, user_expressions={"w": "where"}, timeout=20)
        assert reply["content"]["user_expressions"]["w"]["data"]["text/plain"] == "'rank 2'"
        shown = [client.get_iopub_msg(timeout=10) for _ in range(4)]
        kinds = [each["msg_type"] for each in shown]
        assert "execute_input" in kinds
        assert "stream" in kinds
    finally:
        client.stop_channels()
    # The group goes on beside it.
    assert on_ranks(kernel, "where", "-t 2").stdout == "'rank 2'\n"


def test_a_rank_that_needs_too_much_memory(kernel: StartedKernel) -> None:
    """The error says that memory ran out and how much it had; Ray's own text stays away."""
    pid = pids(kernel)[3]
    body = (
        "import time\nif rank == 3:\n    held = []\n    while True:\n"
        "        held.append(bytearray(b'x' * (8 << 20)))\n        time.sleep(0.02)\ntime.sleep(100)"
    )
    with little_memory(pid, psutil.Process(pid).memory_info().rss + (300 << 20)):
        shown = on_ranks(kernel, body, "--grace 0.2")
    assert shown.error.startswith("RankError: Rank 3 died"), shown
    assert "killed for want of memory" in shown.error
    assert re.search(r"it used \d+ MiB when last seen", shown.error)
    # Ray tells of deaths a few seconds later, into whatever cell runs then.
    later = kernel.run("import time; time.sleep(4)")
    for cell in (shown, later):
        assert "worker died" not in (cell.stdout + cell.stderr).lower(), cell
    assert on_ranks(kernel, "world_size", "-t 3").stdout == "4\n"


def test_what_a_failure_held_is_freed(kernel: StartedKernel) -> None:
    """After an error and after Stop, no traceback keeps what the cell's functions had."""
    check_memory_is_freed(kernel, "cpu")


def check_memory_is_freed(kernel: StartedKernel, device: str) -> None:
    """The body of the test, for a device that torch knows; on a GPU its own count is asked as well."""
    body = (
        f"import gc, weakref, torch\nref = None\ndef work(end):\n    global ref\n"
        f"    big = torch.ones(1 << 20, device={device!r})\n    ref = weakref.ref(big)\n    end()\n"
        "def fail(): raise ValueError('x')\nimport time"
    )
    assert on_ranks(kernel, body, "torch", timeout=120).status == "ok"
    assert "ValueError" in on_ranks(kernel, "work(fail)").error
    assert on_ranks(kernel, "ref() is None").stdout == "[ranks 0-3] True\n"
    press(kernel, "work(lambda: time.sleep(100))")
    assert on_ranks(kernel, "ref() is None").stdout == "[ranks 0-3] True\n"
    if device != "cpu":
        assert on_ranks(kernel, "torch.cuda.memory_reserved()").stdout == "[ranks 0-3] 0\n"


def test_displays_that_change(kernel: StartedKernel) -> None:
    """Each rank updates a display of its own; clear_output of one of several clears nothing."""
    body = (
        "from IPython.display import display, clear_output\n"
        "print('before')\nshown = display(rank, display_id='same')\nshown.update(rank + 10)\n"
        "clear_output(wait=True)\nprint('after')"
    )
    request = kernel.client.execute(f"%%distribute -t 0,1\n{body}")
    kernel.reply(request)
    found = shown_by(kernel, request)
    updates = {
        m["content"]["transient"]["display_id"]: m["content"]["data"]["text/plain"]
        for m in found
        if m["msg_type"] == "update_display_data"
    }
    assert updates == {"same-rank-0": "10", "same-rank-1": "11"}
    assert not [m for m in found if m["msg_type"] == "clear_output"]
    text = "".join(m["content"]["text"] for m in found if m["msg_type"] == "stream")
    for word in ("before", "after"):
        assert f"[ranks 0-1] {word}" in text or all(f"[rank {rank}] {word}" in text for rank in (0, 1))
    single = kernel.client.execute(f"%%distribute -t 0\n{body}")
    kernel.reply(single)
    assert [m for m in shown_by(kernel, single) if m["msg_type"] == "clear_output"]


def test_widgets_show_what_they_say(kernel: StartedKernel) -> None:
    """A widget of a rank has no page to talk to: it is shown as text, and harms nothing."""
    shown = on_ranks(kernel, "import ipywidgets\nipywidgets.IntSlider(value=rank + 3)", "-t 1,2")
    assert shown.status == "ok", shown.error
    text = shown.stdout + "".join(data.get("text/plain", "") for data in shown.data)
    assert "IntSlider(value=4)" in text
    assert "IntSlider(value=5)" in text
    assert not any("application/vnd.jupyter.widget-view+json" in data for data in shown.data)


def test_output_of_a_thread_stays_under_its_cell(kernel: StartedKernel) -> None:
    """What a rank's thread prints after its cell appears under that cell, not under the next one."""
    body = (
        "import threading, time\n"
        "def later():\n    time.sleep(0.8)\n    print('late')\n"
        "threading.Thread(target=later).start()"
    )
    request = kernel.client.execute(f"%%distribute -t 0\n{body}")
    kernel.reply(request)
    other = kernel.client.execute("%%distribute -t 1\nimport time; time.sleep(1.5)")
    message = kernel.iopub(lambda m: m["msg_type"] == "stream" and "late" in m["content"]["text"])
    assert message["parent_header"]["msg_id"] == request
    assert kernel.reply(other)["content"]["status"] == "ok"


def test_no_line_of_a_flood_is_lost(kernel: StartedKernel) -> None:
    """Ten thousand lines of four ranks arrive, equal ones once and different ones each."""
    equal = on_ranks(kernel, "for i in range(10000): print('line', i)")
    assert sum(equal.stdout.count(f"line {i}\n") >= 1 for i in range(10000)) == 10000
    own = on_ranks(kernel, "for i in range(10000): print(rank, 'of', i)")
    for rank in range(4):
        mine = [line for line in settled(own.stdout) if line.startswith(f"[rank {rank}]")]
        assert mine == [f"[rank {rank}] {rank} of {i}" for i in range(10000)]


def test_values_fork_and_native_code_are_shown(kernel: StartedKernel) -> None:
    """A child that was forked, a child process and native code print into the cell, in UTF-8."""
    body = (
        "import multiprocessing, os, subprocess, sys\n"
        "def child(): print('forked ü')\n"
        "p = multiprocessing.get_context('fork').Process(target=child); p.start(); p.join()\n"
        "_ = subprocess.run(['sh', '-c', 'printf \"%s\\\\n\" native-ü'], check=True)\n"
        "os.write(2, ('é' * 5000 + '\\n').encode())"
    )
    shown = on_ranks(kernel, body, "-t 0")
    assert shown.status == "ok", shown.error
    assert "forked ü" in shown.stdout
    assert "native-ü" in shown.stdout
    assert shown.stderr.count("é") == 5000


def test_push_lies_in_memory_once_for_a_node(kernel: StartedKernel) -> None:
    """Ranks of a node share the pages of an array that was pushed; --copy gives each its own."""
    assert kernel.run("import numpy as np; big = np.zeros(16 << 20, np.uint8)\n%push big").status == "ok"
    where = (
        "start = big.__array_interface__['data'][0]\n"
        "for line in open('/proc/self/maps'):\n"
        "    low, high = (int(part, 16) for part in line.split()[0].split('-'))\n"
        "    if low <= start < high: found = f'{line.split()[1][3]} {line.split()[4]} {start - low}'\n"
        "found"
    )
    assert on_ranks(kernel, where, "-o maps").status == "ok"
    found = json.loads(kernel.run("import json; print(json.dumps(maps))").stdout)
    assert len(set(found)) == 1, found
    assert found[0].startswith("s "), found
    assert kernel.run("%push big --copy").status == "ok"
    assert on_ranks(kernel, where, "-o maps").status == "ok"
    copied = json.loads(kernel.run("print(json.dumps(maps))").stdout)
    assert all(each.startswith("p ") for each in copied), copied


def test_a_restarted_kernel_leaves_no_ranks_behind(kernel: StartedKernel) -> None:
    """Restart ends the ranks with the kernel; new ones come up in the new one."""
    before = pids(kernel)
    assert len(before) == 4
    kernel.manager.restart_kernel(now=False)
    kernel.reconnect()
    deadline = time.monotonic() + 20
    while any(psutil.pid_exists(pid) for pid in before) and time.monotonic() < deadline:
        time.sleep(0.1)
    assert not [pid for pid in before if psutil.pid_exists(pid)]
    kernel.run("import heliostat; heliostat.init(cpus=2)", timeout=90)
    again = on_ranks(kernel, "world_size", "-n 2", timeout=90)
    assert again.stdout == "[ranks 0-1] 2\n", again
