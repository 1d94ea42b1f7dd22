"""``heliostat run notebook.ipynb``: execute a notebook headless and keep what it produced.

The outputs are saved whatever ends the run: a failing cell, a dead kernel, Ctrl-C. The kernel
is the one of this environment, whichever kernelspecs are installed.
"""

from __future__ import annotations

import asyncio
import os
import re
import signal
import sys
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Any

import zmq
from jupyter_client.kernelspec import KernelSpec, KernelSpecManager
from jupyter_client.manager import AsyncKernelManager
from nbclient import NotebookClient
from nbclient.exceptions import CellControlSignal, CellTimeoutError, DeadKernelError

from heliostat.exceptions import ConfigurationError, DataError

if TYPE_CHECKING:
    from nbformat import NotebookNode

__all__ = ["run_notebook"]

KERNEL_NAME = "heliostat"
_KERNEL = [sys.executable, "-Xfrozen_modules=off", "-m", "heliostat_kernel", "-f", "{connection_file}"]
_ANSI = re.compile(r"\x1b\[[0-9;]*[A-Za-z]")


class _OwnKernel(KernelSpecManager):
    """Knows one kernel: ours, run by this very Python."""

    def get_kernel_spec(self, kernel_name: str) -> KernelSpec:
        return KernelSpec(
            argv=_KERNEL,
            display_name="Heliostat",
            language="python",
            name=kernel_name,
            metadata={"supported_encryption": ["curve"]},
        )


class _StoppedError(Exception):
    """Raised between cells after Ctrl-C."""


class _Run:
    """One execution: the client, and how Ctrl-C reaches the kernel."""

    def __init__(self, notebook: NotebookNode, directory: Path, timeout: float | None) -> None:
        self.interrupted = False
        self._manager = AsyncKernelManager(kernel_name=KERNEL_NAME, kernel_spec_manager=_OwnKernel())
        if "transport_encryption" in AsyncKernelManager.class_trait_names() and zmq.has("curve"):
            self._manager.transport_encryption = "auto"
        self._client = NotebookClient(
            notebook,
            km=self._manager,
            timeout=timeout,
            resources={"metadata": {"path": str(directory)}},
            on_notebook_start=self._take_signals,
            on_cell_execute=self._stop_between_cells,
        )

    def execute(self) -> str | None:
        """Run every cell; return why it ended early, or ``None``."""
        try:
            asyncio.run(self._client.async_execute(cleanup_kc=True))
        except CellTimeoutError as error:
            return f"A cell took longer than --timeout allows. {_first_line(error)}"
        except DeadKernelError:
            return "Interrupted twice; the kernel was ended." if self.interrupted else "The kernel died."
        except CellControlSignal as error:
            return _plain(str(error))
        except _StoppedError:
            return "Interrupted; the cells that were left did not run."
        except RuntimeError as error:
            return f"The kernel did not start: {_first_line(error)}"
        return "Interrupted." if self.interrupted else None

    def _take_signals(self, **_: Any) -> None:
        """Replace nbclient's handlers, which end the kernel and lose the cell's traceback."""
        loop = asyncio.get_running_loop()
        for signum in (signal.SIGINT, signal.SIGTERM):
            loop.add_signal_handler(signum, self._on_signal)

    def _stop_between_cells(self, **_: Any) -> None:
        if self.interrupted:
            raise _StoppedError

    def _on_signal(self) -> None:
        """Interrupt the cell; the second time, end the kernel."""
        end, interrupt = self._manager.shutdown_kernel, self._manager.interrupt_kernel
        act = end(now=True) if self.interrupted else interrupt()
        self.interrupted = True
        self._pending = asyncio.ensure_future(act)


def run_notebook(source: Path, output: Path, timeout: float | None) -> int:
    """Execute ``source``, write it with its outputs to ``output``, and print its last result.

    Parameters
    ----------
    timeout:
        Seconds that a single cell may take; ``None`` for no limit.

    Returns
    -------
    int
        0, 1 when a cell failed or the kernel died, 130 after Ctrl-C.

    Raises
    ------
    DataError
        ``source`` is not a notebook.
    ConfigurationError
        ``output`` cannot be written; nothing was executed.
    """
    notebook = _read(source)
    _require_writable(output)
    run = _Run(notebook, source.resolve().parent, timeout)
    problem: str | None = "The run was cut short."
    try:
        problem = run.execute()
    finally:
        where = _save(notebook, output)
        _report(notebook, problem, where)
    if run.interrupted:
        return 130
    return 0 if problem is None else 1


def _read(source: Path) -> NotebookNode:
    import nbformat

    try:
        notebook: NotebookNode = nbformat.read(source, as_version=4)  # type: ignore[no-untyped-call]
    except (OSError, ValueError, AttributeError, KeyError) as error:
        message = f"{source} is not a readable notebook: {_first_line(error)}"
        raise DataError(message, "Check that it opens in JupyterLab.") from error
    return notebook


def _require_writable(output: Path) -> None:
    """Find out before an hour's work and not after it."""
    if not output.parent.is_dir() or not os.access(output.parent, os.W_OK):
        message = f"{output} cannot be written: {output.parent} is not a directory that you may write to."
        raise ConfigurationError(message, "Name another place with --output.")


def _save(notebook: NotebookNode, output: Path) -> Path:
    """Write the notebook whole or not at all; where the place fails, to a temporary one."""
    import nbformat

    text: str = nbformat.writes(notebook)  # type: ignore[no-untyped-call]
    content = text.rstrip("\n") + "\n"
    try:
        return _replace(output, content)
    except OSError as error:
        rescue = Path(tempfile.mkdtemp(prefix="heliostat-run-")) / output.name
        print(f"heliostat: {output} could not be written ({error.strerror}).", file=sys.stderr)
        return _replace(rescue, content)


def _replace(path: Path, content: str) -> Path:
    mode = path.stat().st_mode & 0o777 if path.exists() else 0o644
    written = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        written.write_text(content, encoding="utf-8")
        written.chmod(mode)
        written.replace(path)
    finally:
        written.unlink(missing_ok=True)
    return path


def _report(notebook: NotebookNode, problem: str | None, where: Path) -> None:
    if problem is None:
        text = _last_text(notebook)
        if text:
            print(text)
    else:
        print(problem, file=sys.stderr)
    print(f"Executed notebook: {where}")


def _last_text(notebook: NotebookNode) -> str:
    """Return what the last code cell printed and resulted in, as plain text."""
    cells = [cell for cell in notebook.cells if cell.cell_type == "code"]
    parts = []
    for shown in cells[-1].outputs if cells else []:
        if shown.output_type == "stream":
            parts.append(shown.text)
        elif "text/plain" in shown.get("data", {}):
            parts.append(shown.data["text/plain"])
    return _plain("\n".join(part.rstrip("\n") for part in parts))


def _plain(text: str) -> str:
    return text if sys.stdout.isatty() else _ANSI.sub("", text)


def _first_line(error: BaseException) -> str:
    return (str(error) or type(error).__name__).strip().splitlines()[0]
