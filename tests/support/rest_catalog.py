"""A small server of Iceberg's REST catalog API over a SQL catalog: what a client of tables needs."""

from __future__ import annotations

import json
import threading
from typing import TYPE_CHECKING, Any

from pyiceberg.catalog.sql import SqlCatalog
from pyiceberg.exceptions import (
    CommitFailedException,
    NamespaceAlreadyExistsError,
    NoSuchNamespaceError,
    NoSuchTableError,
    TableAlreadyExistsError,
)
from pyiceberg.schema import Schema
from pyiceberg.table import CommitTableRequest, StaticTable
from werkzeug.routing import Map, Rule
from werkzeug.serving import make_server
from werkzeug.wrappers import Request, Response

if TYPE_CHECKING:
    from collections.abc import Iterable
    from pathlib import Path

_TOKEN = "t0ken"
_TABLES = "/v1/namespaces/<namespace>/tables"
_CODES = {
    NoSuchTableError: 404,
    NoSuchNamespaceError: 404,
    NamespaceAlreadyExistsError: 409,
    TableAlreadyExistsError: 409,
    CommitFailedException: 409,
}


class RestCatalogServer:
    """Serves a directory on loopback to those who have the token."""

    def __init__(self, directory: Path) -> None:
        directory.mkdir()
        self._catalog = SqlCatalog(
            "server", uri=f"sqlite:///{directory}/rest.db", warehouse=f"file://{directory}/files"
        )
        self._lock = threading.Lock()
        self._urls = Map(
            [
                Rule("/v1/config", endpoint="config", methods=["GET"]),
                Rule("/v1/namespaces", endpoint="create_namespace", methods=["POST"]),
                Rule(_TABLES, endpoint="create", methods=["POST"]),
                Rule(f"{_TABLES}/<name>", endpoint="load", methods=["GET"]),
                Rule(f"{_TABLES}/<name>", endpoint="commit", methods=["POST"]),
                Rule(f"{_TABLES}/<name>", endpoint="drop", methods=["DELETE"]),
            ]
        )
        self._server = make_server("127.0.0.1", 0, self._answer, threaded=True)
        self._thread = threading.Thread(target=self._server.serve_forever, daemon=True)
        self._thread.start()
        name = "PYICEBERG_CATALOG__REMOTE__"
        self.environment = {
            "HELIOSTAT_CATALOG": "remote",
            f"{name}TYPE": "rest",
            f"{name}URI": f"http://127.0.0.1:{self._server.server_port}",
            f"{name}TOKEN": _TOKEN,
        }

    def stop(self) -> None:
        """End the server."""
        self._server.shutdown()
        self._thread.join(10)
        self._server.server_close()

    def _answer(self, environ: Any, start_response: Any) -> Iterable[bytes]:
        request = Request(environ)
        endpoint, values = self._urls.bind_to_environ(environ).match()
        try:
            if request.headers.get("Authorization") != f"Bearer {_TOKEN}":
                response = _failed(401, "NotAuthorizedException", "The token is not known")
            else:
                with self._lock:
                    content = getattr(self, f"_{endpoint}")(request, **values)
                response = Response(json.dumps(content), content_type="application/json")
        except tuple(_CODES) as error:
            response = _failed(_CODES[type(error)], type(error).__name__, str(error))
        return response(environ, start_response)

    def _config(self, _: Request) -> Any:
        return {"defaults": {}, "overrides": {}}

    def _create_namespace(self, request: Request) -> Any:
        namespace = request.get_json()["namespace"]
        self._catalog.create_namespace(tuple(namespace))
        return {"namespace": namespace, "properties": {}}

    def _create(self, request: Request, namespace: str) -> Any:
        asked = request.get_json()
        identifier = (namespace, asked["name"])
        if self._catalog.table_exists(identifier):
            message = f"Table {'.'.join(identifier)} exists"
            raise TableAlreadyExistsError(message)
        staged = asked.get("stage-create", False)
        make = self._catalog._create_staged_table if staged else self._catalog.create_table
        schema = Schema.model_validate(asked["schema"])
        return _described(make(identifier, schema, properties=asked.get("properties", {})))

    def _load(self, _: Request, namespace: str, name: str) -> Any:
        return _described(self._catalog.load_table((namespace, name)))

    def _commit(self, request: Request, namespace: str, name: str) -> Any:
        asked = CommitTableRequest.model_validate_json(request.get_data())
        named = StaticTable.__new__(StaticTable)  # all that is asked of it is its name
        named._identifier = (namespace, name)
        return _described(self._catalog.commit_table(named, asked.requirements, asked.updates))

    def _drop(self, _: Request, namespace: str, name: str) -> Any:
        self._catalog.drop_table((namespace, name))
        return {}


def _described(table: Any) -> dict[str, Any]:
    metadata = json.loads(table.metadata.model_dump_json())
    return {"metadata-location": table.metadata_location, "metadata": metadata, "config": {}}


def _failed(code: int, kind: str, message: str) -> Response:
    content = {"error": {"message": message, "type": kind, "code": code}}
    return Response(json.dumps(content), code, content_type="application/json")
