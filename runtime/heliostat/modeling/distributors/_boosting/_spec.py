"""What to train, as both libraries' plans say it."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Mapping


@dataclass(frozen=True)
class Spec:
    """A plan. ``options`` has what the library's ``train`` takes beside its parameters."""

    rounds: int
    params: Mapping[str, Any]
    objective: Any
    classifier: bool
    options: Mapping[str, Any] = field(default_factory=dict)
