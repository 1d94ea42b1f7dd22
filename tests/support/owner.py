"""A real process that owns a runtime and runs Python that a test gives it.

Tests of death, security and resizing need an owner that they can kill, or that hangs, without
taking the test along. It reads code line by line and answers with a JSON line: the value of the
last expression, or the error.
"""

from __future__ import annotations

import contextlib
import json
import os
import queue
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import psutil

from heliostat._supervisor.processes import Identity, marked_with

if TYPE_CHECKING:
    from collections.abc import Callable

_PROGRAM = """
import ast, json, sys, os, time, traceback
out = os.fdopen(os.dup(1), "w", buffering=1)
os.dup2(2, 1)
import heliostat
from heliostat import _handle
from heliostat._sizes import make_target
space = dict(globals())
for line in sys.stdin:
    tree = ast.parse(json.loads(line))
    last = tree.body.pop() if tree.body and isinstance(tree.body[-1], ast.Expr) else None
    try:
        exec(compile(tree, "<test>", "exec"), space)
        value = None if last is None else eval(compile(ast.Expression(last.value), "<test>", "eval"), space)
        answer = {"value": value}
    except BaseException as error:
        answer = {"error": type(error).__name__, "message": str(error), "trace": traceback.format_exc()}
        answer["fields"] = getattr(error, "fields", {})
    out.write(json.dumps(answer, default=str) + chr(10))
"""


class Failed(Exception):  # noqa: N818 - reads better in raises
    """The code that ran in the owner raised; ``name`` is the class of what it raised."""

    def __init__(self, answer: dict[str, Any]) -> None:
        super().__init__(answer["trace"])
        self.name: str = answer["error"]
        self.message: str = answer["message"]
        self.fields: dict[str, Any] = answer["fields"]


class Owner:
    """A process that owns a runtime."""

    def __init__(self, directory: Path, sizes: str, environment: dict[str, str]) -> None:
        self.stderr_path = directory / f"owner-{time.monotonic_ns()}.err"
        self.environment = {
            **{key: value for key, value in os.environ.items() if not key.startswith(("RAY_", "HELIOSTAT_"))},
            "JUPYTER_RUNTIME_DIR": str(directory / "jupyter"),
            **environment,
        }
        with self.stderr_path.open("w") as errors:
            self.process = subprocess.Popen(
                [sys.executable, "-c", _PROGRAM],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=errors,
                text=True,
                env=self.environment,
                start_new_session=True,
            )
        self._answers: queue.Queue[str] = queue.Queue()
        threading.Thread(target=self._read, daemon=True).start()
        self.sizes = sizes
        if sizes != "none":
            self.run(f"runtime = _handle.init({sizes})", seconds=90)
            self.run("import ray")
            facts = self.run(
                "s = runtime.status(); [s.runtime_id, s.supervisor_pid, s.session_dir, s.address]"
            )
            self.runtime_id, self.supervisor_pid, directory_name, self.address = facts
            self.directory = Path(directory_name)

    def _read(self) -> None:
        for line in self.process.stdout or ():
            self._answers.put(line)

    def send(self, code: str) -> None:
        """Have code run without waiting for its answer; ``answer`` takes it later."""
        assert self.process.stdin is not None
        self.process.stdin.write(json.dumps(code) + "\n")
        self.process.stdin.flush()

    def answer(self, seconds: float = 60) -> Any:
        """Wait for the answer to the oldest code that was sent. Raises Failed."""
        try:
            answer = json.loads(self._answers.get(timeout=seconds))
        except queue.Empty:
            message = f"no answer in {seconds} s; it said: {self.said()[-2000:]}"
            raise TimeoutError(message) from None
        if "error" in answer:
            raise Failed(answer)
        return answer["value"]

    def run(self, code: str, seconds: float = 60) -> Any:
        """Run code in the owner and return the value of its last expression."""
        self.send(code)
        return self.answer(seconds)

    def said(self) -> str:
        """What the owner wrote to stderr."""
        return self.stderr_path.read_text()

    def supervised(self) -> list[Identity]:
        """The supervisor and everything that carries the runtime's mark."""
        supervisor = Identity.of(self.supervisor_pid)
        return [*([supervisor] if supervisor else []), *marked_with([self.runtime_id])]

    def process_named(self, name: str) -> Identity:
        """The supervised process whose executable is called ``name``."""
        for process in self.supervised():
            with contextlib.suppress(psutil.Error):
                if psutil.Process(process.pid).name() == name:
                    return process
        message = f"no process {name}"
        raise LookupError(message)

    def kill(self) -> None:
        """``kill -9`` the owner itself."""
        self.process.kill()
        self.process.wait()

    def end(self) -> None:
        """End the owner and whatever its runtime left, by identity."""
        if self.process.poll() is None:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(self.process.pid, signal.SIGKILL)
        self.process.wait()
        if self.process.stdin is not None:
            with contextlib.suppress(BrokenPipeError):
                self.process.stdin.close()
        if self.process.stdout is not None:
            self.process.stdout.close()
        if hasattr(self, "runtime_id"):
            wait_for(lambda: not self.supervised(), 10)


def wait_for(condition: Callable[[], Any], seconds: float) -> float:
    """Return after how many seconds ``condition`` held; fail when it did not in time."""
    started = time.monotonic()
    while not condition():
        if time.monotonic() - started > seconds:
            message = f"did not come true in {seconds} s"
            raise AssertionError(message)
        time.sleep(0.02)
    return time.monotonic() - started
