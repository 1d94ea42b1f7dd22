"""Stands in for Ray's runtime-environment agent until somebody needs it.

The real agent costs 100 MB and two seconds of processor time at every boot, and most
notebooks never use a runtime environment. This binds the port, publishes it where the raylet
looks, and becomes the real agent on the first contact. Run with ``python -S -E`` by path, so
only the standard library is imported. The raylet is gone when its pipe, our stdin, closes.
"""

from __future__ import annotations

import os
import select
import socket
import sys
from pathlib import Path

_PORT = "--runtime-env-agent-port="


def _option(arguments: list[str], name: str) -> str:
    prefix = f"--{name}="
    return next(a.removeprefix(prefix) for a in arguments if a.startswith(prefix))


def _publish(port: int, session: Path, node_id: str) -> None:
    written = session / f".runtime_env_agent_port.{os.getpid()}"
    written.write_text(str(port))
    written.rename(session / f"runtime_env_agent_port_{node_id}")


def main(python: str, arguments: list[str]) -> None:
    """Wait for the first contact, then run ``python`` with ``arguments`` on the same port."""
    with socket.socket() as listener:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind((_option(arguments, "node-ip-address"), 0))
        listener.listen(16)
        port = listener.getsockname()[1]
        _publish(port, Path(_option(arguments, "session-dir")), _option(arguments, "node-id"))
        while True:
            ready, _, _ = select.select([listener, sys.stdin.fileno()], [], [])
            if sys.stdin.fileno() in ready and not os.read(sys.stdin.fileno(), 1):
                return
            if listener in ready:
                break
    real = [f"{_PORT}{port}" if a.startswith(_PORT) else a for a in arguments]
    os.execv(python, [python, "-u", *real])  # noqa: S606 - that is the point


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2:])
