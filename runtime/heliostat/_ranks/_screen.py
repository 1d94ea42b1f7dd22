"""Where output of ranks is shown: in the cell that asked for it, or as text.

In a kernel, output carries the header of the cell that it belongs to. On the main thread that
is the running cell; a thread that shows output of an earlier cell pins it with :func:`pinned`.
"""

from __future__ import annotations

import contextlib
import sys
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Iterator

__all__ = ["Screen", "cell_header", "pinned"]


class Screen:
    """Shows text and objects through IPython, or as plain text where there is none."""

    def __init__(self) -> None:
        self._shell = _shell()

    def write(self, stream: str, text: str) -> None:
        """Write text to ``stdout`` or ``stderr``, at once."""
        target = sys.stderr if stream == "stderr" else sys.stdout
        target.write(text)
        target.flush()

    def show(self, content: dict[str, Any], *, update: bool = False) -> None:
        """Show an object in the richest form that the front end knows."""
        data = content.get("data", {})
        if self._shell is None or not hasattr(self._shell, "kernel"):
            self.write("stdout", f"{data.get('text/plain', '<no text>')}\n")
            return
        sys.stdout.flush()
        self._shell.display_pub.publish(
            data=data,
            metadata=content.get("metadata", {}),
            transient=content.get("transient", {}),
            update=update,
        )

    def clear(self, *, wait: bool) -> None:
        """Clear what the cell shows."""
        if self._shell is not None:
            self._shell.display_pub.clear_output(wait=wait)


def _shell() -> Any:
    if "IPython" not in sys.modules:
        return None
    from IPython.core.getipython import get_ipython

    return get_ipython()


def cell_header() -> Any:
    """Header of the cell that runs now, for :func:`pinned`; ``None`` outside of a kernel."""
    shell = _shell()
    get = getattr(shell, "get_parent", None)
    return get() if get is not None else None


@contextlib.contextmanager
def pinned(header: Any) -> Iterator[None]:
    """Have everything that this thread shows appear under the cell of ``header``."""
    shell = _shell()
    pin = getattr(shell, "set_thread_parent", None)
    if header is None or pin is None:
        yield
        return
    token = pin(header)
    try:
        yield
    finally:
        shell.reset_thread_parent(token)
