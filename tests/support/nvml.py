"""The stand-in for NVIDIA's library, and a process that reads GPUs through it."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import msgspec

from heliostat._messages.usage import Gpu
from heliostat._supervisor.gpu import GpuReader

if TYPE_CHECKING:
    from collections.abc import Mapping
    from typing import Self

_SOURCE = Path(__file__).with_name("fake_nvml.c")
_READER = """
import sys
import msgspec
from heliostat._supervisor.gpu import GpuReader, OurProcess
reader = GpuReader()
for line in sys.stdin:
    ours = {int(pid): OurProcess(*what) for pid, what in msgspec.json.decode(line).items()}
    print(msgspec.json.encode(reader.read(ours)).decode(), flush=True)
"""


def build_fake_nvml(directory: Path) -> Path:
    """Compile the stand-in into ``directory``; put that on ``LD_LIBRARY_PATH`` to use it."""
    library = directory / "libnvidia-ml.so.1"
    subprocess.run(
        ["gcc", "-shared", "-fPIC", "-Wall", "-Wextra", "-Werror", "-O1", "-o", library, _SOURCE], check=True
    )
    return directory


def fake_nvml_environment(library: Path, figures: Path) -> dict[str, str]:
    """Environment variables that make a process see the GPUs written in the file ``figures``."""
    return {"LD_LIBRARY_PATH": str(library), "HELIOSTAT_FAKE_NVML": str(figures)}


class GpuProbe:
    """A process with the stand-in loaded, which reads the GPUs whenever it is asked.

    The figures can be changed between two readings, see ``fake_nvml.c`` for their form.
    """

    def __init__(self, library: Path, figures: Path, **environment: str) -> None:
        self._figures = figures
        inherited = {name: value for name, value in os.environ.items() if name != "CUDA_VISIBLE_DEVICES"}
        self._process = subprocess.Popen(
            [sys.executable, "-c", _READER],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            env=inherited | fake_nvml_environment(library, figures) | environment,
        )

    def show(self, text: str) -> None:
        """Change what the stand-in says from now on."""
        self._figures.write_text(text)

    def read(self, ours: Mapping[int, tuple[str, str]] | None = None) -> list[Gpu] | None:
        """Read the GPUs; ``ours`` maps pids to role and name."""
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.write(msgspec.json.encode(ours or {}).decode() + "\n")
        self._process.stdin.flush()
        return msgspec.json.decode(self._process.stdout.readline(), type=list[Gpu] | None)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_exception: object) -> None:
        self._process.kill()
        self._process.communicate()


class NoGpus(GpuReader):
    """Leaves this machine's GPUs out of tests that are about processes."""

    def read(self, _ours: object = None) -> None:
        """Say that there is no NVML."""
