"""An Arrow filesystem with the cache before it.

Streams are cached as whole files. Files that are read here and there, as Parquet is, are cached
by the parts that are read, so that columns nobody asks for are not fetched.
"""

from __future__ import annotations

import contextlib
import hashlib
import io
import pickle
import time
from dataclasses import dataclass
from functools import partial
from typing import IO, TYPE_CHECKING, Any

import pyarrow as pa
import pyarrow.fs as pa_fs

from heliostat._file_cache._config import FileCacheConfig
from heliostat._file_cache._store import Store, TooLargeError, entry_key
from heliostat.exceptions import ConfigurationError, DataError

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

_CHUNK = 8 << 20
_ATTEMPTS = 3
_TICK_NS = 2_000_000_000


def cached_filesystem(
    filesystem: Any, use_file_cache: bool | None = None, file_cache_config: Mapping[str, Any] | None = None
) -> Any:
    """Put the node's file cache before a filesystem.

    Parameters
    ----------
    filesystem:
        A ``pyarrow.fs.FileSystem``.
    use_file_cache:
        None: for what is not on this machine's disk. True: for that too (it may be mounted).
    file_cache_config:
        Settings, see ``FileCacheConfig``.

    Raises
    ------
    ConfigurationError
        A setting cannot be used, or there is no directory for the cache that was asked for. A cache
        that nobody asked for is left out then.
    """
    config = FileCacheConfig.of(file_cache_config)
    wanted = filesystem.type_name != "local" if use_file_cache is None else use_file_cache
    if not wanted:
        return filesystem
    store = Store(config)
    if use_file_cache or file_cache_config is not None:
        _ = store.directory
    return pa_fs.PyFileSystem(_Cached(filesystem, store))


class _ChangedError(Exception):
    """The file changed while it was read."""


class _SourceError(Exception):
    """The source failed, and not the cache."""

    def __init__(self, reason: OSError) -> None:
        super().__init__(str(reason))
        self.reason = reason


@dataclass(frozen=True)
class _Opened:
    """A file of the source, at the version that it has."""

    path: str
    version: str | None
    source: Any


class _Cached(pa_fs.FileSystemHandler):  # type: ignore[misc]
    """Everything but opening for reading is the filesystem's own."""

    def __init__(self, filesystem: Any, store: Store) -> None:
        self.filesystem = filesystem
        self.store = store
        self._identity = _identity(filesystem)

    def __reduce__(self) -> tuple[Any, ...]:
        return _Cached, (self.filesystem, self.store)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, _Cached) and (self.filesystem, self.store) == (other.filesystem, other.store)

    def __ne__(self, other: object) -> bool:
        return not self == other

    def __hash__(self) -> int:
        return hash((self._identity, self.store))

    def open_input_stream(self, path: str) -> Any:
        for _ in range(_ATTEMPTS):
            opened = self._open(path)
            if opened.version is None:
                return opened.source
            file = self._part(opened, 0, opened.source.size(), name="whole")
            if file is not None:
                return pa.PythonFile(file, mode="r")
        raise _changing(path)

    def open_input_file(self, path: str) -> Any:
        opened = self._open(path)
        return opened.source if opened.version is None else pa.PythonFile(_Parts(self, opened), mode="r")

    def read_part(self, opened: _Opened, start: int, length: int) -> bytes:
        """Read a part of a file, from the cache if it is there."""
        file = self._part(opened, start, length, name=f"{start}+{length}")
        if file is None:
            raise _changing(opened.path)
        with contextlib.closing(file):
            content: bytes = file.read()
        return content

    def _open(self, path: str) -> _Opened:
        # Asks the source with our own credentials: a file that may not be read is refused here.
        source = self.filesystem.open_input_file(path)
        return _Opened(path, self._version(path, source), source)

    def _part(self, opened: _Opened, start: int, length: int, *, name: str) -> Any:
        """Open a part in the cache, fetched if need be; None if the file changed meanwhile."""
        key = entry_key(self._identity, opened.path, opened.version or "", name)

        def fill(file: IO[bytes]) -> None:
            try:
                for chunk in _chunks(opened, start, length):
                    file.write(chunk)
                now = self._open(opened.path)
            except OSError as error:
                raise _SourceError(error) from error
            if now.version != opened.version:
                raise _ChangedError

        try:
            return self.store.get(key) or self.store.put(key, length, fill)
        except _ChangedError:
            return None
        except _SourceError as error:
            raise error.reason from None
        except (ConfigurationError, TooLargeError, OSError):
            # No directory on this node, no room, or a disk that fails: what is asked for is the file.
            return io.BytesIO(b"".join(_chunks(opened, start, length)))

    def _version(self, path: str, source: Any) -> str | None:
        """What changes when the file does; None when that cannot be told."""
        size = source.size()
        tag = (source.metadata() or {}).get("ETag")
        if tag:
            return f"{size}:{tag.decode()}"
        changed = self.filesystem.get_file_info(path).mtime_ns
        # It could change once more within the tick of the clock that its time is told in.
        if changed is None or time.time_ns() - changed < _TICK_NS:
            return None
        return f"{size}@{changed}"

    def get_type_name(self) -> str:
        return str(self.filesystem.type_name)

    def get_file_info(self, paths: Any) -> Any:
        return self.filesystem.get_file_info(paths)

    def get_file_info_selector(self, selector: Any) -> Any:
        return self.filesystem.get_file_info(selector)

    def normalize_path(self, path: str) -> str:
        return str(self.filesystem.normalize_path(path))

    def create_dir(self, path: str, recursive: bool) -> None:
        self.filesystem.create_dir(path, recursive=recursive)

    def delete_dir(self, path: str) -> None:
        self.filesystem.delete_dir(path)

    def delete_dir_contents(self, path: str, missing_dir_ok: bool = False) -> None:
        self.filesystem.delete_dir_contents(path, missing_dir_ok=missing_dir_ok)

    def delete_root_dir_contents(self) -> None:
        self.filesystem.delete_dir_contents("/", accept_root_dir=True)

    def delete_file(self, path: str) -> None:
        self.filesystem.delete_file(path)

    def move(self, src: str, dest: str) -> None:
        self.filesystem.move(src, dest)

    def copy_file(self, src: str, dest: str) -> None:
        self.filesystem.copy_file(src, dest)

    def open_output_stream(self, path: str, metadata: Any) -> Any:
        return self.filesystem.open_output_stream(path, metadata=metadata)

    def open_append_stream(self, path: str, metadata: Any) -> Any:
        return self.filesystem.open_append_stream(path, metadata=metadata)


class _Parts(io.RawIOBase):
    """A file at one version, read by parts that the cache keeps."""

    def __init__(self, cached: _Cached, opened: _Opened) -> None:
        self._part = partial(cached.read_part, opened)
        self._size: int = opened.source.size()
        self._at = 0

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def tell(self) -> int:
        return self._at

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        self._at = offset + {io.SEEK_SET: 0, io.SEEK_CUR: self._at, io.SEEK_END: self._size}[whence]
        return self._at

    def read(self, size: int | None = -1) -> bytes:
        left = max(self._size - self._at, 0)
        length = left if size is None or size < 0 else min(size, left)
        content = self._part(self._at, length) if length else b""
        self._at += length
        return bytes(content)


def _chunks(opened: _Opened, start: int, length: int) -> Iterator[bytes]:
    opened.source.seek(start)
    left = length
    while left:
        chunk = opened.source.read(min(left, _CHUNK))
        if not chunk:
            message = f"{opened.path} ended {left} bytes early"
            raise OSError(message)
        yield chunk
        left -= len(chunk)


def _changing(path: str) -> DataError:
    message = f"{path} changes while it is read."
    return DataError(message, "Read it when it is written.", file=path)


def _identity(filesystem: Any) -> str:
    """Tell filesystems apart whose paths may be the same. No secret is in it."""
    if filesystem.type_name == "local":
        return "local"
    if filesystem.type_name == "s3":
        settings: dict[str, Any] = filesystem.__reduce__()[1][0]
        return f"s3 {settings.get('scheme')} {settings.get('endpoint_override')}"
    return hashlib.sha256(pickle.dumps(filesystem)).hexdigest()
