"""Cells on many ranks: ``%%distribute`` against ipyparallel's ``%%px`` with as many engines.

Both run in plain IPython kernels, one after the other, timed inside of the kernel; only output is
timed by a client, as a front end, from the request until every line is there. A run is one cell;
long ones (output, pushes, interrupts) are done a tenth as often, and at least once.
"""

from __future__ import annotations

import json
import re
from typing import TYPE_CHECKING

from _kernels import MeasuredKernel
from _measure import Figure, Report, main, progress
from _processes import own_home

if TYPE_CHECKING:
    from pathlib import Path

_COMMON = """
import contextlib, io, json, os, signal, threading
from time import perf_counter as clock
import numpy as np
shell = get_ipython()
def times(count, do):
    found = []
    for _ in range(count):
        began = clock(); do(); found.append(clock() - began)
    return json.dumps(found)
def quietly(magic, line, body):
    with contextlib.redirect_stdout(io.StringIO()) as said:
        shell.run_cell_magic(magic, line, body)
    return said.getvalue()
big = np.random.rand(100 * 2**17)
"""
_OURS = """
%load_ext heliostat
import heliostat
heliostat.init()
import time; time.sleep(3)
from heliostat import _ranks
def start(count):
    _ranks.stop(); began = clock(); _ranks.start(_ranks.Wish(ranks=count)); return clock() - began
def interrupted(line, body):
    at = []
    def press(): at.append(clock()); os.kill(os.getpid(), signal.SIGINT)
    threading.Timer(0.7, press).start()
    try: quietly("distribute", line, body)
    except KeyboardInterrupt: return clock() - at[0]
    raise AssertionError
"""
_PEER = """
import ipyparallel as ipp
def start(count):
    global cluster, client
    cluster = ipp.Cluster(n=count, log_level=40); client = cluster.start_and_connect_sync(activate=True)
"""
_LINES, _RANKS = 10_000, 4
_FLOODS = {
    "equal": f"for i in range({_LINES}): print('line', i)",
    "different": f"import os\nfor i in range({_LINES}): print('line', i, 'of', os.getpid())",
}
_LABEL = re.compile(r"^\[ranks? ([0-9, -]+)\] line ", re.MULTILINE)
_STUCK = {
    "while True: pass": ("", "while True: pass"),
    "time.sleep": ("", "import time; time.sleep(100)"),
    "a subprocess": ("", "import subprocess; subprocess.run(['sleep', '100'])"),
    "a numpy loop": ("", "import numpy as np\na = np.ones((300, 300))\nwhile True: a @ a"),
    "a stuck gloo all_reduce": ("torch", "if rank != 3: dist.all_reduce(torch.ones(1))"),
}


def _ask(kernel: MeasuredKernel, expression: str) -> tuple[float, ...]:
    text = kernel.execute(f"answer = {expression}", answer="answer")["answer"]
    return tuple(json.loads(text.strip("'")))


def _all_there(texts: list[str]) -> bool:
    """Whether every line of every rank was shown; one that ranks have in common counts for each."""
    said = sum(text.count("line ") for text in texts)
    shared = sum(_how_many(match[1]) - 1 for text in texts for match in _LABEL.finditer(text))
    return said + shared >= _LINES * _RANKS


def _how_many(ranks: str) -> int:
    ends = [part.split("-") for part in ranks.split(", ")]
    return sum(int(end[-1]) - int(end[0]) + 1 for end in ends)


def _cells(
    kernel: MeasuredKernel, magic: str, stream: str, push: str, runs: int
) -> dict[str, tuple[float, ...]]:
    """Time what both can do."""
    few = max(1, runs // 10)
    found: dict[str, tuple[float, ...]] = {}
    for count in (2, 4):
        kernel.execute(f"_ = start({count})")
        kernel.execute(f"quietly({magic!r}, '', '1;')")
        found[f"no-op cell, {count} ranks"] = _ask(
            kernel, f"times({runs}, lambda: quietly({magic!r}, '', '1;'))"
        )
        if count == 2 and magic == "px":
            kernel.execute("_ = cluster.stop_cluster_sync()")
    for sort, flood in _FLOODS.items():
        cell = f"%%{magic} {stream}\n{flood}"
        found[f"10,000 {sort} lines a rank, {_RANKS} ranks"] = tuple(
            kernel.shown(cell, _all_there)[0] for _ in range(few)
        )
    found["100 MB array to 4 ranks"] = _ask(kernel, f"times({few}, lambda: {push})")
    return found


def _ours(home: Path, runs: int) -> tuple[dict[str, tuple[float, ...]], dict[str, tuple[float, ...]]]:
    with MeasuredKernel("python3", home) as kernel:
        kernel.execute(_COMMON + _OURS)
        found = _cells(kernel, "distribute", "", "shell.run_line_magic('push', 'big')", runs)
        alone: dict[str, tuple[float, ...]] = {}
        few = max(1, min(5, runs // 10))
        for what, (line, body) in _STUCK.items():
            if line:
                kernel.execute(f"quietly('distribute {line}'.split()[0], {line!r}, '1;')")
            code = f"json.dumps([interrupted({line!r}, {body!r}) for _ in range({few})])"
            alone[f"interrupt of {what}, 4 ranks"] = _ask(kernel, code)
        alone["start of 4 ranks"] = _ask(kernel, f"json.dumps([start(4) for _ in range({few})])")
        kernel.execute("_ranks.stop(); heliostat.shutdown()")
    return found, alone


def _peer(home: Path, runs: int) -> dict[str, tuple[float, ...]]:
    with MeasuredKernel("python3", home) as kernel:
        kernel.execute(_COMMON + _PEER)
        found = _cells(kernel, "px", "--stream", "client[:].push({'big': big}, block=True)", runs)
        kernel.execute("_ = cluster.stop_cluster_sync()")
    return found


_GOALS = {"no-op": 0.7, "10,000": 0.5, "100 MB": 0.3}
_ALONE_GOALS = {"gloo": 1.0, "interrupt": 0.5, "start": 2.5}


def measure(runs: int) -> Report:
    """Measure both."""
    with own_home() as home:
        progress("%%distribute:")
        ours, alone = _ours(home, runs)
        progress("%%px:")
        peer = _peer(home, runs)
    figures = [
        Figure(what, "s", ours[what], next(goal for part, goal in _GOALS.items() if part in what), peer[what])
        for what in ours
    ]
    figures += [
        Figure(what, "s", values, next(goal for part, goal in _ALONE_GOALS.items() if part in what))
        for what, values in alone.items()
    ]
    return Report("", tuple(figures))


if __name__ == "__main__":
    main("distribute", __doc__ or "", 200, measure)
