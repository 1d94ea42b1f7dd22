"""Where ranks meet, and the process group that they form there.

Rank 0 keeps the meeting point (a TCPStore) in its process, on a socket that is bound beforehand,
so that no port is guessed and on one machine nothing listens to the network. It is announced by
the variables that torchrun sets, so a ``train_func`` that calls ``init_process_group`` itself
finds it as well.
"""

from __future__ import annotations

import contextlib
import inspect
import itertools
import os
import socket
from datetime import timedelta
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence

    from heliostat.modeling._workers import WorkerContext
    from heliostat.modeling.distributors.pytorch._job import Job

_AFTER_OURS_S = 60.0
"""Torch gives up a collective this much later than the driver, whose report says more."""
_LOOPBACK = "127.0.0.1"


def default_backend(gpus: int) -> str:
    """Backend for ranks that have ``gpus`` each."""
    return "nccl" if gpus else "gloo"


def supported_backends() -> list[str]:
    """Backends of the installed torch."""
    import torch.distributed as dist

    found = {
        "gloo": dist.is_gloo_available(),
        "nccl": dist.is_nccl_available(),
        "mpi": dist.is_mpi_available(),
    }
    return [name for name, there in found.items() if there]


def meet(context: WorkerContext, job: Job) -> tuple[Any, dict[str, str]]:
    """Agree on a meeting point; returns rank 0's store (to be kept) and variables to set."""
    import torch.distributed as dist

    store = None
    mine: tuple[str, int] | None = None
    if context.rank == 0:
        host = _LOOPBACK if job.local else _own_address()
        listener = socket.create_server((host, 0), backlog=512)
        port = int(listener.getsockname()[1])
        store = dist.TCPStore(  # type: ignore[attr-defined]
            host, port, None, True, wait_for_workers=False, master_listen_fd=listener.detach()
        )
        mine = (host, port)
    host, port = context.gather(mine)[0]
    position = job.position
    variables = {
        "MASTER_ADDR": host,
        "MASTER_PORT": str(port),
        "RANK": str(position.rank),
        "WORLD_SIZE": str(position.size),
        "LOCAL_RANK": str(position.local_rank),
        "LOCAL_WORLD_SIZE": str(position.local_size),
        "GROUP_RANK": str(position.node_rank),
        "NODE_RANK": str(position.node_rank),
        # Torch then connects to our store instead of opening one of its own.
        "TORCHELASTIC_USE_AGENT_STORE": "True",
        "TORCHELASTIC_RESTART_COUNT": str(job.attempt),
        "TORCHELASTIC_RUN_ID": job.request_id,
    }
    if job.local:
        variables |= {"GLOO_SOCKET_IFNAME": _loopback_name(), "NCCL_SOCKET_IFNAME": _loopback_name()}
    return store, variables


def share_devices(context: WorkerContext, job: Job) -> int | None:
    """Let the ranks of a node see each other's GPUs; returns the index of the own one."""
    from heliostat.modeling.distributors.pytorch._plan import shared_devices

    if not job.gpus:
        return None
    visible = [name for name in os.environ.get("CUDA_VISIBLE_DEVICES", "").split(",") if name]
    everyone: Sequence[tuple[list[str], int]] = context.gather((visible, job.position.node_rank))
    together = shared_devices([devices for devices, _ in everyone], [node for _, node in everyone])
    os.environ["CUDA_VISIBLE_DEVICES"] = together[context.rank]
    # By its name: ranks with several GPUs, or with shares of one, do not count alike.
    return together[context.rank].split(",").index(visible[0]) if visible else None


@contextlib.contextmanager
def process_group(job: Job, device: int | None) -> Iterator[None]:
    """Have the process group up for the length of the block; leave none behind."""
    import torch.distributed as dist

    backend = default_backend(job.gpus)
    if device is not None:
        import torch

        if torch.cuda.is_available():
            torch.cuda.set_device(device)
    restore = _accept_further_calls(job, backend)
    try:
        if not job.legacy:
            timeout = timedelta(seconds=job.hang_timeout_s + _AFTER_OURS_S)
            dist.init_process_group(backend, timeout=timeout, **_device(device))
        yield
    finally:
        restore()
        if dist.is_initialized():
            with contextlib.suppress(Exception):
                dist.destroy_process_group()
        _count_groups_anew()


def _accept_further_calls(job: Job, backend: str) -> Callable[[], None]:
    """Let a ``train_func`` that calls ``init_process_group`` find it done, instead of failing.

    A call for another backend replaces the group.
    """
    import torch.distributed as dist
    from torch.distributed import distributed_c10d as inner

    real = inner.init_process_group
    signature = inspect.signature(real)
    names = itertools.count()

    def init_process_group(*args: Any, **kwargs: Any) -> None:
        given = signature.bind(*args, **kwargs).arguments
        asked = given.get("backend")
        if dist.is_initialized() and not job.legacy:
            if asked in (None, backend):
                return
            dist.destroy_process_group()
        if given.get("store") is None and asked not in ("fake", "mpi"):
            given |= _meet_again(given, f"group {next(names)}")
        real(**given)

    def put(function: Any) -> None:
        dist.init_process_group = function
        inner.init_process_group = function

    put(init_process_group)
    return lambda: put(real)


def _meet_again(given: Mapping[str, Any], name: str) -> dict[str, Any]:
    """What ``init_process_group`` needs to meet under a ``name`` of its own.

    Torch calls every default group alike, and the meeting point still holds the addresses of the
    one before: a rank that is early would connect to a neighbour's former, closed address.
    """
    import torch.distributed as dist
    from torch.distributed.rendezvous import rendezvous

    timeout = given.get("timeout")
    url = given.get("init_method") or "env://"
    waits = {} if timeout is None else {"timeout": timeout}
    met = rendezvous(url, given.get("rank", -1), given.get("world_size", -1), **waits)
    store, rank, size = next(met)
    if timeout is not None:
        store.set_timeout(timeout)
    # The class is there wherever torch has collectives, which the type stubs do not know.
    prefixed = dist.PrefixStore(name, store)  # type: ignore[attr-defined]
    return {"init_method": None, "store": prefixed, "rank": rank, "world_size": size}


def _count_groups_anew() -> None:
    """Undo what a group that failed to come up leaves: torch names groups by counting them.

    A process that counts otherwise than its neighbours would wait for them under another name.
    """
    from torch.distributed import distributed_c10d as inner

    with contextlib.suppress(AttributeError):
        inner._world.group_count = 0


def _device(device: int | None) -> dict[str, Any]:
    if device is None:
        return {}
    import torch

    return {"device_id": torch.device("cuda", device)}


def _own_address() -> str:
    import ray

    return str(ray.util.get_node_ip_address())


def _loopback_name() -> str:
    names = [name for _, name in socket.if_nameindex()]
    return next((name for name in ("lo", "lo0") if name in names), names[0])
