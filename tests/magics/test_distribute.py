"""``%%distribute`` and its family in a real kernel: four ranks on two CPUs, kept for the whole file."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import pytest
from tests.magics.ranks import on_ranks, press, rank_kernel

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.kernel.support import Place, StartedKernel


@pytest.fixture(scope="module")
def kernel() -> Iterator[StartedKernel]:
    """Our kernel with four ranks on two CPUs."""
    with rank_kernel() as kernel:
        yield kernel


def test_who_one_is_is_in_scope_and_equal_lines_fold(kernel: StartedKernel) -> None:
    """Equal lines of all ranks are one; each rank knows its number, its place and its device."""
    shown = on_ranks(kernel, "print('same')\nprint(rank, local_rank, world_size, device)")
    assert shown.status == "ok"
    lines = shown.stdout.splitlines()
    assert lines[0] == "[ranks 0-3] same"
    assert lines[1:] == [f"[rank {rank}] {rank} {rank} 4 cpu" for rank in range(4)]


def test_ranks_have_the_session_of_the_notebook(kernel: StartedKernel) -> None:
    """Ranks that were there before read and write the warehouse that the notebook has now."""
    made = kernel.run(
        "import os, heliostat\nos.environ['HELIOSTAT_WAREHOUSE'] = os.path.abspath('late.duckdb')\n"
        "session = heliostat.get_active_session()\nsession.save_as_table({'a': [1]}, 't')"
    )
    assert made.status == "ok", made.error
    code = "get_active_session().save_as_table({'a': [10 + rank]}, 't', mode='append')"
    wrote = on_ranks(kernel, f"from heliostat import get_active_session\n{code}")
    assert wrote.status == "ok", wrote.error
    assert kernel.run("sorted(session.table('t').fetchall())").text == "[(1,), (10,), (11,), (12,), (13,)]"
    code = "from heliostat.data import DataConnector\nprint(DataConnector.from_sql('FROM t').count())"
    assert on_ranks(kernel, code).stdout == "[ranks 0-3] 5\n"


def test_what_one_cell_defines_the_next_one_has(kernel: StartedKernel) -> None:
    """Classes, functions and variables stay; targets narrow a cell down; -o brings values back."""
    assert on_ranks(kernel, "class P:\n    n = rank\ndef f(): return P().n * 2").status == "ok"
    assert on_ranks(kernel, "f()", "1,3").stdout == "[rank 1] 2\n[rank 3] 6\n"
    assert on_ranks(kernel, "f()", "-t 2").stdout == "4\n"
    assert on_ranks(kernel, "f()", "-o doubled").status == "ok"
    assert on_ranks(kernel, "f()", "-o one -t 3").status == "ok"
    assert kernel.run("doubled, one").text == "([0, 2, 4, 6], 6)"


def test_ranks_are_whole_kernels(kernel: StartedKernel) -> None:
    """Await at top level, magics, shell commands and native output work; input() is refused."""
    shown = on_ranks(
        kernel,
        "import asyncio, os\nawait asyncio.sleep(0)\n%time x = 1\n!echo shell\nos.system('echo fd')",
        "-t 0",
    )
    assert "Wall time" in shown.stdout
    assert "shell" in shown.stdout
    assert "fd" in shown.stdout
    assert "%push" in on_ranks(kernel, "input('?')").error


def test_rich_output_comes_through(kernel: StartedKernel) -> None:
    """HTML and figures of ranks are shown as such, under the rank's number."""
    shown = on_ranks(kernel, "from IPython.display import HTML\nHTML(f'<b>{rank}</b>')", "0,1")
    assert [each["text/html"] for each in shown.data] == ["<b>0</b>", "<b>1</b>"]
    assert "[rank 1]" in shown.stdout
    figure = on_ranks(kernel, "import matplotlib.pyplot as plt\n_ = plt.plot([1, 2])", "-t 0")
    assert any("image/png" in each for each in figure.data)


def test_odd_output_is_neither_lost_nor_harmful(kernel: StartedKernel) -> None:
    """ANSI and binary pass, a progress bar ends as its last state, a line of 1 MB arrives whole."""
    odd = on_ranks(
        kernel,
        "import os, sys\nprint('\\x1b[31mred\\x1b[0m')\nsys.stdout.flush()\nos.write(1, b'\\xff\\x00bin\\n')\n"  # noqa: E501
        "for i in range(5): print(f'\\r{i}0%', end='')\nprint()\nprint('x' * 1_000_000)",
        "-t 1",
    )
    assert "\x1b[31mred" in odd.stdout
    assert "bin" in odd.stdout
    assert "\n40%\n" in f"\n{odd.stdout}"
    assert odd.stdout.count("x") == 1_000_000
    flood = on_ranks(kernel, "for i in range(2000): print(rank, i)")
    assert len(flood.stdout.splitlines()) == 8000


def test_beyond_a_limit_output_goes_to_a_file(kernel: StartedKernel) -> None:
    """What no notebook bears is whole in a file, and the cell says where."""
    shown = on_ranks(kernel, "for i in range(60): print('y' * 99_999)", "-t 0")
    path = shown.stderr.split("goes to ")[1].splitlines()[0]
    rest = kernel.run(f"open({path!r}).read().count('y')").text
    assert shown.stdout.count("y") > 3_000_000
    assert shown.stdout.count("y") + int(rest) == 60 * 99_999


def test_errors_name_the_ranks_and_stop_the_notebook(kernel: StartedKernel) -> None:
    """The error of the first failing rank is raised, trimmed to the user's lines."""
    shown = on_ranks(kernel, "def g(v):\n    import json\n    return json.loads(v)\nif rank > 1: g('{')")
    assert shown.status == "error"
    assert shown.error.startswith("RankError: [ranks 2-3] JSONDecodeError")
    request = kernel.client.execute("%%distribute\n1/0")
    second = kernel.client.execute("1")
    assert kernel.reply(request)["content"]["status"] == "error"
    assert kernel.reply(second)["content"]["status"] == "aborted"


@pytest.mark.parametrize(
    ("line", "hint"),
    [
        ("--nope", "unrecognized arguments: --nope"),
        ("--group-outputs by", "invalid choice: 'by'"),
        ("--grace soon", "'soon' is not a number of seconds"),
        ("-o 1x", "'1x' is not the name of a variable"),
        ("-t 0 1", "given twice"),
        ("-b -a", "contradict"),
        ("-n 3", "%ranks resize 3"),
        ("-t 9", "there are ranks 0-3"),
        ("-t 3-1", "names no rank"),
        ("map", "--over"),
        ("map --over nowhere", "no such variable"),
    ],
)
def test_wrong_flags_get_the_right_hint(kernel: StartedKernel, line: str, hint: str) -> None:
    """Bad flags run nothing and say what would be right."""
    shown = on_ranks(kernel, "raise SystemError", line)
    assert shown.status == "error"
    assert hint in shown.error + shown.stderr


@pytest.mark.parametrize(
    "body",
    [
        "while True: pass",
        "import time; time.sleep(100)",
        "import subprocess; subprocess.run(['sleep', '100'])",
        "import numpy as np\na = np.ones((200, 200))\nwhile True: a @ a",
        "import asyncio; await asyncio.sleep(100)",
    ],
    ids=["loop", "sleep", "subprocess", "numpy", "await"],
)
def test_interrupt_ends_it_and_keeps_the_variables(kernel: StartedKernel, body: str) -> None:
    """Stop reaches every rank; nothing is lost and the cell raises KeyboardInterrupt."""
    assert on_ranks(kernel, "kept = rank").status == "ok"
    seconds, name, said = press(kernel, body)
    assert name == "KeyboardInterrupt"
    assert "all variables kept" in said
    assert seconds < 2.0
    assert on_ranks(kernel, "kept", "-o kept").status == "ok"
    assert kernel.run("kept").text == "[0, 1, 2, 3]"


def test_what_cannot_be_interrupted_is_ended_and_started_anew(kernel: StartedKernel) -> None:
    """A C call that holds the GIL costs that rank its variables, and the cell says so."""
    on_ranks(kernel, "kept = rank")
    body = "import ctypes\nif rank == 2: ctypes.PyDLL(None).sleep(100)\nelse:\n    while True: pass"
    seconds, name, said = press(kernel, body, "--grace 1")
    assert name == "KeyboardInterrupt"
    assert "rank 2 could not be interrupted" in said
    assert "ranks 0-1, 3 kept all variables" in said
    assert seconds < 3.0
    assert on_ranks(kernel, "'kept' in globals()", "-o there").status == "ok"
    assert kernel.run("there").text == "[True, True, False, True]"


@pytest.mark.parametrize(
    ("death", "why"), [("os._exit(3)", "exit code 3"), ("os.kill(os.getpid(), 9)", "killed (SIGKILL")]
)
def test_the_death_of_a_rank_says_which_and_why(kernel: StartedKernel, death: str, why: str) -> None:
    """The cell fails with the cause, the others are freed, the rank is started anew."""
    body = f"import os, time\nif rank == 1: {death}\ntime.sleep(100)"
    shown = on_ranks(kernel, body, "--grace 0.2")
    assert shown.error.startswith("RankError: Rank 1 died")
    assert why in shown.error
    assert "[ranks 0-3] 4" in on_ranks(kernel, "world_size").stdout


def test_watch_says_who_is_where(kernel: StartedKernel) -> None:
    """After a while without news, ranks at the same place share a line."""
    body = "import time\nif rank == 3: time.sleep(1.5)\nelse:\n    time.sleep(1.4)"
    shown = on_ranks(kernel, body, "--watch 0.5")
    assert "ranks 0-2: cell:4 `time.sleep(1.4)`" in shown.stderr
    assert "rank 3: cell:2" in shown.stderr


def test_timeout_stops_it(kernel: StartedKernel) -> None:
    """A cell whose time is up is stopped, and fails."""
    shown = on_ranks(kernel, "import time; time.sleep(100)", "--timeout 0.3")
    assert "--timeout 0.3" in shown.error


def test_background_cells(kernel: StartedKernel) -> None:
    """--noblock returns a handle; its output stays under its own cell; it can be cancelled."""
    begun = kernel.client.execute(
        "%%distribute --noblock -o job\nimport time\nfor i in range(3): time.sleep(0.2); print('tick', i)\nrank"  # noqa: E501
    )
    assert kernel.reply(begun)["content"]["status"] == "ok"
    assert kernel.run("job.status").text == "'running'"
    kernel.iopub(lambda m: m["msg_type"] == "stream" and "tick 2" in m["content"]["text"], begun)
    assert (
        kernel.run("job.result(10), job.status, 'tick 0' in job.outputs[3]").text
        == "([0, 1, 2, 3], 'done', True)"
    )
    assert on_ranks(kernel, "import time; time.sleep(100)", "--noblock -o job").status == "ok"
    cancelled = kernel.run(
        "job.cancel()\ntry: job.result(10)\nexcept heliostat.HeliostatError as e: print(e)\njob.status"
    )
    assert cancelled.text == "'cancelled'", cancelled


def test_push_and_pull(kernel: StartedKernel) -> None:
    """Variables travel both ways; what is too large or missing is refused before anything moves."""
    assert kernel.run("import numpy as np\na = np.arange(10**6); c = {'lr': 0.1}\n%push a c").status == "ok"
    assert on_ranks(kernel, "part = int(a[rank]) + c['lr']; a.flags.writeable", "-o writable").status == "ok"
    assert (
        kernel.run("%pull part -o parts\nparts, writable").text
        == "([0.1, 1.1, 2.1, 3.1], [False, False, False, False])"
    )
    assert kernel.run("%push a --copy -t 1\n%pull part -t 2\npart").text == "2.1"
    assert on_ranks(kernel, "a[0] = 7", "-t 1").status == "ok"
    assert "--max-bytes" in kernel.run("%push a --max-bytes 100").error
    assert "--max-bytes" in kernel.run("%pull a --max-bytes 100").error
    assert "not defined on rank" in kernel.run("%pull nothing").error
    assert "cannot be sent" in kernel.run("import threading; lock = threading.Lock()\n%push lock").error


def test_map_over_parts_and_items(kernel: StartedKernel) -> None:
    """The cell is a function of each part; results come back as a connector."""
    assert (
        kernel.run("import pandas as pd\ndf = pd.DataFrame({'g': list('aab'), 'v': [1, 2, 10]})").status
        == "ok"
    )
    assert on_ranks(kernel, "def scale(v): return v * 10").status == "ok"
    body = "if key == 'b':\n    return {'total': scale(part.v.sum())}\n{'total': part.v.sum()}"
    shown = on_ranks(kernel, body, "map --over df --by g -o sums")
    assert shown.status == "ok", shown.error
    assert json.loads(eval(kernel.run("sums.to_pandas().to_json(orient='records')").text)) == [
        {"g": "a", "total": 3},
        {"g": "b", "total": 100},
    ]
    lazy = (
        "import tempfile\nfrom heliostat.data import DataConnector\n"
        "df.to_parquet(path := tempfile.mkdtemp() + '/df.parquet')\n"
        "lazy = DataConnector.from_sources(None, [path])"
    )
    assert kernel.run(lazy).status == "ok"
    for over, options in (("lazy", "--by g -o read"), ("lazy", "-o rows"), ("df", "-o expected")):
        done = on_ranks(kernel, "{'total': part.v.sum(), 'key': key}", f"map --over {over} {options}")
        assert done.status == "ok", done.error
    assert kernel.run("read.to_pandas().total.tolist(), rows.to_arrow() == expected.to_arrow()").text == (
        "([3, 10], True)"
    )
    assert (
        "division by zero (in part 'b')"
        in on_ranks(kernel, "1 / (key != 'b')", "map --over lazy --by g").error
    )
    assert kernel.run("items = range(5)").status == "ok"
    assert on_ranks(kernel, "item ** 2", "map --over items -o squares").status == "ok"
    assert kernel.run("squares.to_pandas().value.tolist()").text == "[0, 1, 4, 9, 16]"
    assert "no column 'x'" in on_ranks(kernel, "1", "map --over df --by x").error
    failed = on_ranks(kernel, "if key == 'b':\n    1 / 0\n1", "map --over df --by g")
    assert "ZeroDivisionError: division by zero (in part 'b')" in failed.error
    jobs = kernel.run("%jobs").text
    assert "item ** 2" in jobs
    assert "map_work" not in jobs
    assert on_ranks(kernel, "1 / (item - 3)", "map --over items").error.count("(in item 3)") == 1
    squares = on_ranks(kernel, "item ** 2", "map --over items")
    assert "16" in squares.text, "the rows are shown"
    assert "5 rows." in squares.text


def test_local_runs_it_here_as_well(kernel: StartedKernel) -> None:
    """--local runs the cell in the notebook's own namespace too."""
    assert on_ranks(kernel, "both = 5", "--local").status == "ok"
    assert kernel.run("both").text == "5"


def test_output_can_be_grouped(kernel: StartedKernel) -> None:
    """By rank, everything of rank 0 comes first."""
    shown = on_ranks(kernel, "print('a')\nprint('b')", "--group-outputs rank -t 0-1")
    assert shown.stdout.splitlines() == ["[rank 0] a", "[rank 0] b", "[rank 1] a", "[rank 1] b"]


def test_torch_and_a_collective_that_hangs(kernel: StartedKernel) -> None:
    """The group is up; an error frees those who wait; a stuck all_reduce is interrupted; it forms again."""
    summed = on_ranks(kernel, "t = torch.ones(1) * rank\ndist.all_reduce(t)\nt.item()", "torch", timeout=120)
    assert summed.stdout == "[ranks 0-3] 6.0\n", summed.error
    failed = on_ranks(kernel, "if rank == 2: raise ValueError('mine')\ndist.all_reduce(t)", "torch --grace 2")
    assert failed.error.startswith("RankError: [rank 2] ValueError: mine")
    assert "all variables kept" in failed.stderr, failed.stderr
    seconds, name, said = press(kernel, "if rank != 3: dist.all_reduce(t)", "torch")
    assert name == "KeyboardInterrupt"
    assert "all variables kept" in said
    assert seconds < 2.5
    again = on_ranks(kernel, "dist.all_reduce(t := torch.ones(1))\nt.item()", "torch")
    assert again.stdout == "[ranks 0-3] 4.0\n", again.error


def test_ranks_magic(kernel: StartedKernel, place: Place) -> None:
    """It lists, resizes with variables kept, restarts one, and says how to attach a console."""
    on_ranks(kernel, "kept = rank")
    assert kernel.run("%ranks resize 2", timeout=60).stdout.count("idle") == 2
    assert on_ranks(kernel, "kept, world_size").stdout == "[rank 0] (0, 2)\n[rank 1] (1, 2)\n"
    restarted = kernel.run("%ranks restart 1")
    assert restarted.status == "ok", restarted.error
    assert "NameError" in on_ranks(kernel, "kept", "-t 1").error
    assert "jupyter console --existing" in kernel.run("%ranks console 0").stdout
    assert "%ranks resize needs" in kernel.run("%ranks resize x").stderr


def test_help_and_completion(kernel: StartedKernel) -> None:
    """--help and Tab know modes, flags and variables."""
    assert "--group-outputs" in kernel.run("%%distribute --help\n1").stdout
    matches = kernel.reply(kernel.client.complete("%%distribute to"))["content"]["matches"]
    assert matches == ["torch"]
    assert "--watch" in kernel.reply(kernel.client.complete("%%distribute --w"))["content"]["matches"]


def test_a_runtime_lost_in_mid_cell(kernel: StartedKernel) -> None:
    """The cell says that the runtime is gone; after a new start ranks come up again."""
    request = kernel.client.execute(
        "%%distribute\nprint('go')\nimport time; time.sleep(100)", stop_on_error=False
    )
    kernel.iopub(lambda m: m["msg_type"] == "stream" and "go" in m["content"]["text"], request)
    import os

    pid = kernel_supervisor(kernel)
    os.kill(pid, 9)
    reply = kernel.reply(request, timeout=30)
    assert reply["content"]["status"] == "error"
    assert "lost" in reply["content"]["evalue"] or "gone" in reply["content"]["evalue"], reply["content"]
    started = kernel.run("%runtime start --cpus 2", timeout=90)
    assert started.status == "ok", started.error
    assert on_ranks(kernel, "world_size", "-n 2", timeout=90).stdout == "[ranks 0-1] 2\n"


def kernel_supervisor(kernel: StartedKernel) -> int:
    """Pid of the process that owns the runtime, found from outside: the kernel is busy."""
    import psutil

    for child in psutil.Process(kernel.pid).children(recursive=True):
        if "heliostat._supervisor" in " ".join(child.cmdline()):
            return child.pid
    message = "no supervisor"
    raise LookupError(message)
