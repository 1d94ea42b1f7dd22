"""Boot a Ray node with what a notebook needs and nothing else.

A stock head starts an API server, a monitor, a log monitor and two agents: 12 s and a
gigabyte on two cores. None of them serves a notebook. Here the API server is left out, the
dashboard agent is a stub, and the runtime-environment agent starts on first use.

Ray ties its daemons to the *thread* that started them: when that thread ends, they are
killed. Call everything here from one thread that lives as long as the runtime.
"""

from __future__ import annotations

import contextlib
import shlex
import subprocess
import sys
import threading
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from heliostat._cluster.fast_import import import_ray

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

LOOPBACK = "127.0.0.1"
_HERE = Path(__file__).parent
_patching = threading.Lock()


@dataclass(frozen=True)
class NodeShape:
    """What a Ray node is told it has. ``None`` lets Ray decide."""

    cpus: int
    gpus: int = 0
    memory_bytes: int | None = None
    object_store_bytes: int | None = None
    plasma_directory: str | None = None


def slim_command(command: list[str]) -> list[str]:
    """Replace the two agents in a raylet's command line by our stand-ins, and start one worker ahead.

    One is there for the first cell with a task; each of them takes some 60 MB.
    """
    options = dict(part[2:].split("=", 1) for part in command if part.startswith("--") and "=" in part)

    def replaced(part: str) -> str:
        if part.startswith("--dashboard_agent_command="):
            stub = [
                "/bin/sh",
                str(_HERE / "dashboard_agent_stub.sh"),
                options["session_dir"],
                options["node_id"],
            ]
            return "--dashboard_agent_command=" + subprocess.list2cmdline(stub)
        if part.startswith("--runtime_env_agent_command="):
            real = shlex.split(part.split("=", 1)[1])
            entry = next(index for index, word in enumerate(real) if word.endswith("main.py"))
            lazy = [
                sys.executable,
                "-S",
                "-E",
                str(_HERE / "runtime_env_agent.py"),
                sys.executable,
                *real[entry:],
            ]
            return "--runtime_env_agent_command=" + subprocess.list2cmdline(lazy)
        if part.startswith("--num_prestart_python_workers="):
            return "--num_prestart_python_workers=1"
        return part

    return [replaced(part) for part in command]


@contextlib.contextmanager
def _slim_agents() -> Iterator[None]:
    """While open, raylets started by this process get the stand-ins."""
    import_ray()
    from ray._private import services

    original: Callable[..., Any] = services.start_ray_process

    def start(command: list[str], process_type: str, **options: Any) -> Any:
        if process_type == "raylet":
            command = slim_command(command)
        return original(command, process_type, **options)

    with _patching:
        services.start_ray_process = start
        try:
            yield
        finally:
            services.start_ray_process = original


def _parameters(shape: NodeShape, **more: Any) -> Any:
    from ray._private.parameter import RayParams

    return RayParams(
        node_ip_address=LOOPBACK,
        num_cpus=shape.cpus,
        num_gpus=shape.gpus,
        memory=shape.memory_bytes,
        object_store_memory=shape.object_store_bytes,
        plasma_directory=shape.plasma_directory,
        include_log_monitor=False,
        include_dashboard=False,
        dashboard_host=LOOPBACK,
        worker_path=str(_HERE / "worker_main.py"),
        setup_worker_path=str(_HERE / "worker_setup.py"),
        **more,
    )


def boot_head(shape: NodeShape, directory: Path, session: str, on_step: Callable[[str], None]) -> Any:
    """Start a head node whose session lies in ``directory``; returns Ray's node object.

    ``on_step`` is told the name of each part that is up. Raises whatever Ray raises.
    """
    import_ray()
    from ray._private.node import Node

    class SlimNode(Node):  # type: ignore[misc]
        def start_api_server(self, **_: Any) -> None:
            on_step("GCS up")
            self._webui_url = ""

    # Waiting for prestarted workers blocks the first driver, with its GIL held, for seconds.
    config = {"prestart_worker_first_driver": False, "enable_worker_prestart": True}
    parameters = _parameters(
        shape, temp_dir=str(directory), session_name=session, no_monitor=True, _system_config=config
    )
    with _slim_agents():
        node = SlimNode(
            parameters, head=True, shutdown_at_exit=False, spawn_reaper=True, ray_init_cluster=True
        )
    on_step("raylet up")
    return node


def boot_stock_head(shape: NodeShape, directory: Path, session: str, on_step: Callable[[str], None]) -> Any:
    """Start a head node the way Ray itself does: the fallback when the slim boot fails."""
    import_ray()
    from ray._private.node import Node

    parameters = _parameters(shape, temp_dir=str(directory), session_name=session, no_monitor=True)
    node = Node(parameters, head=True, shutdown_at_exit=False, spawn_reaper=True, ray_init_cluster=True)
    on_step("stock head up")
    return node


def boot_worker_node(shape: NodeShape, gcs_address: str, directory: Path) -> Any:
    """Start one more raylet on this machine; returns Ray's node object."""
    import_ray()
    from ray._private.node import Node

    parameters = _parameters(shape, gcs_address=gcs_address, temp_dir=str(directory))
    with _slim_agents():
        return Node(parameters, head=False, shutdown_at_exit=False, spawn_reaper=True)
