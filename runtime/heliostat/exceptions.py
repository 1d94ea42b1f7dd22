"""Everything Heliostat raises on purpose.

::

    HeliostatError
    ├── ConfigurationError      a setting or an argument cannot be used
    │   ├── RefusedCallError    a call that this object does not take
    │   └── ResizeError         a size that cannot be had
    ├── DataError               data cannot be read or converted as asked
    │   ├── UnsupportedSourceError  sources of a kind, or of kinds together, that cannot be read
    │   └── DatasetError            a dataset cannot be used as asked
    │       ├── DatasetExistError       it, or its version, is there already
    │       ├── DatasetNotExistError    it, or its version, is not there
    │       └── DatasetCannotDeleteError it could not be removed
    ├── MissingDependencyError  an optional package is not installed
    ├── RuntimeUnavailableError there is no runtime to talk to
    │   ├── BootError           it did not come up
    │   ├── AuthenticationError it is there and refuses us
    │   └── RuntimeLostError    it was there and is gone
    ├── ResizeTimeoutError      a resize did not finish in time and was rolled back
    ├── WarehouseBusyError      other processes did not let go of the warehouse in time
    ├── TaskCancelledError      work was cancelled: from the panel, by a magic, through the API
    ├── RankError               a cell failed on a rank, or a rank ended
    └── TrainingError           training failed on a worker

Each error says what failed (``message``), and what to do (``action``); further facts are in
``fields`` and readable as attributes. All of them survive pickling, since they cross
process borders, and none shows a traceback of Heliostat's own code in a notebook.
"""

from __future__ import annotations

import linecache
import os
import re
import sys
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Mapping
    from types import TracebackType

__all__ = [
    "AuthenticationError",
    "BootError",
    "ConfigurationError",
    "DataError",
    "DatasetCannotDeleteError",
    "DatasetError",
    "DatasetExistError",
    "DatasetNotExistError",
    "HeliostatError",
    "MissingDependencyError",
    "RankError",
    "RefusedCallError",
    "ResizeError",
    "ResizeTimeoutError",
    "RuntimeLostError",
    "RuntimeUnavailableError",
    "TaskCancelledError",
    "TrainingError",
    "UnsupportedSourceError",
    "WarehouseBusyError",
    "error_from_body",
]

_TRACEBACK_SWITCH = "HELIOSTAT_TRACEBACK"
_LONGEST_LINE = 80
_COLOUR = re.compile(r"\x1b\[[\d;]*m")


class HeliostatError(Exception):
    """Base of the tree.

    Parameters
    ----------
    message:
        What failed and where, in one sentence.
    action:
        What the reader can do about it, in one sentence; may be empty.
    **fields:
        Facts for programs, such as ``required`` and ``available``.
    """

    def __init__(self, message: str, action: str = "", **fields: Any) -> None:
        super().__init__(message)
        self.message = message
        self.action = action
        self.fields: dict[str, Any] = fields

    def __str__(self) -> str:
        return f"{self.message} {self.action}".strip()

    def __reduce__(self) -> tuple[Any, ...]:
        return _rebuild, (type(self), self.message, self.action, self.fields)

    def __getattr__(self, name: str) -> Any:
        fields: dict[str, Any] = self.__dict__.get("fields", {})
        if name in fields:
            return fields[name]
        message = f"{type(self).__name__!r} has no attribute {name!r}"
        raise AttributeError(message)

    def _render_traceback_(self) -> list[str]:
        """Show a sentence instead of our stack; IPython calls this.

        ``HELIOSTAT_TRACEBACK=1`` brings the full traceback back.
        """
        if whole_tracebacks():
            import traceback

            return traceback.format_exception(self)
        lines = [f"{type(self).__name__}: {self.message}"]
        if self.action:
            lines.append(self.action)
        return [*lines, *getattr(self, "__notes__", ()), *_line_of_the_cell(self.__traceback__)]


def _rebuild(
    cls: type[HeliostatError], message: str, action: str, fields: Mapping[str, Any]
) -> HeliostatError:
    return cls(message, action, **fields)


class ConfigurationError(HeliostatError, ValueError):
    """A setting or an argument cannot be used; nothing was changed."""


class RefusedCallError(ConfigurationError, RuntimeError):
    """A call that this object does not take, at all or as it is now; nothing was changed."""


class ResizeError(ConfigurationError):
    """A size that cannot be had; the runtime is as it was."""


class DataError(HeliostatError, ValueError):
    """Data cannot be read or converted as asked; names the column or the file."""


class UnsupportedSourceError(DataError, RuntimeError):
    """Sources of a kind that cannot be read, or of several kinds at once; nothing was read."""


class DatasetError(DataError):
    """A dataset cannot be used as asked; ``error_code`` says why where it is one of the three below."""


class DatasetExistError(DatasetError):
    """The dataset, or its version, is there already; ``error_code`` is ``OBJECT_ALREADY_EXISTS``."""


class DatasetNotExistError(DatasetError):
    """The dataset, or its version, is not there; ``error_code`` is ``NOT_FOUND``."""


class DatasetCannotDeleteError(DatasetError):
    """The dataset, or its version, could not be removed."""


class MissingDependencyError(HeliostatError, ImportError):
    """An optional package is not installed; ``action`` has the line that installs it."""


class RuntimeUnavailableError(HeliostatError, RuntimeError):
    """There is no runtime to talk to."""


class BootError(RuntimeUnavailableError):
    """The runtime did not come up; ``log_tail`` holds the last lines of the log."""


class AuthenticationError(RuntimeUnavailableError):
    """The runtime is there and refuses us: no token, a wrong one, or another user's."""


class RuntimeLostError(RuntimeUnavailableError):
    """The runtime was there and is gone. Variables of the kernel are not touched."""


class ResizeTimeoutError(HeliostatError, TimeoutError):
    """A resize did not finish in time; the runtime was rolled back to its former size."""


class TaskCancelledError(HeliostatError, RuntimeError):
    """Work was cancelled by somebody who may; ``task_id`` says which."""


class WarehouseBusyError(HeliostatError):
    """Other processes did not let go of the warehouse in time; ``pids`` says which. Nothing was changed."""


class RankError(HeliostatError, RuntimeError):
    """A cell failed on a rank, or a rank ended; ``ranks`` says which, ``ename`` with what."""

    def _render_traceback_(self) -> list[str]:
        """Show the ranks' own traceback, which has nothing but lines of the user."""
        lines = self.fields.get("traceback", ())
        if _colourless():
            lines = [_COLOUR.sub("", line) for line in lines]
        return [*lines, *super()._render_traceback_()]


class TrainingError(HeliostatError, RuntimeError):
    """Training failed on a worker; ``rank`` says which."""


def whole_tracebacks() -> bool:
    """Whether somebody asked to see our stack too: ``HELIOSTAT_TRACEBACK=1``."""
    return os.environ.get(_TRACEBACK_SWITCH, "") not in ("", "0")


def _line_of_the_cell(trace: TracebackType | None) -> list[str]:
    """Which line of a cell an error came through, the innermost; nothing where a cell has one line."""
    found: list[str] = []
    while trace is not None:
        name, line = trace.tb_frame.f_code.co_filename, trace.tb_lineno
        if "ipykernel_" in name or name.startswith("<ipython-input-"):
            lines = linecache.getlines(name)
            if 0 < line <= len(lines) and len(lines) > 1:
                source = lines[line - 1].strip()
                # A magic is no Python any more when it runs.
                source = source if len(source) <= _LONGEST_LINE else f"{source[:_LONGEST_LINE]}…"
                found = [f"Line {line}" + ("" if source.startswith("get_ipython()") else f": {source}")]
        trace = trace.tb_next
    return found


def _colourless() -> bool:
    """Whether the notebook or terminal was told to show no colours."""
    get = getattr(sys.modules.get("IPython.core.getipython"), "get_ipython", lambda: None)
    return str(getattr(get(), "colors", "")).lower() == "nocolor"


def error_from_body(error: str, message: str, action: str, fields: Mapping[str, Any]) -> HeliostatError:
    """Rebuild the exception that the supervisor described in an ``ErrorBody``."""
    cls = globals().get(error)
    if not (isinstance(cls, type) and issubclass(cls, HeliostatError)):
        cls = HeliostatError
    rebuilt: HeliostatError = cls(message, action)
    rebuilt.fields = dict(fields)
    return rebuilt
