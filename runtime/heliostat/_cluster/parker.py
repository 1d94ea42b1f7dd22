"""Hold CPUs and GPUs so that nobody else is given them. A process of its own.

Ray cannot take a GPU away from a node, nor a CPU that a queue takes again the moment it is
free. A held resource is as good as gone, and is given back in an instant. This runs as a small
Ray driver: whatever it holds is free again when it ends, however it ends.

It reads wishes (``{"cpus": 1, "gpus": 2}``) from stdin and writes what it holds to stdout, a
JSON line each. ``Parking`` is the supervisor's side of it.
"""

from __future__ import annotations

import contextlib
import json
import os
import queue
import subprocess
import sys
import threading
from typing import TYPE_CHECKING, Any

from heliostat._cluster.control import PARKING_NAMESPACE
from heliostat._cluster.fast_import import import_ray

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

_POLL_SECONDS = 0.05


class Parking:
    """The supervisor's handle on the parking process, which it starts when first needed."""

    def __init__(self, address: str) -> None:
        self._address = address
        self._process: subprocess.Popen[str] | None = None
        self._wish = (0, 0)
        self.held: dict[str, float] = {}
        """Resources held now, by Ray's names."""

    def want(self, cpus: int, gpus: int) -> None:
        """Hold this much from now on. Returns at once; ``held`` follows."""
        if self._process is not None and self._process.poll() is not None:
            self.close()
        if (cpus, gpus) == self._wish:
            return
        if self._process is None:
            self._start()
        process = self._process
        if process is None or process.stdin is None:
            return
        self._wish = (cpus, gpus)
        try:
            process.stdin.write(json.dumps({"cpus": cpus, "gpus": gpus}) + "\n")
            process.stdin.flush()
        except BrokenPipeError:
            self.close()

    def close(self) -> None:
        """Give everything back."""
        process, self._process = self._process, None
        self._wish, self.held = (0, 0), {}
        if process is not None:
            process.kill()
            process.wait()

    def _start(self) -> None:
        command = [sys.executable, "-m", "heliostat._cluster.parker", self._address]
        self._process = subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, cwd="/"
        )
        threading.Thread(target=self._follow, args=(self._process,), daemon=True).start()

    def _follow(self, process: subprocess.Popen[str]) -> None:
        for line in process.stdout or ():
            held = json.loads(line)
            if process is self._process:
                self.held = {"CPU": float(held["cpus"]), "GPU": float(held["gpus"])}


class _Holder:
    """Asks Ray for resources one at a time, and lets go of them."""

    def __init__(
        self, acquire: Callable[[], Any], granted: Callable[[Any], bool], release: Callable[[Any], None]
    ) -> None:
        self._acquire, self._granted, self._release = acquire, granted, release
        self._asked: list[Any] = []

    def hold(self, count: int) -> None:
        """Ask for more, or let go of those that were asked for last."""
        while len(self._asked) < count:
            self._asked.append(self._acquire())
        while len(self._asked) > count:
            self._release(self._asked.pop())

    def held(self) -> int:
        """How many have been granted."""
        return sum(self._granted(one) for one in self._asked)


def _holders(ray: Any) -> tuple[_Holder, _Holder]:
    from ray.util.placement_group import placement_group, remove_placement_group

    class Idle:
        def ready(self) -> bool:
            return True

    parked: Any = ray.remote(num_cpus=1, max_restarts=0)(Idle)

    def acquire_cpu() -> tuple[Any, Any]:
        actor = parked.remote()
        return actor, actor.ready.remote()

    def cpu_granted(one: tuple[Any, Any]) -> bool:
        done, _ = ray.wait([one[1]], timeout=0)
        return bool(done)

    cpus = _Holder(acquire_cpu, cpu_granted, lambda one: ray.kill(one[0]))
    # A placement group, unlike an actor, holds its GPU without a worker process.
    gpus = _Holder(
        lambda: placement_group([{"GPU": 1}]), lambda one: bool(one.wait(0)), remove_placement_group
    )
    return cpus, gpus


def _wishes(lines: Iterator[str]) -> queue.Queue[dict[str, int] | None]:
    received: queue.Queue[dict[str, int] | None] = queue.Queue()

    def read() -> None:
        for line in lines:
            received.put(json.loads(line))
        received.put(None)

    threading.Thread(target=read, daemon=True).start()
    return received


def main(address: str) -> None:
    """Serve wishes from stdin until it closes."""
    out = os.fdopen(os.dup(1), "w", buffering=1)
    os.dup2(2, 1)
    received = _wishes(iter(sys.stdin))
    ray = import_ray()
    ray.init(address=address, log_to_driver=False, logging_level="ERROR", namespace=PARKING_NAMESPACE)
    cpus, gpus = _holders(ray)
    wish, reported = (0, 0), (0, 0)
    while True:
        with contextlib.suppress(queue.Empty):
            line = received.get(timeout=None if reported == wish else _POLL_SECONDS)
            if line is None:
                return
            wish = (line["cpus"], line["gpus"])
            cpus.hold(wish[0])
            gpus.hold(wish[1])
        held = (cpus.held(), gpus.held())
        if held != reported:
            reported = held
            out.write(json.dumps({"cpus": held[0], "gpus": held[1]}) + "\n")


if __name__ == "__main__":
    main(sys.argv[1])
