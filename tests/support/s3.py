"""A real S3-compatible server for a test run, whose traffic can be counted."""

from __future__ import annotations

import contextlib
import json
import threading
import urllib.request
import uuid
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Iterator


class S3Server:
    """moto's server in a thread, with one bucket."""

    bucket = "heliostat-test"

    def __init__(self) -> None:
        import pyarrow.fs as pa_fs
        from moto.moto_server.werkzeug_app import DomainDispatcherApplication, create_backend_app
        from werkzeug.serving import make_server

        self._sent = 0
        self._requests: list[tuple[str, str]] = []
        app = DomainDispatcherApplication(create_backend_app)
        self._server = make_server("127.0.0.1", 0, self._counting(app), threaded=True)
        self._thread = threading.Thread(target=self._server.serve_forever, daemon=True)
        self._thread.start()
        self.endpoint = f"http://127.0.0.1:{self._server.server_port}"
        self.environment = {
            "AWS_ENDPOINT_URL": self.endpoint,
            "AWS_REGION": "us-east-1",
            "AWS_ACCESS_KEY_ID": "key",
            "AWS_SECRET_ACCESS_KEY": "secret",
        }
        maker = pa_fs.S3FileSystem(
            endpoint_override=self.endpoint,
            region="us-east-1",
            access_key="key",
            secret_key="secret",
            allow_bucket_creation=True,
        )
        maker.create_dir(self.bucket)

    def _counting(self, app: Any) -> Any:
        def application(environ: Any, start_response: Any) -> Iterator[bytes]:
            self._requests.append((environ["REQUEST_METHOD"], environ["PATH_INFO"]))
            for chunk in app(environ, start_response):
                self._sent += len(chunk)
                yield chunk

        return application

    def bytes_sent(self) -> int:
        """How many bytes of bodies were sent so far."""
        return self._sent

    def objects_fetched(self, below: str = "/") -> int:
        """How often content of objects with ``below`` in their paths was asked for so far.

        Listings, and questions for versions, do not count.
        """
        return sum(
            method == "GET" and below in path.removeprefix(f"/{self.bucket}")
            for method, path in self._requests
        )

    def identity(self, *statements: tuple[str, str]) -> dict[str, str]:
        """Make a user who may do these actions, each with the objects below a prefix; gives its variables."""
        import boto3

        iam = boto3.client(
            "iam",
            endpoint_url=self.endpoint,
            region_name="us-east-1",
            aws_access_key_id="key",
            aws_secret_access_key="secret",
        )
        name = uuid.uuid4().hex
        allowed = [
            {"Effect": "Allow", "Action": action, "Resource": f"arn:aws:s3:::{self.bucket}{below}"}
            for action, below in statements
        ]
        policy = json.dumps({"Version": "2012-10-17", "Statement": allowed})
        iam.create_user(UserName=name)
        iam.put_user_policy(UserName=name, PolicyName="given", PolicyDocument=policy)
        key = iam.create_access_key(UserName=name)["AccessKey"]
        return {
            **self.environment,
            "AWS_ACCESS_KEY_ID": key["AccessKeyId"],
            "AWS_SECRET_ACCESS_KEY": key["SecretAccessKey"],
        }

    @contextlib.contextmanager
    def asking_for_credentials(self) -> Iterator[None]:
        """Check keys, signatures and policies for the length of a block, as S3 does."""
        self._count_without_check(b"0")
        try:
            yield
        finally:
            self._count_without_check(b"inf")

    def _count_without_check(self, count: bytes) -> None:
        plain = {"Content-Type": "text/plain"}
        request = urllib.request.Request(f"{self.endpoint}/moto-api/reset-auth", data=count, headers=plain)
        with urllib.request.urlopen(request, timeout=10) as answer:
            assert answer.status == 200

    def stop(self) -> None:
        """End the server."""
        self._server.shutdown()
        self._thread.join(10)
        self._server.server_close()
