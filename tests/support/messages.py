"""Messages as a supervisor sends them, where hardly anything of them matters."""

from __future__ import annotations

from heliostat._messages.cluster import Limits, Provider
from heliostat._messages.runtime import Owner, RuntimeState, RuntimeStatus
from heliostat._messages.usage import HostUse, Sample

GIB = 2**30


def ready() -> RuntimeStatus:
    """Return the status of a runtime at rest."""
    return RuntimeStatus(
        runtime_id="r1",
        version=1,
        state=RuntimeState.READY,
        reason="",
        since=1.0,
        started_at=1.0,
        provider=Provider.LOCAL,
        boot_mode=None,
        owner=Owner(pid=1, started_at=1.0),
        supervisor_pid=1,
        steps=[],
        transitions=[],
        address=None,
        token_path=None,
        session_dir="",
        log_dir="",
        resources=None,
        limits=Limits(cpus=8, gpus=1, memory_bytes=16 * GIB, object_store_bytes=4 * GIB, nodes=64),
        failure=None,
        resize=None,
    )


def sample(at: float) -> Sample:
    """Return a reading taken at ``at``."""
    host = HostUse(
        cpu_percent=40.0,
        cpus=2.0,
        memory_used_bytes=1,
        memory_limit_bytes=2,
        shm_used_bytes=None,
        shm_limit_bytes=None,
        disk_used_bytes=None,
        disk_limit_bytes=None,
    )
    return Sample(at=at, host=host, processes=[], gpus=None, ray=None)
