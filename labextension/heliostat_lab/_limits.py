"""The most that the administrator of a server lets its users ask for.

In ``jupyter_server_config.py``::

    c.HeliostatLimits.max_cpus = 8
    c.HeliostatLimits.max_memory = "32GiB"

They hold for what goes through the server: panel and REST. Code in a kernel runs with the user's
own rights, so the limits of the machine (cgroups, quotas) are what holds against it.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import msgspec
from traitlets import Int, Unicode, validate
from traitlets.config import Configurable

from heliostat._units import format_bytes, parse_bytes
from heliostat.exceptions import ResizeError

if TYPE_CHECKING:
    from collections.abc import Mapping

    from heliostat._messages.resizing import ResizeTarget
    from heliostat._messages.runtime import RuntimeStatus

_UNLIMITED = 0


class HeliostatLimits(Configurable):
    """Ceilings of a runtime's totals; 0, or an empty text, is none."""

    max_cpus = Int(_UNLIMITED, min=0, help="Most CPUs of a runtime; 0: as many as there are.").tag(
        config=True
    )
    max_gpus = Int(-1, min=-1, help="Most GPUs of a runtime; -1: as many as there are.").tag(config=True)
    max_memory = Unicode("", help="Most memory of a runtime, such as '32GiB'; empty: all.").tag(config=True)
    max_nodes = Int(_UNLIMITED, min=0, help="Most nodes of a runtime; 0: as many as can be had.").tag(
        config=True
    )

    @validate("max_memory")
    def _is_memory(self, proposal: Mapping[str, str]) -> str:
        text = proposal["value"]
        if text:
            parse_bytes(text)
        return text

    def ceilings(self) -> dict[str, int]:
        """The ceilings that are set, by field of ``ResizeTarget``."""
        found = {"cpus": self.max_cpus, "nodes": self.max_nodes}
        if self.max_memory:
            found["memory_bytes"] = parse_bytes(self.max_memory)
        found = {name: most for name, most in found.items() if most != _UNLIMITED}
        return found if self.max_gpus < 0 else {**found, "gpus": self.max_gpus}


def check(target: ResizeTarget, ceilings: Mapping[str, int]) -> None:
    """Raise ResizeError where ``target`` asks for more than the administrator allows."""
    for name, most in ceilings.items():
        wanted = getattr(target, name)
        if wanted is not None and wanted > most:
            show = format_bytes if name == "memory_bytes" else str
            noun = "of memory" if name == "memory_bytes" else name
            message = f"{show(wanted)} {noun} were asked for; this server allows {show(most)}."
            action = "Ask for less, or ask the administrator of this server for more."
            raise ResizeError(message, action, required=wanted, available=most)


def clamp(status: RuntimeStatus, ceilings: Mapping[str, int]) -> RuntimeStatus:
    """Return ``status`` with its limits lowered to the ceilings, for whoever offers sizes."""
    limits = status.limits
    if limits is None or not ceilings:
        return status
    lowered = {name: min(getattr(limits, name), most) for name, most in ceilings.items()}
    return msgspec.structs.replace(status, limits=msgspec.structs.replace(limits, **lowered))
