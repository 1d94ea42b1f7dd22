"""Jupyter's messages on the wire, as the group writes and reads them.

What ``jupyter_client``'s own session does, without what a group does not need: CurveZMQ keeps
others from sending a message twice, and nobody reads the dates.
"""

from __future__ import annotations

import hashlib
import hmac
import json
import uuid
from typing import TYPE_CHECKING, Any

import msgspec

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

__all__ = ["Request", "Wire"]

_DELIMITER = b"<IDS|MSG>"
_EMPTY = b"{}"
_SESSION = uuid.uuid4().hex
_encode = msgspec.json.Encoder().encode
_decode = msgspec.json.Decoder().decode


class Request:
    """A request to one rank. Ranks that are asked the same share what was encoded of it."""

    def __init__(self, kind: str, content: bytes, metadata: bytes = _EMPTY) -> None:
        self.id = uuid.uuid4().hex
        header = {
            "msg_id": self.id,
            "msg_type": kind,
            "username": "heliostat",
            "session": _SESSION,
            "version": "5.3",
        }
        self.parts = [_encode(header), _EMPTY, metadata, content]

    @classmethod
    def to_each(
        cls, count: int, kind: str, content: Mapping[str, Any], metadata: Mapping[str, Any] | None = None
    ) -> list[Request]:
        """Make as many requests of the same sort."""
        encoded, more = _encode(content), _encode(metadata or {})
        return [cls(kind, encoded, more) for _ in range(count)]


class Wire:
    """Signs and checks the messages of one rank."""

    def __init__(self, key: str | bytes) -> None:
        self._code = hmac.new(key.encode() if isinstance(key, str) else key, digestmod=hashlib.sha256)

    def frames(self, request: Request) -> list[bytes]:
        """What is to be sent."""
        return [_DELIMITER, self._sign(request.parts), *request.parts]

    def read(self, frames: Sequence[bytes]) -> dict[str, Any]:
        """Read what arrived. Raises ValueError for what is no message or not signed with the key."""
        start = frames.index(_DELIMITER) + 1
        signature, parts = frames[start], frames[start + 1 : start + 5]
        if len(parts) < 4 or not hmac.compare_digest(signature, self._sign(parts)):
            message = "not a message that was signed with the key"
            raise ValueError(message)
        header, parent, metadata, content = map(_read, parts)
        return {
            "msg_type": header["msg_type"],
            "parent": parent.get("msg_id", ""),
            "metadata": metadata,
            "content": content,
        }

    def _sign(self, parts: Sequence[bytes]) -> bytes:
        code = self._code.copy()
        for part in parts:
            code.update(part)
        return code.hexdigest().encode()


def _read(part: bytes) -> Any:
    try:
        return _decode(part)
    except (msgspec.DecodeError, UnicodeDecodeError):
        # Text of ranks may hold bytes that are none in UTF-8.
        return json.loads(part.decode("utf-8", "replace"))
