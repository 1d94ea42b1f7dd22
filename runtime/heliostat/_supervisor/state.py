"""The status of a runtime: one immutable value, replaced as a whole, that others can wait on.

Lives on the supervisor's event loop. Threads hand changes over with ``loop.call_soon_threadsafe``.
"""

from __future__ import annotations

import asyncio
import logging
import os
import time
from typing import TYPE_CHECKING, Any

import msgspec

from heliostat._messages.runtime import Failure, RuntimeState, RuntimeStatus, Step, Transition
from heliostat._supervisor.config import TOKEN
from heliostat._supervisor.processes import own_age

if TYPE_CHECKING:
    from heliostat._supervisor.config import SupervisorConfig

_KEPT_TRANSITIONS = 100
_log = logging.getLogger(__name__)


class StatusBoard:
    """Holds the current ``RuntimeStatus`` and wakes whoever waits for the next one."""

    def __init__(self, initial: RuntimeStatus) -> None:
        self.status = initial
        self._changed = asyncio.Event()

    def update(self, **changes: Any) -> None:
        """Replace fields of the status; its version grows by one."""
        version = self.status.version + 1
        self.status = msgspec.structs.replace(self.status, version=version, **changes)
        changed, self._changed = self._changed, asyncio.Event()
        changed.set()

    def move(self, state: RuntimeState, reason: str, **changes: Any) -> None:
        """Go to ``state`` for ``reason``; a failure is forgotten unless it is given anew."""
        _log.info("%s: %s", state, reason)
        now = time.time()
        transitions = [*self.status.transitions, Transition(state=state, at=now, reason=reason)]
        changes.setdefault("failure", None)
        self.update(
            state=state, reason=reason, since=now, transitions=transitions[-_KEPT_TRANSITIONS:], **changes
        )

    def fail(self, failure: Failure) -> None:
        """Go to ``failed``."""
        self.move(RuntimeState.FAILED, failure.what, failure=failure)

    def step(self, name: str) -> None:
        """Note that a step of the boot is done."""
        _log.info("step: %s", name)
        now = time.time()
        step = Step(name=name, at=now, elapsed=now - self.status.started_at)
        self.update(steps=[*self.status.steps, step])

    async def wait(self, after: int, seconds: float) -> RuntimeStatus:
        """Return the status once its version is above ``after``, or as it is after ``seconds``."""
        deadline = time.monotonic() + seconds
        while self.status.version <= after:
            remaining = deadline - time.monotonic()
            if remaining <= 0:
                break
            try:
                await asyncio.wait_for(self._changed.wait(), remaining)
            except TimeoutError:
                break
        return self.status


def first_status(config: SupervisorConfig) -> RuntimeStatus:
    """Return the status of a runtime whose supervisor has just come up."""
    now = time.time() - own_age()
    return RuntimeStatus(
        runtime_id=config.runtime_id,
        version=0,
        state=RuntimeState.STARTING,
        reason="the runtime is booting",
        since=now,
        started_at=now,
        provider=config.provider,
        boot_mode=None,
        owner=config.owner,
        supervisor_pid=os.getpid(),
        steps=[],
        transitions=[],
        address=None,
        token_path=str(config.path / TOKEN) if config.address is None else config.token_path,
        session_dir=config.directory,
        log_dir=config.directory,
        resources=None,
        limits=None,
        failure=None,
        resize=None,
    )
