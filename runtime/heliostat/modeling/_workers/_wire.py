"""What the driver and its workers say to each other, and the socket that they say it on.

Every worker connects to the driver twice: once for messages, once for raw text that the
interpreter writes when it cannot run Python any more (a crash, a dump of its stacks).
Values that users make travel as bytes of cloudpickle inside of messages, so that only who
needs them unpickles them.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Mapping

KEY_BYTES = 32


@dataclass(frozen=True)
class Address:
    """Where the driver listens, and the key that proves both ends."""

    host: str
    port: int
    key: bytes


@dataclass(frozen=True)
class Hello:
    """First message of a connection; ``token`` names the worker, ``text`` the raw connection."""

    token: str
    pid: int
    node_id: str
    host: str
    text: bool


@dataclass(frozen=True)
class Start:
    """Driver: run a function. ``payload`` is a pickled ``(function, arguments)``."""

    run: int
    rank: int
    size: int
    environment: Mapping[str, str]
    payload: bytes


@dataclass(frozen=True)
class Say:
    """Either side: a value for the other, of a run."""

    run: int
    payload: bytes


@dataclass(frozen=True)
class Gather:
    """Worker: a value that all ranks exchange. Driver: all of them, in the order of ranks."""

    run: int
    payload: bytes


@dataclass(frozen=True)
class Interrupt:
    """Driver: raise KeyboardInterrupt in the function of this run."""

    run: int


@dataclass(frozen=True)
class Stop:
    """Driver: let the function of this run end by itself when it next looks."""

    run: int


@dataclass(frozen=True)
class DumpStacks:
    """Driver: write the stacks of all threads to the text connection."""


@dataclass(frozen=True)
class Done:
    """Worker: the function returned."""

    run: int
    payload: bytes


@dataclass(frozen=True)
class Raised:
    """Worker: the function raised. ``payload`` is the pickled exception."""

    run: int
    at: float
    payload: bytes
    trace: str


@dataclass(frozen=True)
class Leaving:
    """Worker: something called ``os._exit`` with this code."""

    code: int


def dump(value: Any) -> bytes:
    """Pickle by value what the other side cannot import: functions and classes of a notebook."""
    from ray import cloudpickle

    pickled: bytes = cloudpickle.dumps(value)
    return pickled


def load(payload: bytes) -> Any:
    """Undo ``dump``."""
    from ray import cloudpickle

    return cloudpickle.loads(payload)
