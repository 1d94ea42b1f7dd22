"""How large a value is when it travels, without copying its arrays."""

from __future__ import annotations

import pickle
from typing import Any

from heliostat.exceptions import DataError

__all__ = ["measure"]


class _Counter:
    """A file that only counts what is written to it."""

    def __init__(self) -> None:
        self.total = 0

    def write(self, data: Any) -> int:
        size = memoryview(data).nbytes
        self.total += size
        return size


def measure(value: Any, name: str) -> int:
    """Bytes that ``value`` takes when it is sent.

    Raises
    ------
    DataError
        It cannot be sent: it has no form that another process could read.
    """
    from ray import cloudpickle

    nbytes = getattr(value, "nbytes", None)
    if isinstance(nbytes, int) and type(value).__module__.partition(".")[0] in ("numpy", "torch", "pyarrow"):
        return nbytes
    counter = _Counter()
    try:
        pickler = cloudpickle.CloudPickler(counter, protocol=5, buffer_callback=counter.write)
        pickler.dump(value)
    except (TypeError, AttributeError, pickle.PicklingError, NotImplementedError) as error:
        message = f"{name} ({type(value).__name__}) cannot be sent to another process: {error}."
        raise DataError(message, "Send what it is made of, and build it there.", name=name) from error
    return counter.total
