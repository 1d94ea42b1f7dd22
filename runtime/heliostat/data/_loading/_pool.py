"""The threads that decode: the one place that starts and ends them."""

from __future__ import annotations

import os
from collections import deque
from concurrent.futures import Future, ThreadPoolExecutor
from typing import TYPE_CHECKING, TypeVar

if TYPE_CHECKING:
    from collections.abc import Callable, Generator, Iterable

Item = TypeVar("Item")
Result = TypeVar("Result")


def usable_cpus() -> int:
    """CPUs that this process may run on."""
    return len(os.sched_getaffinity(0))


def in_order(
    work: Callable[[Item], Result], items: Iterable[Item], threads: int, ahead: int
) -> Generator[Result, None, None]:
    """Apply ``work`` to ``items`` in threads and yield the results in the order of ``items``.

    At most ``ahead`` results are being made or wait at a time, beside the one that the caller
    holds. What ``work`` raises is raised here, in its place. The threads end when the iterator is
    used up, closed or dropped, also by an interrupt; what they are doing then they finish, and
    nothing else is begun.
    """
    pending: deque[Future[Result]] = deque()
    executor = ThreadPoolExecutor(threads, thread_name_prefix="heliostat-decode")
    source = iter(items)
    try:
        for item in source:
            pending.append(executor.submit(work, item))
            if len(pending) >= ahead:
                break
        while pending:
            result = pending.popleft().result()
            for item in source:
                pending.append(executor.submit(work, item))
                break
            yield result
            del result
    finally:
        for future in pending:
            future.cancel()
        executor.shutdown(wait=False, cancel_futures=True)
