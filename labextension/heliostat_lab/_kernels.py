"""Which runtime belongs to which kernel of this server, and how a kernel ended."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

from heliostat._supervisor.manifest import list_manifests
from heliostat.exceptions import HeliostatError, RuntimeUnavailableError

if TYPE_CHECKING:
    from heliostat._messages.runtime import Manifest


class Kernels:
    """The kernels of one Jupyter server, with the runtimes behind them. Keeps nothing."""

    def __init__(self, kernel_manager: Any) -> None:
        self._manager = kernel_manager

    def __contains__(self, kernel_id: object) -> bool:
        return kernel_id in self._manager

    async def manifests(self) -> dict[str, Manifest]:
        """The living runtimes of this server's kernels, by kernel id."""
        try:
            found = await asyncio.to_thread(list_manifests)
        except HeliostatError:
            # Where nothing can be written there is no runtime either.
            found = []
        ours = set(self._manager.list_kernel_ids())
        # Oldest first: where a kernel was restarted, the newest runtime counts.
        named = [(m.owner.kernel_id, m) for m in found]
        return {kernel_id: m for kernel_id, m in named if kernel_id is not None and kernel_id in ours}

    async def find(self, kernel_id: str) -> Manifest | None:
        """The runtime of a kernel, if it has one. Raises RuntimeUnavailableError for a foreign kernel."""
        if kernel_id not in self:
            message = f"This server has no kernel {kernel_id}."
            raise RuntimeUnavailableError(message)
        return (await self.manifests()).get(kernel_id)

    async def require(self, kernel_id: str) -> Manifest:
        """The runtime of a kernel. Raises RuntimeUnavailableError where there is none."""
        manifest = await self.find(kernel_id)
        if manifest is None:
            message = f"Kernel {kernel_id} has no runtime."
            action = "Choose the Heliostat kernel, or run `%load_ext heliostat`."
            raise RuntimeUnavailableError(message, action)
        return manifest

    def returncode(self, kernel_id: str) -> int | None:
        """How the kernel's process ended; ``None`` while it runs, or where that cannot be known."""
        try:
            provisioner = self._manager.get_kernel(kernel_id).provisioner
        except KeyError:
            return None
        process = getattr(provisioner, "process", None)
        code = None if process is None else process.poll()
        return code if isinstance(code, int) else None
