"""What became of the latest ``%%sql``: kept as ``_last_query``, also when it failed."""

from __future__ import annotations

import contextlib
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING

from heliostat import _progress as progress

if TYPE_CHECKING:
    from collections.abc import Iterator

__all__ = ["LastQuery"]


@dataclass
class LastQuery:
    """A query as it was written, where it went, and how it ended."""

    sql: str
    connection: str
    state: str = "running"
    """``running``, ``done``, ``failed`` or ``interrupted``."""
    error: str = ""
    seconds: float | None = None
    task_id: str | None = None
    """Under which it is in ``%jobs``; ``None`` where nothing was read yet."""

    @contextlib.contextmanager
    def noted(self) -> Iterator[None]:
        """Note how the block ends."""
        begun = time.time()
        try:
            yield
        except BaseException as error:
            self.state = "interrupted" if isinstance(error, KeyboardInterrupt) else "failed"
            self.error = f"{type(error).__name__}: {error}".rstrip(": ")
            raise
        else:
            self.state = "done"
        finally:
            self.seconds = round(time.time() - begun, 3)
            ran = [task.snapshot for task in progress.tasks() if task.snapshot.kind == "sql"]
            self.task_id = next((each.task_id for each in reversed(ran) if each.started_at >= begun), None)
