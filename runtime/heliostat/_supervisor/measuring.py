"""The supervisor's clock: one sample a second, and the accounts of the cells."""

from __future__ import annotations

import asyncio
import logging
import os
import time
from typing import TYPE_CHECKING

import msgspec

from heliostat._supervisor.accounts import Accounts
from heliostat._supervisor.gpu import GpuReader, gpu_count
from heliostat._supervisor.holding import describe_holders
from heliostat._supervisor.limits import machine_limits
from heliostat._supervisor.neighbours import Neighbours
from heliostat._supervisor.sampler import Sampler
from heliostat.exceptions import ConfigurationError

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Mapping

    from heliostat._cluster.control import ClusterView
    from heliostat._messages.cluster import Limits
    from heliostat._messages.usage import CellEvent, RayUse, Sample
    from heliostat._supervisor.config import SupervisorConfig

_log = logging.getLogger(__name__)
INTERVAL_SECONDS = 1.0


class Measuring:
    """Takes samples on the supervisor's event loop and keeps 15 minutes of them."""

    def __init__(
        self,
        config: SupervisorConfig,
        view: Callable[[], Awaitable[ClusterView | None]],
        names: Callable[[], Mapping[int, str]],
    ) -> None:
        self._config, self._view, self._names = config, view, names
        self._ray: RayUse | None = None
        self._gpus = GpuReader(kernel_of=Neighbours(config.runtime_id).kernel_of)
        self.sampler = Sampler(
            config.owner,
            os.getpid(),
            config.path,
            ray_use=lambda: self._ray,
            gpus=self._gpus,
            names=names,
        )
        self.accounts = Accounts(self.sampler.readings)

    def limits(self) -> Limits:
        """The most that may be asked for here, counted anew. Raises ConfigurationError."""
        return machine_limits(gpu_count(self._gpus.read({})), self._config.path)

    async def run(self) -> None:
        """Sample for ever; a reading that fails is logged once and tried again."""
        complained = False
        while True:
            began = time.monotonic()
            view = await self._view()
            self._ray = None if view is None else self._describe(view)
            try:
                self.accounts.observe(self.sampler.sample(time.time()))
            except Exception:
                if not complained:
                    _log.exception("a sample could not be taken")
                complained = True
            await asyncio.sleep(max(0.1, INTERVAL_SECONDS - (time.monotonic() - began)))

    def _describe(self, view: ClusterView) -> RayUse:
        return msgspec.structs.replace(view.use(), holders=describe_holders(view, self._names()))

    def samples(self, since: float) -> list[Sample]:
        """Samples taken after ``since``, oldest first."""
        return self.sampler.ring.since(since)

    def note(self, event: CellEvent) -> None:
        """Begin or end the account of a cell. Raises ConfigurationError for another phase."""
        if event.phase == "start":
            self.accounts.begin(event.cell_id, event.at)
        elif event.phase == "end":
            self.accounts.end(event.cell_id, event.at)
        else:
            message = f"A cell cannot {event.phase!r}: it can 'start' and 'end'."
            raise ConfigurationError(message)
