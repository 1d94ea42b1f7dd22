"""REST endpoints of the server extension, all below ``heliostat/api``.

==========================  =======================================================
``GET runtimes``            manifests of the living runtimes of this server's kernels
``GET runtimes/KERNEL_ID``  status and latest sample of one (``RuntimeView``)
``GET version``             versions of the package and of the API (``VersionInfo``)
==========================  =======================================================

Every answer with a status of 400 or more that is made here is an ``ErrorBody``. Polling these
does not count as use of the server: an idle server still shuts down when told to.
"""

from __future__ import annotations

import asyncio
import time
from typing import Any

import msgspec
from jupyter_server.base.handlers import APIHandler
from jupyter_server.utils import url_path_join
from tornado import web

import heliostat
from heliostat._messages import API_VERSION, ErrorBody, Manifest
from heliostat._supervisor.manifest import list_manifests
from heliostat.exceptions import (
    AuthenticationError,
    HeliostatError,
    RuntimeLostError,
    RuntimeUnavailableError,
)
from heliostat_lab._messages import RuntimeView, VersionInfo
from heliostat_lab._supervisor_client import SupervisorClient

_STATUS_OF: tuple[tuple[type[HeliostatError], int], ...] = (
    (AuthenticationError, 403),
    (RuntimeLostError, 502),
    (RuntimeUnavailableError, 504),
)


class _Handler(APIHandler):
    # Read by APIHandler: the panel's polling must not keep an idle server alive.
    _track_activity = False

    def _answer(self, message: Any) -> None:
        self.finish(msgspec.json.encode(message))

    def _refuse(self, status: int, error: HeliostatError) -> None:
        self.set_status(status)
        name = type(error).__name__
        self._answer(ErrorBody(error=name, message=error.message, action=error.action, fields=error.fields))

    async def _manifests(self) -> dict[str, Manifest]:
        try:
            found = await asyncio.to_thread(list_manifests)
        except HeliostatError:
            # Where nothing can be written there is no runtime either.
            found = []
        ours = set(self.kernel_manager.list_kernel_ids())
        # Oldest first: where a kernel was restarted, the newest runtime counts.
        return {m.owner.kernel_id: m for m in found if m.owner.kernel_id in ours}


class RuntimesHandler(_Handler):
    """Lists the runtimes of this server's kernels."""

    @web.authenticated
    async def get(self) -> None:
        """Answer with a list of manifests."""
        self._answer(list((await self._manifests()).values()))


class RuntimeHandler(_Handler):
    """Tells about the runtime of one kernel."""

    @web.authenticated
    async def get(self, kernel_id: str) -> None:
        """Answer with a ``RuntimeView``, or 404 when there is no such kernel or runtime."""
        if kernel_id not in self.kernel_manager:
            self._refuse(404, RuntimeUnavailableError(f"This server has no kernel {kernel_id}."))
            return
        manifest = (await self._manifests()).get(kernel_id)
        if manifest is None:
            message = f"Kernel {kernel_id} has no runtime."
            action = "Choose the Heliostat kernel, or run `%load_ext heliostat`."
            self._refuse(404, RuntimeUnavailableError(message, action))
            return
        client = SupervisorClient(manifest)
        try:
            at = time.time()
            view = RuntimeView(at=at, status=await client.status(), sample=await client.latest_sample(at))
        except HeliostatError as error:
            status = next((code for kind, code in _STATUS_OF if isinstance(error, kind)), 502)
            self._refuse(status, error)
        else:
            self._answer(view)
        finally:
            client.close()


class VersionHandler(_Handler):
    """Tells which versions are spoken here."""

    @web.authenticated
    def get(self) -> None:
        """Answer with a ``VersionInfo``."""
        self._answer(VersionInfo(version=heliostat.__version__, api=API_VERSION))


def handlers(base_url: str) -> list[tuple[str, type[APIHandler]]]:
    """Routes of the extension below the server's base URL."""
    root = url_path_join(base_url, "heliostat", "api")
    return [
        (url_path_join(root, "runtimes"), RuntimesHandler),
        (url_path_join(root, "runtimes", r"([\w-]+)"), RuntimeHandler),
        (url_path_join(root, "version"), VersionHandler),
    ]
