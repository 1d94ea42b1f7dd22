"""``heliostat doctor``: is everything there, and if not, the command that mends it.

Each check is a function that looks and returns findings; nothing is changed and no runtime is
started. A finding that keeps runtimes from working is a failure, one that costs something is
a warning.
"""

from __future__ import annotations

import json
import shutil
import socket
import sys
from dataclasses import asdict, dataclass
from importlib import metadata
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from heliostat.exceptions import ConfigurationError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

__all__ = ["CHECKS", "Finding", "doctor", "examine"]

_MIB = 2**20
_SHM_WANTED = 512 * _MIB
_DISK_WANTED = 2048 * _MIB
_DISK_NEEDED = 256 * _MIB
_REINSTALL = "pip install --force-reinstall --no-deps heliostat"


@dataclass(frozen=True)
class Finding:
    """What a check saw."""

    check: str
    level: Literal["ok", "warn", "fail"]
    detail: str
    action: str = ""


def doctor(*, as_json: bool) -> int:
    """Run all checks and print them; return 1 if any failed."""
    findings = list(examine())
    if as_json:
        print(json.dumps([asdict(finding) for finding in findings], indent=2))
    else:
        width = max(len(finding.check) for finding in findings)
        for finding in findings:
            print(f"{finding.level:<4}  {finding.check:<{width}}  {finding.detail}")
            if finding.action and finding.level != "ok":
                print(f"{'':<4}  {'':<{width}}  -> {finding.action}")
    return 1 if any(finding.level == "fail" for finding in findings) else 0


def examine() -> Iterable[Finding]:
    """Run every check; one that breaks is itself a finding."""
    for name, check in CHECKS.items():
        try:
            yield from check()
        except Exception as error:
            yield Finding(name, "fail", f"the check itself failed: {type(error).__name__}: {error}")


def _python() -> Iterable[Finding]:
    version = ".".join(str(part) for part in sys.version_info[:3])
    level: Literal["ok", "fail"] = "ok" if sys.version_info >= (3, 11) else "fail"
    yield Finding("Python", level, f"{version} at {sys.executable}", "Install Python 3.11 or newer.")


def _ray() -> Iterable[Finding]:
    from packaging.requirements import Requirement

    try:
        texts = metadata.requires("heliostat") or []
    except metadata.PackageNotFoundError:
        yield Finding("Ray", "fail", "Heliostat is on the path, not installed", "pip install heliostat")
        return
    requirements = [Requirement(text) for text in texts]
    wanted = next(r.specifier for r in requirements if r.name == "ray" and r.marker is None)
    action = f'pip install "ray{wanted}"'
    try:
        found = metadata.version("ray")
    except metadata.PackageNotFoundError:
        yield Finding("Ray", "fail", "not installed", action)
        return
    yield Finding("Ray", "ok" if wanted.contains(found) else "fail", f"{found}, wanted {wanted}", action)
    if not wanted.contains(found):
        return
    from heliostat._cluster import compat

    for name, works, detail in compat.check():
        yield Finding(f"Ray: {name}", "ok" if works else "warn", detail, action)


def _kernelspec() -> Iterable[Finding]:
    from jupyter_client.kernelspec import KernelSpecManager, NoSuchKernel

    action = "python -m heliostat_kernel install --sys-prefix"
    try:
        spec = KernelSpecManager().get_kernel_spec("heliostat")
    except NoSuchKernel:
        yield Finding("kernel", "fail", "Jupyter has no kernelspec called heliostat", action)
        return
    python = spec.argv[0]
    foreign = Path(python).is_absolute() and Path(python) != Path(sys.executable)
    detail = f"{spec.resource_dir} runs {python}"
    yield Finding("kernel", "warn" if foreign else "ok", detail + ", another Python" * foreign, action)


def _lab_extension() -> Iterable[Finding]:
    from jupyter_core.paths import jupyter_path

    for directory in jupyter_path("labextensions"):
        package = Path(directory) / "heliostat/package.json"
        if package.is_file():
            yield Finding("lab extension", "ok", str(package.parent))
            return
    yield Finding("lab extension", "warn", "not installed: there is no panel in JupyterLab", _REINSTALL)


def _server_extension() -> Iterable[Finding]:
    from jupyter_core.paths import jupyter_config_path

    action = "jupyter server extension enable heliostat_lab --sys-prefix"
    for directory in jupyter_config_path():
        for file in sorted(Path(directory, "jupyter_server_config.d").glob("*.json")):
            extensions = json.loads(file.read_text()).get("ServerApp", {}).get("jpserver_extensions", {})
            if "heliostat_lab" in extensions:
                enabled = bool(extensions["heliostat_lab"])
                detail = f"{'enabled' if enabled else 'disabled'} in {file}"
                yield Finding("server extension", "ok" if enabled else "warn", detail, action)
                return
    yield Finding("server extension", "warn", "not enabled: the panel sees no runtime", action)


def _shared_memory() -> Iterable[Finding]:
    path = Path("/dev/shm")  # noqa: S108 - measured, not written to
    if not path.is_dir():
        yield Finding("shared memory", "fail", f"{path} is missing", "Mount a tmpfs on /dev/shm.")
        return
    free = shutil.disk_usage(path).free
    action = "Run the container with --shm-size=2g, or give the object store less with --object-store-memory."
    level: Literal["ok", "warn"] = "ok" if free >= _SHM_WANTED else "warn"
    yield Finding("shared memory", level, f"{free // _MIB} MiB free in {path}", action)


def _directories() -> Iterable[Finding]:
    from heliostat._paths import base_directory, manifest_directory

    places = (("private directory", base_directory), ("runtime directory", manifest_directory))
    for name, directory in places:
        try:
            yield Finding(name, "ok", str(directory()))
        except ConfigurationError as error:
            yield Finding(name, "fail", error.message, error.action)


def _disk() -> Iterable[Finding]:
    from heliostat._paths import base_directory

    try:
        path = base_directory()
    except ConfigurationError:
        return  # told by the check of the directories
    free = shutil.disk_usage(path).free
    level: Literal["ok", "warn", "fail"] = "ok"
    if free < _DISK_WANTED:
        level = "warn" if free >= _DISK_NEEDED else "fail"
    action = "Free some space, or set HELIOSTAT_TMPDIR to a roomier disk; Ray spills objects there."
    yield Finding("disk", level, f"{free // _MIB} MiB free for {path}", action)


def _nvml() -> Iterable[Finding]:
    import pynvml

    try:
        pynvml.nvmlInit()
    except pynvml.NVMLError_LibraryNotFound:
        yield Finding("GPUs", "ok", "no NVIDIA driver here")
        return
    except pynvml.NVMLError as error:
        yield Finding("GPUs", "warn", f"NVML does not start: {error}", "nvidia-smi")
        return
    count = pynvml.nvmlDeviceGetCount()
    pynvml.nvmlShutdown()
    yield Finding("GPUs", "ok", f"NVML sees {count}")


def _loopback() -> Iterable[Finding]:
    try:
        with socket.create_server(("127.0.0.1", 0)) as server:
            address = server.getsockname()
            with socket.create_connection(address, timeout=5):
                yield Finding("loopback", "ok", "ports on 127.0.0.1 can be opened and reached")
    except OSError as error:
        action = "ip link set lo up, or allow connections to 127.0.0.1 in the sandbox"
        yield Finding("loopback", "fail", f"127.0.0.1 does not work: {error}", action)


CHECKS: dict[str, Callable[[], Iterable[Finding]]] = {
    "Python": _python,
    "Ray": _ray,
    "kernel": _kernelspec,
    "lab extension": _lab_extension,
    "server extension": _server_extension,
    "shared memory": _shared_memory,
    "directories": _directories,
    "disk": _disk,
    "GPUs": _nvml,
    "loopback": _loopback,
}
