"""GPUs as NVML sees them, and how many of them are ours.

NVML refuses single questions for many reasons (not supported on this model or in MIG mode, no
permission, a GPU that fell off the bus). A refusal makes that one value ``None``, never zero and
never an exception. The NVIDIA library is looked for once; where it is missing, the Python binding
is not even imported.
"""

from __future__ import annotations

import ctypes
import os
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from heliostat._messages.usage import Gpu, GpuProcess
from heliostat._supervisor.limits import read_count

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping

_LIBRARY = "libnvidia-ml.so.1"
_TEMPERATURE_OF_GPU = 0
VISIBLE = "CUDA_VISIBLE_DEVICES"
LOGICAL = "HELIOSTAT_GPUS"


@dataclass(frozen=True, slots=True)
class OurProcess:
    """One process of this runtime, for naming it on a GPU."""

    role: str
    name: str


class GpuReader:
    """Reads this machine's GPUs.

    The GPUs listed are those that ``CUDA_VISIBLE_DEVICES`` leaves to us. A GPU in MIG mode is
    listed as its slices, each with the index of its GPU and a uuid of its own; without slices it
    cannot compute and is not listed. ``kernel_of`` tells whose a process is that is not ours.
    """

    def __init__(
        self,
        environ: Mapping[str, str] | None = None,
        kernel_of: Callable[[int], str | None] = lambda _: None,
    ) -> None:
        self._environ = os.environ if environ is None else environ
        self._kernel_of = kernel_of
        self._nvml: Any = None
        self._opened = False
        self._known: dict[int, tuple[str, str]] = {}

    def read(self, ours: Mapping[int, OurProcess] | None = None) -> list[Gpu] | None:
        """Read every GPU that is ours.

        ``ours`` maps the pids of this runtime to what they are; other processes get no role.
        Returns ``None`` without a working NVML. About 1 ms a GPU; the driver may hold a call
        for some 100 ms while it wakes or resets a GPU (no persistence mode).

        In a container whose driver shows no processes, ``processes`` is empty on a busy GPU.
        """
        nvml = self._open()
        count = None if nvml is None else self._ask(nvml.nvmlDeviceGetCount)
        if count is None:
            return None
        found = [gpu for index in range(count) for gpu in self._device(nvml, index, ours or {})]
        return visible(found, self._environ.get(VISIBLE))

    def close(self) -> None:
        """Let go of NVML; the next ``read`` opens it again."""
        if self._nvml is not None:
            self._ask(self._nvml.nvmlShutdown)
        self._nvml, self._opened = None, False

    def _open(self) -> Any:
        if self._opened:
            return self._nvml
        self._opened = True
        try:
            ctypes.CDLL(_LIBRARY)
            import pynvml
        except (OSError, ImportError):
            return None
        try:
            pynvml.nvmlInit()
        except pynvml.NVMLError:
            return None
        self._nvml = pynvml
        return pynvml

    def _ask(self, question: Callable[..., Any], *arguments: Any, **options: Any) -> Any:
        try:
            return question(*arguments, **options)
        except self._nvml.NVMLError:
            return None

    def _device(self, nvml: Any, index: int, ours: Mapping[int, OurProcess]) -> list[Gpu]:
        handle = self._ask(nvml.nvmlDeviceGetHandleByIndex, index)
        if handle is None:
            uuid, name = self._known.get(index, (f"unknown-{index}", f"GPU {index}"))
            return [_lost(index, uuid, name)]
        mode = self._ask(nvml.nvmlDeviceGetMigMode, handle)
        if mode is None or mode[0] == 0:
            return [self._figures(nvml, handle, index, ours, mig=False)]
        slices = self._ask(nvml.nvmlDeviceGetMaxMigDeviceCount, handle) or 0
        handles = (self._ask(nvml.nvmlDeviceGetMigDeviceHandleByIndex, handle, n) for n in range(slices))
        return [self._figures(nvml, one, index, ours, mig=True) for one in handles if one is not None]

    def _figures(
        self, nvml: Any, handle: Any, index: int, ours: Mapping[int, OurProcess], *, mig: bool
    ) -> Gpu:
        uuid = self._ask(nvml.nvmlDeviceGetUUID, handle)
        name = self._ask(nvml.nvmlDeviceGetName, handle)
        if not mig and uuid is not None and name is not None:
            self._known[index] = (uuid, name)
        known_uuid, known_name = self._known.get(index, (f"unknown-{index}", f"GPU {index}"))
        busy = self._ask(nvml.nvmlDeviceGetUtilizationRates, handle)
        # The second version leaves what the driver reserves out of what is used.
        memory = self._ask(nvml.nvmlDeviceGetMemoryInfo, handle, version=nvml.nvmlMemory_v2)
        memory = memory or self._ask(nvml.nvmlDeviceGetMemoryInfo, handle)
        temperature = self._ask(nvml.nvmlDeviceGetTemperature, handle, _TEMPERATURE_OF_GPU)
        return Gpu(
            index=index,
            uuid=known_uuid if uuid is None else uuid,
            name=known_name if name is None else name,
            mig=mig,
            utilization_percent=None if busy is None else float(busy.gpu),
            memory_used_bytes=None if memory is None else int(memory.used),
            memory_limit_bytes=None if memory is None else int(memory.total),
            temperature_celsius=None if temperature is None else float(temperature),
            power_watts=_watts(self._ask(nvml.nvmlDeviceGetPowerUsage, handle)),
            power_limit_watts=_watts(self._ask(nvml.nvmlDeviceGetEnforcedPowerLimit, handle)),
            processes=self._processes(nvml, handle, ours),
        )

    def _processes(self, nvml: Any, handle: Any, ours: Mapping[int, OurProcess]) -> list[GpuProcess] | None:
        """List who computes or draws here; a process that does both is listed once."""
        held: dict[int, int | None] = {}
        answered = False
        for kind in ("Compute", "Graphics"):
            question = f"nvmlDeviceGet{kind}RunningProcesses"
            # Drivers before 510 know only the second version of the question.
            answer = self._ask(getattr(nvml, f"{question}_v3"), handle)
            if answer is None:
                answer = self._ask(getattr(nvml, f"{question}_v2"), handle)
            answered |= answer is not None
            for process in answer or ():
                # Both lists give what the process holds in all, so this is no sum.
                held[process.pid] = _largest(held.get(process.pid), process.usedGpuMemory)
        if not answered:
            return None
        return [
            GpuProcess(
                pid=pid,
                memory_bytes=memory,
                role=ours[pid].role if pid in ours else None,
                name=ours[pid].name if pid in ours else self._name(nvml, pid),
                kernel_id=None if pid in ours else self._kernel_of(pid),
            )
            for pid, memory in sorted(held.items())
        ]

    def _name(self, nvml: Any, pid: int) -> str | None:
        path = self._ask(nvml.nvmlSystemGetProcessName, pid)
        return os.path.basename(str(path).split(" ", 1)[0]) if path else None  # noqa: PTH119 - no file here


def _lost(index: int, uuid: str, name: str) -> Gpu:
    return Gpu(
        index=index,
        uuid=uuid,
        name=name,
        mig=False,
        utilization_percent=None,
        memory_used_bytes=None,
        memory_limit_bytes=None,
        temperature_celsius=None,
        power_watts=None,
        power_limit_watts=None,
        processes=None,
    )


def _watts(milliwatts: int | None) -> float | None:
    return None if milliwatts is None else milliwatts / 1000


def _largest(one: int | None, other: int | None) -> int | None:
    return max((value for value in (one, other) if value is not None), default=None)


def visible(gpus: Iterable[Gpu], setting: str | None) -> list[Gpu]:
    """Pick the GPUs that CUDA would let a process use under ``CUDA_VISIBLE_DEVICES=setting``.

    Numbers are GPUs (of one in MIG mode its first slice, as CUDA does), names are uuids or
    unique beginnings of them. As in CUDA, the first entry that fits nothing ends the list, and
    an empty setting leaves none. ``None`` (not set) leaves all.
    """
    everything = list(gpus)
    if setting is None:
        return everything
    chosen: list[Gpu] = []
    for entry in setting.split(","):
        word = entry.strip()
        if word.isascii() and word.isdigit():
            matches = [gpu for gpu in everything if gpu.index == int(word)][:1]
        else:
            matches = [gpu for gpu in everything if word and gpu.uuid.startswith(word)]
        if len(matches) != 1 or matches[0] in chosen:
            break
        chosen.append(matches[0])
    return chosen


def gpu_count(gpus: list[Gpu] | None, environ: Mapping[str, str] | None = None) -> int:
    """Tell how many GPUs Ray is given.

    ``gpus`` is what ``GpuReader.read`` returned. ``HELIOSTAT_GPUS`` replaces their number: Ray
    then hands out that many numbers of devices, whether NVML sees them or not. Raises
    ConfigurationError, naming the variable, if it is not a whole number.
    """
    logical = read_count(LOGICAL, os.environ if environ is None else environ, 0)
    return len(gpus or []) if logical is None else logical
