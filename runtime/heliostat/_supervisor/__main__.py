"""Start a supervisor: ``python -m heliostat._supervisor DIRECTORY``.

The directory is the runtime's private one; it holds the configuration and the token. Standard
output and error are the supervisor's log.
"""

from __future__ import annotations

import asyncio
import logging
import os
import sys
from pathlib import Path

from heliostat._cluster import environment
from heliostat._supervisor.config import SOCKET, TOKEN, SupervisorConfig, read_config
from heliostat._supervisor.processes import MARK, adopt_orphans

_FAREWELL_SECONDS = 0.02


async def _serve(config: SupervisorConfig) -> None:
    from heliostat._supervisor.api import serve
    from heliostat._supervisor.routes import Operations, routes
    from heliostat._supervisor.supervisor import Supervisor

    supervisor = Supervisor(config)
    server = serve(routes(Operations(supervisor)), config.path / SOCKET)
    failed = False
    try:
        await supervisor.run()
        # Whoever waits for the end of the runtime is answered before the socket closes.
        await asyncio.sleep(_FAREWELL_SECONDS)
    except Exception:
        # The log stays, so that the owner can say why.
        failed = True
        logging.getLogger(__name__).exception("the supervisor failed")
    finally:
        server.stop()
        if not failed:
            supervisor.forget()
        # Not by way of the event loop, which would wait for Ray's thread, and that may wait long.
        os._exit(1 if failed else 0)


def main(directory: Path) -> None:
    """Run until the runtime is taken down."""
    logging.basicConfig(
        level=logging.INFO, stream=sys.stderr, format="%(asctime)s %(levelname)s %(name)s: %(message)s"
    )
    logging.getLogger("tornado.access").setLevel(logging.WARNING)
    config = read_config(directory)
    adopt_orphans()
    os.environ[MARK] = config.runtime_id
    if config.address is None:
        environment.apply(environment.local_environment(directory / TOKEN), os.environ)
    else:
        token = None if config.token_path is None else Path(config.token_path)
        environment.enter_attached(token, os.environ)
    asyncio.run(_serve(config))


if __name__ == "__main__":
    main(Path(sys.argv[1]))
