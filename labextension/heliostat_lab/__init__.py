"""The Jupyter server extension: finds the runtime behind a kernel and relays what it says.

It holds no state. Jupyter loads it through ``jupyter_server_config.d``; the functions below
are the hooks that Jupyter looks for, and nothing else is public.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from jupyter_server.serverapp import ServerApp

__all__: list[str] = []


def _jupyter_labextension_paths() -> list[dict[str, str]]:
    return [{"src": "../dist", "dest": "heliostat"}]


def _jupyter_server_extension_points() -> list[dict[str, str]]:
    return [{"module": "heliostat_lab"}]


def _load_jupyter_server_extension(server: ServerApp) -> None:
    from heliostat_lab._handlers import handlers
    from heliostat_lab._limits import HeliostatLimits

    routes = handlers(server.web_app.settings["base_url"], HeliostatLimits(parent=server))
    # Tornado's own types are not complete here.
    server.web_app.add_handlers(".*$", routes)  # type: ignore[no-untyped-call]
