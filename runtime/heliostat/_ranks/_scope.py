"""What a rank finds in its namespace, and the process group of PyTorch, if it has one."""

from __future__ import annotations

import contextlib
import gc
import os
import sys
from typing import TYPE_CHECKING, Any

from heliostat._ranks import _tracebacks
from heliostat._ranks._facts import RESULT_OF
from heliostat._ranks._links import cut, sockets

if TYPE_CHECKING:
    from heliostat._ranks._facts import Place

__all__ = ["HELPER", "RankScope"]

HELPER = "_heliostat"
"""Name under which cells that we send find the scope; hidden from ``%who``."""


class RankScope:
    """Owner of the names that the user did not define."""

    def __init__(self, shell: Any) -> None:
        self._shell = shell
        self._place: Place | None = None
        self._links: dict[int, str] = {}
        """Connections of the process group."""
        self._store_port = 0
        self.last: Any = None
        """What the cell returned that just ended."""
        self.results: dict[str, Any] = {}
        """What cells returned that were asked to keep it, by request."""
        self.at = ""
        """Which piece of a map is being worked on, or was when it failed."""
        shell.events.register("post_run_cell", self._remember)

    @property
    def namespace(self) -> dict[str, Any]:
        """The user's variables."""
        namespace: dict[str, Any] = self._shell.user_ns
        return namespace

    @property
    def rank(self) -> int:
        """Number of this rank."""
        return 0 if self._place is None else self._place.rank

    @property
    def grouped(self) -> bool:
        """Whether a process group is up."""
        dist = sys.modules.get("torch.distributed")
        return dist is not None and dist.is_available() and dist.is_initialized()

    def settle(self, place: Place) -> None:
        """Bind ``rank``, ``local_rank``, ``world_size`` and ``device``."""
        self._place = place
        names = {
            "rank": place.rank,
            "local_rank": place.local_rank,
            "world_size": place.world_size,
            "device": _device(),
            HELPER: self,
        }
        self._shell.user_ns.update(names)
        self._shell.user_ns_hidden.update(names)
        # As torchrun sets them, for code that was written for it.
        os.environ.update(
            RANK=str(place.rank),
            LOCAL_RANK=str(place.local_rank),
            WORLD_SIZE=str(place.world_size),
            LOCAL_WORLD_SIZE=str(place.local_world_size),
        )

    def free_port(self) -> tuple[str, int]:
        """Return an address of this node that a process group can meet at."""
        import socket

        import ray

        host = ray.util.get_node_ip_address()
        with socket.socket() as listener:
            listener.bind((host, 0))
            return host, int(listener.getsockname()[1])

    def join_group(self, host: str, port: int, timeout_seconds: float) -> None:
        """Form the process group with all ranks; called on each of them at once."""
        import datetime as dt

        import torch
        import torch.distributed as dist

        assert self._place is not None
        self.drop_group()
        os.environ.update(MASTER_ADDR=host, MASTER_PORT=str(port))
        device = torch.device(_device())
        if device.type == "cuda":
            torch.cuda.set_device(device)
        before, self._store_port = sockets(), port
        dist.init_process_group(
            "nccl" if device.type == "cuda" else "gloo",
            init_method=f"tcp://{host}:{port}",
            rank=self._place.rank,
            world_size=self._place.world_size,
            timeout=dt.timedelta(seconds=timeout_seconds),
        )
        self._links = {each: name for each, name in sockets().items() if before.get(each) != name}
        self._shell.user_ns.update(torch=torch, dist=dist, device=device)

    def cut_links(self) -> None:
        """Have every rank that waits in a collective with this one, and this one, wake up with an error."""
        links, self._links = self._links, {}
        cut(links, self._store_port)

    def drop_group(self) -> None:
        """Leave the process group. Whoever waits for this rank in a collective wakes up."""
        self.cut_links()
        dist = sys.modules.get("torch.distributed")
        if dist is not None and self.grouped:
            with contextlib.suppress(Exception):
                dist.destroy_process_group()

    def after_failure(self, *, stopped: bool) -> None:
        """Free what the cell held that failed; if it was stopped, also the ranks that wait for this one."""
        error = getattr(sys, "last_exc", None) or getattr(sys, "last_value", None)
        _tracebacks.clear(error)
        if stopped:
            self.drop_group()
        gc.collect()
        torch = sys.modules.get("torch")
        if torch is not None and torch.cuda.is_available() and torch.cuda.is_initialized():
            torch.cuda.empty_cache()

    def size_of(self, names: list[str]) -> int:
        """Bytes of variables and kept results. Raises NameError for one that is not there."""
        from heliostat._ranks._sizes import measure

        total = 0
        for name in names:
            if name.startswith(RESULT_OF):
                total += measure(self.results.get(name.removeprefix(RESULT_OF)), "the result")
            elif name in self._shell.user_ns:
                total += measure(self._shell.user_ns[name], name)
            else:
                message = f"name {name!r} is not defined on rank {self.rank}"
                raise NameError(message)
        return total

    def map_work(self, body: str, name: str) -> None:
        """Run a body over the pieces that were sent here, and keep what it returns."""
        from heliostat._ranks._map import DONE, WORK, compile_body
        from heliostat._ranks._map_parts import Part

        function = compile_body(self._shell, body, name)
        pieces = self.namespace.pop(WORK)
        done = self.namespace[DONE] = []
        for index, key, piece in pieces:
            self.at = f"{name} {key!r}" if isinstance(key, str) else f"{name} {key}"
            part = piece.read() if isinstance(piece, Part) else piece
            done.append((index, function(part, key)))
        self.at = ""
        self._shell.user_ns_hidden[DONE] = None

    def _remember(self, result: Any) -> None:
        if result is not None and result.info is not None and not result.info.silent:
            self.last = result.result


def _device() -> str:
    # Ray gives each rank its own devices and hides the others, so the first one is ours.
    return "cuda:0" if os.environ.get("CUDA_VISIBLE_DEVICES", "") not in ("", "-1") else "cpu"
