"""Follows the runtime of one kernel for one page: what is new goes out, and nothing is kept."""

from __future__ import annotations

import asyncio
import time
from typing import TYPE_CHECKING, Any

import msgspec

from heliostat import _calls as calls
from heliostat._messages.base import ErrorBody
from heliostat._oom import oom_kills
from heliostat.exceptions import HeliostatError
from heliostat_lab._kernel_end import describe_end
from heliostat_lab._limits import clamp
from heliostat_lab._messages import StreamUpdate
from heliostat_lab._supervisor_client import SupervisorClient

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from heliostat._messages.runtime import Manifest, RuntimeStatus
    from heliostat._messages.usage import Sample
    from heliostat_lab._kernels import Kernels

_HISTORY_SECONDS = 900.0
_HISTORY_POINTS = 300
_LONG_POLL_SECONDS = 20.0
_SECONDS_BETWEEN_LOOKS = 0.5
"""For the runtime of a kernel that has none: it may be about to start one."""
_LONGEST_PAUSE = 8.0


class Relay:
    """Sends one kernel's news until its task is cancelled."""

    def __init__(
        self,
        kernel_id: str,
        kernels: Kernels,
        ceilings: Mapping[str, int],
        interval: float,
        send: Callable[[StreamUpdate], None],
    ) -> None:
        self._kernel_id, self._kernels, self._ceilings = kernel_id, kernels, ceilings
        self._interval, self._send = interval, send
        self._latest: Sample | None = None
        self._end_told = False
        self._oom_kills = 0

    async def run(self) -> None:
        """Follow one runtime after the other. Returns when the server has no such kernel any more."""
        absent, failures = False, 0
        while self._kernel_id in self._kernels:
            manifest = (await self._kernels.manifests()).get(self._kernel_id)
            self._look_at_kernel()
            if manifest is None:
                if not absent:
                    self._tell(present=False)
                absent = True
                await asyncio.sleep(_SECONDS_BETWEEN_LOOKS)
                continue
            absent = False
            try:
                await self._follow(manifest)
            except HeliostatError as error:
                failures = 0 if self._latest else failures + 1
                name = type(error).__name__
                self._tell(problem=ErrorBody(error=name, message=error.message, action=error.action))
                self._look_at_kernel()
                await asyncio.sleep(min(_SECONDS_BETWEEN_LOOKS * 2**failures, _LONGEST_PAUSE))
        self._tell(present=False)

    async def _follow(self, manifest: Manifest) -> None:
        client = SupervisorClient(manifest)
        self._latest, self._end_told = None, False
        self._oom_kills = oom_kills()
        waiting: asyncio.Task[RuntimeStatus] | None = None
        try:
            status = await client.ask(calls.status())
            self._tell(status=clamp(status, self._ceilings))
            news = _News(client, time.time() - _HISTORY_SECONDS)
            while True:
                waiting = waiting or asyncio.create_task(
                    client.ask(calls.status(status.version, _LONG_POLL_SECONDS))
                )
                await self._tell_readings(news)
                self._look_at_kernel()
                done, _ = await asyncio.wait({waiting}, timeout=self._interval)
                if done:
                    before, status, waiting = status, waiting.result(), None
                    if status.version != before.version:
                        self._tell(status=clamp(status, self._ceilings))
        finally:
            if waiting is not None:
                waiting.cancel()
            client.close()

    async def _tell_readings(self, news: _News) -> None:
        samples, changed = await news.samples(), await news.changed()
        if samples:
            self._latest, self._end_told = samples[-1], False
        if samples or any(part is not None for part in changed.values()):
            self._tell(samples=samples, **changed)

    def _look_at_kernel(self) -> None:
        """Tell once how the kernel's process ended, while the server still knows."""
        code = self._kernels.returncode(self._kernel_id)
        if code is None or self._end_told:
            return
        self._end_told = True
        oom_killed = oom_kills() > self._oom_kills
        end = describe_end(time.time(), code, self._latest, oom_killed=oom_killed)
        if end is not None:
            self._tell(kernel_end=end)

    def _tell(self, **parts: object) -> None:
        self._send(StreamUpdate(kernel_id=self._kernel_id, at=time.time(), **parts))  # type: ignore[arg-type]


class _News:
    """What one runtime's supervisor has to tell since it was asked last."""

    def __init__(self, client: SupervisorClient, since: float) -> None:
        self._client, self._since = client, since
        self._told: dict[str, object] = {}

    async def samples(self) -> list[Sample]:
        found = await self._client.ask(calls.samples(self._since))
        if found:
            self._since = found[-1].at
        return thin(found, _HISTORY_POINTS)

    async def changed(self) -> dict[str, object]:
        """Parts of a ``StreamUpdate``, by name; ``None`` for one without news."""
        asked: dict[str, calls.Call[Any]] = {
            "nodes": calls.nodes(),
            "cells": calls.cells(),
            "work": calls.work(),
            "ranks": calls.ranks(),
        }
        news: dict[str, object] = {}
        for name, call in asked.items():
            found = await self._client.ask(call)
            news[name] = None if found == self._told.get(name) else found
            self._told[name] = found
        return news


def thin(samples: list[Sample], most: int) -> list[Sample]:
    """Return at most ``most`` of the samples, evenly; the newest is always there, and alone has processes."""
    if not samples:
        return []
    step = -(-len(samples) // most)
    kept = samples[:-1][::-1][step - 1 :: step][::-1] if step > 1 else samples[:-1]
    return [*(_without_processes(sample) for sample in kept), samples[-1]]


def _without_processes(sample: Sample) -> Sample:
    gpus = sample.gpus and [msgspec.structs.replace(gpu, processes=None) for gpu in sample.gpus]
    return msgspec.structs.replace(sample, processes=[], gpus=gpus)
